"""The cost of labeling: seconds and tokens for the claims that one process of the stage labels, summed over its chunks.

A resumed stage counts only what it does itself, claims included, so that the cost per claim stays right.
Loading the labeler is not counted. Seconds are those of the engines: of several at once, their sum.
"""

from dataclasses import asdict, dataclass

from rlaif.inference.engine import Completion, Engine, Request


@dataclass(frozen=True)
class Cost:
    """Tokens of a number of claims."""

    claims: int = 0
    prompt_tokens: int = 0  # each prompt counts once, however many answers it has
    answer_tokens: int = 0
    uncounted: int = 0  # answers of an endpoint that does not report their tokens

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            *(mine + theirs for mine, theirs in zip(asdict(self).values(), asdict(other).values(), strict=True))
        )

    def figures(self) -> dict[str, int | None]:
        """The values for metrics.json; None for tokens of which some were not counted."""
        tokens = {"prompt_tokens": self.prompt_tokens, "answer_tokens": self.answer_tokens}
        return {
            "claims": self.claims,
            **{name: None if self.uncounted else count for name, count in tokens.items()},
        }


class MeteredEngine(Engine):
    """An engine that counts tokens from its creation."""

    def __init__(self, engine: Engine) -> None:
        self.steps = engine.steps
        self._engine = engine
        self._prompt_tokens = self._answer_tokens = self._uncounted = 0

    async def answer(self, request: Request) -> list[Completion]:
        """See Engine."""
        completions = await self._engine.answer(request)
        self._prompt_tokens += completions[0].prompt_tokens
        self._answer_tokens += sum(completion.num_tokens for completion in completions)
        self._uncounted += sum(not completion.counted for completion in completions)
        return completions

    async def check(self) -> None:
        """See Engine."""
        await self._engine.check()

    def close(self) -> None:
        """See Engine."""
        self._engine.close()

    def cost(self, claims: int) -> Cost:
        """The cost so far."""
        return Cost(claims, self._prompt_tokens, self._answer_tokens, self._uncounted)
