"""A stage stops early where its labeler cannot work, and its message names what to set."""

import json
import math
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from rlaif.config import EngineSection, ModelSection
from rlaif.errors import ModelError
from rlaif.inference.engine import PROMPT_TOO_LONG, Completion, Engine, Request, json_text
from rlaif.inference.first_answers import (
    LEAST,
    QUESTIONS,
    CheckedEngine,
    open_checked,
    truncation_detail,
)
from tests.support.doubles import ScriptedEngine

SCHEMA = {"type": "object", "required": ["claims"]}
CLAIMS = json.dumps({"claims": [{"claim": "There is a dog.", "question": "Is there a dog?"}]})
YES, NO = 1, 3  # one token of each, see ScriptedEngine


class WordsEngine(Engine):
    """Answers first words by `mass` (None: refused) and everything else by `text`."""

    def __init__(self, mass: Callable[[int], float | None], text: str = "", finish_reason: str = "stop") -> None:
        self.mass, self.text, self.finish_reason = mass, text, finish_reason
        self.requests: list[Request] = []

    async def answer(self, request: Request) -> list[Completion]:
        self.requests.append(request)
        if request.first_words:
            mass = self.mass(len(self.requests))
            words = {"yes": mass / 3, "no": mass * 2 / 3} if mass is not None else None
            return [Completion("", 1 if words else 0, "length" if words else PROMPT_TOO_LONG, words)]
        return [Completion(self.text, 9, self.finish_reason)]

    def close(self) -> None:
        """Nothing to free."""


def questions(count: int) -> list[Request]:
    return [Request(f"Is there a dog {n}?", b"png", max_tokens=1, first_words=("yes", "no")) for n in range(count)]


def lists(count: int) -> list[Request]:
    return [Request(f"Split: {n}", json_schema=SCHEMA) for n in range(count)]


def checked(engine: Any, role: str = "labeler", min_mass: float = 0.5) -> CheckedEngine:
    return CheckedEngine(engine, role, "org/model", min_mass)


def message(engine: CheckedEngine, requests: list[Request]) -> str:
    with pytest.raises(ModelError) as caught:
        engine.generate(requests)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_labeler_that_thinks_first_is_stopped_after_200_questions() -> None:
    engine = WordsEngine(lambda _: 3e-4, "<think>\nGot it, the")
    assert message(checked(engine), questions(5000)) == (
        "org/model puts 0.0% of the probability on the words for yes and no (mean of its first 200 questions), "
        "expected at least 50%; its answers begin '<think>\\nGot it, the'; "
        "set labeler.chat_template_kwargs={enable_thinking: false} for a model that thinks first, "
        "feedback.answers for one that answers in another language or other words, or use another labeler "
        "(feedback.min_yes_no_mass=0 goes on with these verdicts)"
    )
    assert len(engine.requests) == QUESTIONS + 4  # four of them again, for the first words
    shown = engine.requests[QUESTIONS:]
    assert [request.text for request in shown] == [request.text for request in questions(4)]
    assert all(request.image == b"png" and not request.first_words and request.max_tokens == 8 for request in shown)


def test_the_mean_decides_and_is_taken_once() -> None:
    half = WordsEngine(lambda n: 0.98 if n % 2 else 0.03)
    assert len(checked(half).generate(questions(QUESTIONS))) == QUESTIONS
    late = WordsEngine(lambda n: 0.9 if n <= QUESTIONS else 0.0)
    engine = checked(late)
    for _ in range(3):
        assert len(engine.generate(questions(QUESTIONS))) == QUESTIONS
    assert not any(not request.first_words for request in late.requests)


def test_questions_of_several_calls_add_up() -> None:
    engine = checked(WordsEngine(lambda _: 0.1, "\u662f\u7684"))
    engine.generate(questions(LEAST - 1))
    assert "its answers begin '\u662f\u7684'; set" in message(engine, questions(1))


def test_min_yes_no_mass_is_the_limit_and_0_turns_it_off() -> None:
    checked(WordsEngine(lambda _: 0.0), min_mass=0).generate(questions(QUESTIONS))
    checked(WordsEngine(lambda _: 0.3), min_mass=0.25).generate(questions(QUESTIONS))
    assert "expected at least 80%" in message(checked(WordsEngine(lambda _: 0.7), min_mass=0.8), questions(QUESTIONS))


def test_images_that_do_not_fit_name_max_pixels() -> None:
    engine = checked(WordsEngine(lambda n: None if n % 4 else 1.0))
    assert message(engine, questions(QUESTIONS)) == (
        "org/model does not answer 150 of its first 200 questions (150 prompt_too_long), expected most to be answered; "
        "the image or text does not fit: set labeler.max_pixels, or raise engine.max_model_len"
    )


def test_nan_is_left_to_the_verdict() -> None:
    assert len(checked(WordsEngine(lambda _: math.nan)).generate(questions(QUESTIONS))) == QUESTIONS


def test_answers_are_those_of_the_engine_in_order() -> None:
    plain = ScriptedEngine(lambda request: {1: -1.0, 2: -2.0, 3: -3.0, 4: -0.0 - len(request.text)})
    wrapped = ScriptedEngine(plain.script)
    steps: list[int] = []
    requests = questions(QUESTIONS * 2 + 7)
    assert checked(wrapped).generate(requests, lambda: steps.append(1)) == plain.generate(requests)
    assert wrapped.requests == plain.requests and len(steps) == len(requests)
    assert checked(wrapped).generate([]) == []


