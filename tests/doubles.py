"""The one public double: an engine whose answers a test writes. For unit tests; every stage has a real test too."""

from collections.abc import Callable, Sequence

from rlaif.engine import Completion, Request

Answer = list[str] | dict[int, float]


class ScriptedEngine:
    """Implements `rlaif.engine.Engine` from a function Request -> n texts, or log-probabilities of the asked tokens.

    `finish_reason` is "stop", or "length" where the text ends in "..."; tokens are counted as words. `requests` keeps
    what was asked, `descriptions` the names of the progress bars. `words` gives the ids of `spellings`.
    """

    def __init__(self, answer: Callable[[Request], Answer], words: dict[str, tuple[int, ...]] | None = None) -> None:
        self.answer = answer
        self.words = words if words is not None else {"yes": (1, 2), "no": (3, 4)}
        self.requests: list[Request] = []
        self.descriptions: list[str] = []
        self.closed = False

    def generate(self, requests: Sequence[Request], description: str) -> list[list[Completion]]:
        """The scripted answers, in the order of the requests."""
        assert not self.closed, "the engine was closed"
        self.requests += requests
        self.descriptions.append(description)
        return [self._complete(request) for request in requests]

    def _complete(self, request: Request) -> list[Completion]:
        answer = self.answer(request)
        if isinstance(answer, dict):
            assert request.logprob_token_ids is not None and set(answer) == set(request.logprob_token_ids)
            return [Completion("", 1, "length", answer)]
        assert len(answer) == request.n, f"{len(answer)} texts for n={request.n}"
        return [Completion(text, len(text.split()), "length" if text.endswith("...") else "stop") for text in answer]

    def spellings(self, word: str) -> tuple[int, ...]:
        """The ids that the test gave for the word."""
        return self.words[word]

    def close(self) -> None:
        """Later calls of `generate` fail."""
        self.closed = True
