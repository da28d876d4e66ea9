"""Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943): measure all a little, keep the best third,
measure those twice as long, and so on. Pure but for the measurement, which is given.

Configurations whose difference to the last kept one is within the noise are kept too, up to half of all.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from edge.settings import Settings

FACTOR, GROWTH = 3, 2  # of candidates that are kept; of the repeats of a round


@dataclass(frozen=True)
class Outcome:
    """Seconds of each repeat of a trial, for the prompt and for the answer; or why there are none."""

    prompt_seconds: list[float] = field(default_factory=list)
    answer_seconds: list[float] = field(default_factory=list)
    error: str | None = None

    @property
    def seconds(self) -> list[float]:
        """Prompt and answer together."""
        return [prompt + answer for prompt, answer in zip(self.prompt_seconds, self.answer_seconds, strict=True)]


@dataclass
class Candidate:
    """A configuration with all seconds that were measured, by repeat. error: why it is out."""

    settings: Settings
    seconds: list[float] = field(default_factory=list)
    rounds: int = 0
    error: str | None = None

    @property
    def score(self) -> float:
        """Median seconds; infinite for one that failed."""
        return math.inf if self.error or not self.seconds else median(self.seconds)


Measure = Callable[[Settings, int], Outcome]  # a configuration, a number of repeats


def search(configurations: Sequence[Settings], measure: Measure, noise: float) -> list[Candidate]:
    """All candidates, the best first: those that lasted longer before others, failed ones last.

    noise: relative, such as 0.02: differences below it are not told apart.
    """
    candidates = [Candidate(settings) for settings in configurations]
    left, repeats = candidates, 1
    while left:
        for candidate in left:
            _measure(candidate, measure, repeats)
        left = sorted((candidate for candidate in left if candidate.error is None), key=lambda one: one.score)
        if len(left) <= 1:
            break
        left, repeats = survivors(left, noise), repeats * GROWTH
    return sorted(candidates, key=lambda one: (one.error is not None, -one.rounds, one.score))


def exhaustive(configurations: Sequence[Settings], measure: Measure, repeats: int) -> list[Candidate]:
    """All candidates, each measured as often, the best first: what a search is compared with."""
    candidates = [Candidate(settings) for settings in configurations]
    for candidate in candidates:
        _measure(candidate, measure, repeats)
    return sorted(candidates, key=lambda one: one.score)


def survivors(ordered: Sequence[Candidate], noise: float) -> list[Candidate]:
    """The best third of at least two, rounded up, and those within the noise of the last of it, up to half of all."""
    third, half = math.ceil(len(ordered) / FACTOR), max(1, len(ordered) // 2)
    limit = ordered[third - 1].score * (1 + noise)
    kept = [candidate for candidate in ordered if candidate.score <= limit]
    return kept[: max(min(third, half), min(len(kept), half))]


def _measure(candidate: Candidate, measure: Measure, repeats: int) -> None:
    outcome = measure(candidate.settings, repeats)
    candidate.seconds += outcome.seconds
    candidate.error = outcome.error
    candidate.rounds += 1
