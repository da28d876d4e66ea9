"""Stops a stage whose labeler cannot do its work, after its first answers instead of after a night.

A labeler that thinks first, or answers in another language, puts no probability on yes and no, and its verdicts are
noise. An endpoint that ignores the JSON schema gives no claims at all. A policy whose numbers overflow writes `!!!!`.
`open_checked` wraps the engine of a stage: the answers to its first QUESTIONS requests of a kind (questions, lists of
claims, texts) are looked at once they are there, or those of the first chunk, if they are fewer. Until then no more
questions are asked. Of several engines each looks at its own. A chunk is written only after that, so that a stage that
is stopped leaves no rows that are bound to the settings to be changed.
"""

import asyncio
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from rlaif.config import EngineSection, ModelSection
from rlaif.errors import ModelError
from rlaif.inference.engine import (
    IMAGE_REFUSED,
    PROMPT_TOO_LONG,
    Completion,
    Engine,
    OpenEngine,
    Request,
    json_text,
)

QUESTIONS = 200  # looked at before any more are asked; of lists and texts also the first ones that are looked at
LEAST = 20  # questions or lists in all; fewer decide nothing
SHOWN, SHOWN_TOKENS = 4, 8  # answers in the message

THINKING = "chat_template_kwargs={enable_thinking: false} for a model that thinks first"
WHITESPACE = """--structured-outputs-config '{"disable_any_whitespace": true}'"""
REFUSED = {
    PROMPT_TOO_LONG: "the image or text does not fit: set {role}.max_pixels, or raise engine.max_model_len",
    IMAGE_REFUSED: "its processor does not take these images: use another {role}",
}


@dataclass
class FirstQuestions:
    """The probability that a labeler puts on the words for yes and no. Pure.

    role: the section of the model in the configuration. min_mass: least mean of it, 0 for none.
    """

    role: str
    model: str
    min_mass: float
    masses: list[float] = field(default_factory=list)
    unanswered: Counter[str] = field(default_factory=Counter)  # by finish_reason
    weak: list[Request] = field(default_factory=list)  # the first ones below min_mass

    def add(self, request: Request, completion: Completion) -> None:
        """Count one question; NaN is left to the verdict."""
        if completion.first_words is None:
            self.unanswered[completion.finish_reason] += 1
            return
        mass = math.fsum(completion.first_words.values())
        self.masses.append(mass)
        if mass < self.min_mass and len(self.weak) < SHOWN:
            self.weak.append(request)

    @property
    def count(self) -> int:
        return len(self.masses) + self.unanswered.total()

    @property
    def mean(self) -> float:
        """The mean probability of the words for yes and no, of the answered questions."""
        return math.fsum(self.masses) / len(self.masses) if self.masses else 0.0

    def fault(self, begin: Sequence[str]) -> str | None:
        """Why the labeler cannot judge, as a message; None if it can. begin: how it answers the `weak` questions."""
        if self.min_mass == 0 or math.isnan(self.mean):
            return None
        if self.unanswered.total() > self.count / 2:
            (reason, number), *_ = self.unanswered.most_common(1)
            advice = REFUSED.get(reason, "use another {role}").format(role=self.role)
            return (
                f"{self.model} does not answer {self.unanswered.total()} of its first {self.count} questions "
                f"({number} {reason}), expected most to be answered; {advice}"
            )
        if self.mean >= self.min_mass:
            return None
        return (
            f"{self.model} puts {self.mean:.1%} of the probability on the words for yes and no (mean of its first "
            f"{len(self.masses)} questions), expected at least {self.min_mass:.0%}; its answers begin "
            f"{_shown(begin)}; set {self.role}.{THINKING}, feedback.answers for one that answers in another language "
            f"or other words, or use another {self.role} (feedback.min_yes_no_mass=0 goes on with these verdicts)"
        )


@dataclass
class FirstSplits:
    """How many of a model's first answers in JSON are read. Pure."""

    role: str
    model: str
    seen: set[str] = field(default_factory=set)  # texts of the requests: a further attempt is not counted
    faulty: dict[str, Completion] = field(default_factory=dict)  # by text

    @property
    def count(self) -> int:
        return len(self.seen)

    def add(self, request: Request, completion: Completion) -> None:
        """Count the first answer to a request."""
        if request.text not in self.seen:
            self.seen.add(request.text)
            if completion.finish_reason != "stop" or not _fits(completion.text, request):
                self.faulty[request.text] = completion

    @property
    def fault(self) -> str | None:
        """Why the model cannot divide responses, as a message; None if it can."""
        if len(self.faulty) <= len(self.seen) / 2:
            return None
        answers = list(self.faulty.values())
        reason, _ = Counter(answer.finish_reason for answer in answers).most_common(1)[0]
        same = [answer for answer in answers if answer.finish_reason == reason]
        kind = "are not JSON of the schema" if reason == "stop" else f"end with finish_reason {reason}"
        return (
            f"{len(answers)} of the first {len(self.seen)} lists of claims of {self.model} cannot be read "
            f"(most {kind}), expected most to be read; they begin {_shown([answer.text[:40] for answer in same])}; "
            f"{self._advice(reason, same)}"
        )

    def _advice(self, reason: str, answers: Sequence[Completion]) -> str:
        texts = [answer.text for answer in answers]
        if reason in REFUSED:
            return REFUSED[reason].format(role=self.role)
        if _most("<think" in text.lower() for text in texts):
            return f"set {self.role}.{THINKING}"
        if _most(_repeats(text) for text in texts):
            return f"one character repeated is what a model with NaN in it writes: set {self.role}.dtype=float32"
        if reason == "length":
            if _most(trailing_blanks(text) > len(text) / 2 for text in texts):
                return f"they end in whitespace: start the server with {WHITESPACE}"
            return "raise feedback.max_claim_tokens, or use another model that stops by itself"
        if reason == "stop":
            return (
                "the server ignores response_format of type json_schema: use one that supports it, as vLLM does, or "
                "another model"
            )
        return f"use another {self.role}"


