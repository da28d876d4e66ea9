"""What labelling costs: seconds and tokens of the claims that one try of the stage labels.

A stage that was stopped counts only from where it went on, the claims as well as the rest: a cost a claim stays right.
Loading the labeler is not counted.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rlaif.engine import Completion, Engine, Request


@dataclass
class Metered:
    """An engine that counts, from when it was opened."""

    engine: Engine
    claims: int = 0
    prompt_tokens: int = 0  # a prompt once, however many answers it has
    answer_tokens: int = 0
    opened: float = field(default_factory=time.monotonic)

    def generate(self, requests: Sequence[Request], description: str) -> list[list[Completion]]:
        """See Engine."""
        results = self.engine.generate(requests, description)
        self.prompt_tokens += sum(row[0].prompt_tokens for row in results)
        self.answer_tokens += sum(completion.num_tokens for row in results for completion in row)
        return results

    def close(self) -> None:
        """See Engine."""
        self.engine.close()

    def cost(self) -> dict[str, float | int]:
        """So far, for metrics.json."""
        return {
            "seconds": round(time.monotonic() - self.opened, 3),
            "claims": self.claims,
            "prompt_tokens": self.prompt_tokens,
            "answer_tokens": self.answer_tokens,
        }