@pytest.mark.parametrize(
    ("text", "finish_reason", "advice"),
    [
        (
            "Here are the claims: 1. There is a dog.",
            "stop",
            "(most are not JSON of the schema), expected most to be read; they begin 'Here are the claims: 1. There "
            "is a dog.'; the server ignores response_format of type json_schema: use one that supports it, as vLLM "
            "does, or another model",
        ),
        ('{"facts": []}', "stop", "the server ignores response_format"),
        ("[]", "stop", "the server ignores response_format"),
        ("<think>\nOkay, so the text", "length", "set splitter.chat_template_kwargs={enable_thinking: false}"),
        (
            '{"claims": [' + "\n" * 4000,
            "length",
            "they end in whitespace: start the server with --structured-outputs-config "
            """'{"disable_any_whitespace": true}'""",
        ),
        ("!" * 512, "length", "set splitter.dtype=float32"),
        (CLAIMS[:-20], "length", "raise feedback.max_claim_tokens"),
        ("", PROMPT_TOO_LONG, "raise engine.max_model_len"),
        ("", "content_filter", "(most end with finish_reason content_filter), expected most to be read; they begin "
         "without text; use another splitter"),
    ],
)  # fmt: skip
def test_splits_that_are_mostly_invalid_name_the_setting(text: str, finish_reason: str, advice: str) -> None:
    engine = checked(WordsEngine(lambda _: 1.0, text, finish_reason), role="splitter")
    error = message(engine, lists(60))
    assert error.startswith("60 of the first 60 lists of claims of org/model cannot be read (most ")
    assert advice in error


def test_some_invalid_splits_are_normal_and_further_attempts_do_not_count() -> None:
    def answer(request: Request) -> list[str]:
        return ["no JSON" if int(request.text.split()[-1]) % 2 else CLAIMS]

    engine = checked(ScriptedEngine(answer))
    engine.generate(lists(LEAST - 1))
    for _ in range(3):
        engine.generate([request for request in lists(LEAST - 1) if answer(request) == ["no JSON"]])
    engine.generate(lists(LEAST))


@pytest.mark.parametrize(("text", "shown"), [("!" * 512, "'!!!!!!!!!!!!'"), ("", "without text")])
def test_a_policy_whose_numbers_are_nan_is_stopped(text: str, shown: str) -> None:
    engine = checked(WordsEngine(lambda _: 1.0, text, "length"), role="policy", min_mass=0)
    assert message(engine, [Request(f"Describe {n}.") for n in range(LEAST)]) == (
        "20 of the first 20 answers of org/model are one character repeated, or nothing ("
        f"{shown}), expected text: so writes a model whose numbers are NaN; set policy.dtype to float32 or "
        "bfloat16, or use another policy"
    )


def test_short_and_empty_answers_are_no_nan() -> None:
    for text in ("4", "", "Yes", "A dog."):
        checked(WordsEngine(lambda _: 1.0, text, "stop")).generate([Request(f"{n}?") for n in range(LEAST)])


@pytest.mark.parametrize("wrapped", [f"```json\n{CLAIMS}\n```", f"<think>\nOkay.\n</think>\n\n{CLAIMS}"])
def test_json_in_a_fence_or_after_thoughts_is_read(wrapped: str) -> None:
    checked(WordsEngine(lambda _: 1.0, wrapped)).generate(lists(LEAST))
    assert json_text(wrapped) == CLAIMS


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"a": 1}', '{"a": 1}'),
        ('  {"a": 1}\n', '{"a": 1}'),
        ('```\n{"a": 1}\n```', '{"a": 1}'),
        ('```JSON {"a": 1}```', '{"a": 1}'),
        ("Here it is:\n\n```json\n[1,\n2]\n```\nI hope this helps.", "[1,\n2]"),
        ('</think>{"a": 1}', '{"a": 1}'),
        ('Let me see {x}.</think>\n```json\n{"a": 1}\n```', '{"a": 1}'),
        ('{"a": "The sign says ```json {} ``` and </think>"}', '{"a": "The sign says ```json {} ``` and </think>"}'),
        ('```json\n{"a": "```"}\n```', '{"a": "```"}'),
        ("<think>\nnever closed {", "<think>\nnever closed {"),
        ('```json\n{"a": 1', '```json\n{"a": 1'),
        ("", ""),
    ],
)
def test_the_json_of_an_answer(answer: str, expected: str) -> None:
    assert json_text(answer) == expected


def test_a_cut_answer_says_whether_it_ended_in_blanks() -> None:
    assert truncation_detail(Completion(CLAIMS[:-5], 512, "length")) == "512 tokens, finish_reason length"
    assert truncation_detail(Completion('{"claims": [' + "\n" * 4000, 4004, "length")) == (
        "4004 tokens, finish_reason length, ends in 4,000 blanks; a vLLM server needs --structured-outputs-config "
        """'{"disable_any_whitespace": true}'"""
    )


def open_words(model: ModelSection, engine: EngineSection, seed: int) -> WordsEngine:
    return WordsEngine(lambda _: 0.0)


def test_ray_can_send_it_to_its_actors() -> None:
    opener = pickle.loads(pickle.dumps(partial(open_checked, open_words, "labeler", 0.5)))
    engine = opener(ModelSection(model="org/model"), EngineSection(), 0)
    assert "without text" in message(engine, questions(QUESTIONS))