@dataclass
class FirstTexts:
    """How many of a model's first answers are what sampling from NaN gives: the first token again and again. Pure."""

    role: str
    model: str
    count: int = 0
    faulty: list[str] = field(default_factory=list)

    def add(self, _: Request, completion: Completion) -> None:
        """Count one answer. The first token of some vocabularies is a special one, without text."""
        self.count += 1
        if _repeats(completion.text) or (completion.finish_reason == "length" and not completion.text.strip()):
            self.faulty.append(completion.text)

    @property
    def fault(self) -> str | None:
        """That the model's numbers are NaN, as a message; None if they are not."""
        if len(self.faulty) <= self.count / 2:
            return None
        return (
            f"{len(self.faulty)} of the first {self.count} answers of {self.model} are one character repeated, or "
            f"nothing ({_shown([text[:12] for text in self.faulty])}), expected text: so writes a model whose numbers "
            f"are NaN; set {self.role}.dtype to float32 or bfloat16, or use another {self.role}"
        )


@dataclass
class _First:
    """The first requests of one kind, with their answers as they come. number: of requests so far."""

    number: int = 0
    answers: dict[int, tuple[Request, list[Completion]]] = field(default_factory=dict)
    decided: asyncio.Event = field(default_factory=asyncio.Event)


class CheckedEngine(Engine):
    """An engine whose first answers are looked at (see the module docstring)."""

    def __init__(self, engine: Engine, role: str, model: str, min_mass: float) -> None:
        self.steps = engine.steps
        self._engine = engine
        self._kinds: dict[str, Callable[[], FirstQuestions | FirstSplits | FirstTexts]] = {
            "questions": lambda: FirstQuestions(role, model, min_mass),
            "splits": lambda: FirstSplits(role, model),
            "texts": lambda: FirstTexts(role, model),
        }
        self._firsts = {kind: _First() for kind in self._kinds}

    async def answer(self, request: Request) -> list[Completion]:
        """See Engine. Errors: ModelError too where the first answers show that the model cannot do its work."""
        kind = "questions" if request.first_words else "texts" if request.json_schema is None else "splits"
        first = self._firsts[kind]
        if first.decided.is_set() or first.number == QUESTIONS:
            if kind == "questions":
                await first.decided.wait()
            return await self._engine.answer(request)
        number = first.number
        first.number += 1
        completions = await self._engine.answer(request)
        first.answers[number] = request, completions
        if len(first.answers) == QUESTIONS:
            await self._decide(kind)
        return completions

    async def check(self) -> None:
        """See Engine: looks at the answers so far, if they are enough to decide."""
        for kind in self._kinds:
            await self._decide(kind)
        await self._engine.check()

    def close(self) -> None:
        """See Engine."""
        self._engine.close()

    async def _decide(self, kind: str) -> None:
        """Errors: ModelError where the model cannot do its work."""
        first = self._firsts[kind]
        finding = self._kinds[kind]()
        for _, (request, completions) in sorted(first.answers.items()):
            for completion in completions:
                finding.add(request, completion)
        if first.decided.is_set() or finding.count < LEAST:
            return
        if isinstance(finding, FirstQuestions):
            fault = finding.fault(())
            if fault is not None:
                fault = finding.fault(await self._sampled(finding.weak))
        else:
            fault = finding.fault
        if fault is not None:
            raise ModelError(fault)
        first.answers.clear()
        first.decided.set()

    async def _sampled(self, questions: Sequence[Request]) -> list[str]:
        """The first words of the most probable answers."""
        requests = [replace(question, first_words=(), max_tokens=SHOWN_TOKENS) for question in questions]
        answers = await asyncio.gather(*map(self._engine.answer, requests))
        return [completion.text for completion, *_ in answers]


def open_checked(
    open_engine: OpenEngine, role: str, min_mass: float, model: ModelSection, engine: EngineSection, seed: int
) -> Engine:
    """An engine whose first answers are looked at. The first three arguments, bound, make an OpenEngine of another.

    role: the section of the model, such as labeler. min_mass: see FirstQuestions.
    """
    return CheckedEngine(open_engine(model, engine, seed), role, model.model, min_mass)


def truncation_detail(completion: Completion) -> str:
    """What a cut answer looks like, and what to do where it was cut in whitespace that means nothing in JSON."""
    detail = f"{completion.num_tokens} tokens, finish_reason {completion.finish_reason}"
    if (blanks := trailing_blanks(completion.text)) > len(completion.text) / 2:
        detail += f", ends in {blanks:,} blanks; a vLLM server needs {WHITESPACE}"
    return detail


def trailing_blanks(text: str) -> int:
    return len(text) - len(text.rstrip())


def _fits(text: str, request: Request) -> bool:
    """Whether an answer is a JSON object with the keys that the schema requires."""
    try:
        value = json.loads(json_text(text), strict=False)
    except json.JSONDecodeError:
        return False
    return isinstance(value, dict) and all(name in value for name in (request.json_schema or {}).get("required", []))


def _repeats(text: str) -> bool:
    return len(text) > 8 and len(set(text.strip())) == 1


def _most(cases: Iterable[bool]) -> bool:
    values = list(cases)
    return sum(values) > len(values) / 2


def _shown(texts: Sequence[str]) -> str:
    """Distinct texts, quoted, so that line breaks are visible."""
    return ", ".join(repr(text) for text in dict.fromkeys(texts[: 10 * SHOWN]) if text)[:200] or "without text"
