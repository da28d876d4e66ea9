"""The cost of labeling: seconds and tokens for the claims that one process of the stage labels, summed over its chunks.

A resumed stage counts only what it does itself, claims included, so that the cost per claim stays right.
Loading the labeler is not counted. Seconds are those of the engines: of several at once, their sum.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from rlaif.inference.engine import Advance, Completion, Engine, Request, do_nothing


@dataclass(frozen=True)
class Cost:
    """Cost of a number of claims."""

    seconds: float = 0.0
    claims: int = 0
    prompt_tokens: int = 0  # each prompt counts once, however many answers it has
    answer_tokens: int = 0
    uncounted: int = 0  # answers of an endpoint that does not report their tokens

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            *(mine + theirs for mine, theirs in zip(asdict(self).values(), asdict(other).values(), strict=True))
        )

    def figures(self) -> dict[str, float | int | None]:
        """The values for metrics.json; None for tokens of which some were not counted."""
        tokens = {"prompt_tokens": self.prompt_tokens, "answer_tokens": self.answer_tokens}
        return {
            "seconds": round(self.seconds, 3),
            "claims": self.claims,
            **{name: None if self.uncounted else count for name, count in tokens.items()},
        }


@dataclass
class MeteredEngine:
    """An engine that counts tokens and seconds from its creation."""

    engine: Engine
    prompt_tokens: int = 0
    answer_tokens: int = 0
    uncounted: int = 0
    started: float = field(default_factory=time.monotonic)

    def generate(self, requests: Sequence[Request], advance: Advance = do_nothing) -> list[list[Completion]]:
        """See Engine."""
        results = self.engine.generate(requests, advance)
        self.prompt_tokens += sum(row[0].prompt_tokens for row in results)
        self.answer_tokens += sum(completion.num_tokens for row in results for completion in row)
        self.uncounted += sum(not completion.counted for row in results for completion in row)
        return results

    def close(self) -> None:
        """See Engine."""
        self.engine.close()

    def cost(self, claims: int) -> Cost:
        """The cost so far."""
        return Cost(time.monotonic() - self.started, claims, self.prompt_tokens, self.answer_tokens, self.uncounted)
