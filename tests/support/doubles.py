"""The one public double: an engine whose answers a test writes. For unit tests; every stage has a real test too."""

import asyncio
import json
import math
import re
from collections.abc import Callable, Container, Sequence

from feedback.check.source import Source
from feedback.divide import Refusal, Split, divide
from feedback.labeler_prompts import LabelerPrompts
from rlaif.config import FeedbackSection
from rlaif.inference.engine import Completion, Engine, Request
from rlaif.inference.turns import Turns
from rlaif.inference.work.sharing import SharedAnswers

Answer = list[str] | dict[int, float]

ASK = "What is there?"
GOOD = "There is a red circle."
FALSE = "There is a blue square."


class ScriptedEngine(Engine):
    """Implements `rlaif.inference.engine.Engine` from a function: Request -> n texts, or log-probabilities of first
    tokens by id.

    `finish_reason` is "stop", or "length" where the text ends in "..."; tokens are counted as words. `requests` keeps
    all requests; one runs at a time, in the order of `rlaif.inference.turns`. `words` gives the ids of the spellings.
    Log-probabilities of an answer's tokens, if requested, are -9 for the words in `unlikely` and -0.1 for all else.
    """

    def __init__(
        self,
        answer: Callable[[Request], Answer],
        words: dict[str, tuple[int, ...]] | None = None,
        unlikely: Container[str] = (),
    ) -> None:
        self.script = answer
        self.unlikely = unlikely
        self.words = words if words is not None else {"yes": (1, 2), "no": (3, 4)}
        self.requests: list[Request] = []
        self.turns = Turns(1)
        self.closed = False

    async def answer(self, request: Request) -> list[Completion]:
        """The scripted answers."""
        async with self.turns.room(1):
            assert not self.closed, "the engine was closed"
            for _ in range(10):  # what follows from the last answer comes first: a finished chunk is written
                await asyncio.sleep(0)
            self.requests.append(request)
            return self.complete(request)

    def complete(self, request: Request) -> list[Completion]:
        """The completions of one request, which a test may override."""
        answer = self.script(request)
        if isinstance(answer, dict):
            assert set(answer) == {token for word in request.first_words for token in self.words[word]}
            words = {word: sum(math.exp(answer[token]) for token in self.words[word]) for word in request.first_words}
            return [Completion("", 1, "length", words, prompt_tokens=len(request.text.split()))]
        assert len(answer) == request.n, f"{len(answer)} texts for n={request.n}"
        return [
            Completion(
                text,
                len(text.split()),
                "length" if text.endswith("...") else "stop",
                tokens=self._tokens(text) if request.token_logprobs else None,
                prompt_tokens=len(request.text.split()),
            )
            for text in answer
        ]

    def _tokens(self, text: str) -> tuple[tuple[str, float], ...]:
        pieces = re.findall(r"\w+|\W+", text)
        return tuple((piece, -9.0 if piece in self.unlikely else -0.1) for piece in pieces)

    def close(self) -> None:
        """Later requests fail."""
        self.closed = True


def circle_policy(answers: dict[str, str]) -> Callable[[Request], list[str]]:
    """Two answers per prompt, one of them false; for prompts in `answers` that answer, then a true one."""
    return lambda request: [answers[request.text], GOOD] if request.text in answers else [GOOD, FALSE]


def circle_labeler(request: Request) -> list[str] | dict[int, float]:
    """One claim for each of the two sentences in a response; circles are true, squares are not."""
    if request.json_schema is not None:
        text = request.text.partition("Text: ")[2]
        sentences = [sentence for sentence in (GOOD, FALSE) if sentence.rstrip(".") in " ".join(text.split())]
        claims = [{"claim": it, "question": it.replace("There is", "Is there").replace(".", "?")} for it in sentences]
        return [json.dumps({"claims": claims})]
    p_yes = 0.1 if "square" in request.text else 0.9
    return {1: math.log(p_yes / 2), 2: math.log(p_yes / 2), 3: math.log(1 - p_yes), 4: -math.inf}


def divide_all(
    engine: Engine, sources: Sequence[Source], prompts: LabelerPrompts, settings: FeedbackSection
) -> dict[Source, Split | Refusal]:
    """The claims of each distinct source; equal requests are sent once."""
    shared, distinct = SharedAnswers(engine), list(dict.fromkeys(sources))

    async def divide_them() -> list[Split | Refusal]:
        return await asyncio.gather(*(divide(shared, source, prompts, settings, 0) for source in distinct))

    return dict(zip(distinct, engine.run(divide_them()), strict=True))
