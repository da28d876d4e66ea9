import math

import pytest

from feedback.verify import Verdict, read_verdict, verify
from rlaif.config import AnswersSection
from rlaif.errors import ModelError
from rlaif.inference.engine import PROMPT_TOO_LONG, Completion, Request
from tests.support.doubles import ScriptedEngine


def test_p_other_is_the_rest() -> None:
    verdict = read_verdict({"yes": 0.5, "no": 0.3})
    assert verdict.p_other == pytest.approx(0.2)
    assert verdict.accepted


def test_a_claim_needs_more_yes_than_no() -> None:
    assert not Verdict(0.4, 0.4).accepted
    assert not Verdict(0.1, 0.2).accepted
    assert Verdict(0.2, 0.1).accepted


def test_left_over_mass_is_never_negative() -> None:
    assert Verdict(0.75, 0.2500001).p_other == 0.0


def test_nan_is_an_error() -> None:
    assert read_verdict({"yes": 0.0, "no": 1.0}) == Verdict(0.0, 1.0)
    with pytest.raises(ModelError, match="log-probabilities are NaN"):
        read_verdict({"yes": math.nan, "no": 1.0})


def test_requests_of_an_image_are_unique_and_consecutive() -> None:
    def labeler(request: Request) -> dict[int, float]:
        p_yes = 0.6 if request.image == b"one" else 0.1
        return {1: math.log(p_yes / 2), 2: math.log(p_yes / 2), 3: math.log(0.3), 4: -math.inf}

    engine = ScriptedEngine(labeler)
    questions = [("b", "Dog?"), ("a", "Dog?"), ("b", "Cat?"), ("a", "Dog?"), ("b", "Dog?")]
    verdicts = engine.run(verify(engine, questions, {"a": b"one", "b": b"two"}))
    assert [(request.image, request.text) for request in engine.requests] == [
        (b"one", "Dog?"),
        (b"two", "Cat?"),
        (b"two", "Dog?"),
    ]
    assert all(request.max_tokens == 1 and request.first_words == ("yes", "no") for request in engine.requests)
    assert {key: verdict.accepted for key, verdict in verdicts.items()} == {
        ("a", "Dog?"): True,
        ("b", "Cat?"): False,
        ("b", "Dog?"): False,
    }
    assert verdicts["a", "Dog?"].p_yes == pytest.approx(0.6)
    assert verdicts["a", "Dog?"].p_other == pytest.approx(0.1)


def test_a_question_that_does_not_fit_has_no_verdict() -> None:
    class Small(ScriptedEngine):
        def complete(self, request: Request) -> list[Completion]:
            return [Completion("", 0, PROMPT_TOO_LONG)] if len(request.text) > 4 else super().complete(request)

    engine = Small(lambda request: dict.fromkeys((1, 2, 3, 4), math.log(0.25)))
    verdicts = engine.run(verify(engine, [("a", "Dog?"), ("a", "A dog and a cat?")], {"a": b"one"}))
    assert list(verdicts) == [("a", "Dog?")]


def test_a_question_that_an_endpoint_refuses_has_no_verdict() -> None:
    class Prudish(ScriptedEngine):
        def complete(self, request: Request) -> list[Completion]:
            return [Completion("", 0, "content_filter")] if "Cat" in request.text else super().complete(request)

    engine = Prudish(lambda request: dict.fromkeys((1, 2, 3, 4), math.log(0.25)))
    verdicts = engine.run(verify(engine, [("a", "Dog?"), ("a", "Cat?")], {"a": b"one"}))
    assert verdicts == {("a", "Dog?"): Verdict(0.5, 0.5)}


def test_answers_in_the_language_of_the_prompts() -> None:
    yes, also_yes, no = "\u662f", "\u5bf9", "\u5426"
    answers = AnswersSection(yes=[yes, also_yes], no=[no])
    probabilities = {1: math.log(0.5), 2: math.log(0.2), 3: math.log(0.1)}
    engine = ScriptedEngine(lambda _: probabilities, words={yes: (1,), also_yes: (2,), no: (3,)})
    verdicts = engine.run(verify(engine, [("a", "?")], {"a": b"one"}, answers))
    assert verdicts["a", "?"].p_yes == pytest.approx(0.7) and verdicts["a", "?"].p_no == pytest.approx(0.1)
    assert engine.requests[0].first_words == (yes, also_yes, no)
