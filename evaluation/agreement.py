"""Two labelers compared with each other and with the truth. Pure: verified claims in, sums kept, figures out.

Notable choices:
- Cohen's kappa (1960) is reported beside the share of equal verdicts, because two labelers that accept nearly
  everything agree by chance;
- p_yes is compared with the truth as it is, not divided by p_yes + p_no: probability of anything else is the labeler's
  error. Brier score (1950): mean (p_yes - truth)^2; always saying 0.5 gets 0.25. Expected calibration error (Naeini et
  al. 2015): over BINS bins of equal width, the mean of |mean p_yes - share of true claims|, weighted by the claims of
  a bin;
- a ratio whose denominator is zero is None, never 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations

from evaluation.statistics import ratio

BINS = 10
Bounds = tuple[float, float]  # the lowest and the highest score that a response's unknown claims allow


@dataclass
class Calibration:
    """One labeler's p_yes and verdicts against the truth, claim by claim."""

    claims: int = 0
    correct: int = 0
    squares: float = 0.0
    bin_claims: list[int] = field(default_factory=lambda: [0] * BINS)
    bin_true: list[int] = field(default_factory=lambda: [0] * BINS)
    bin_p_yes: list[float] = field(default_factory=lambda: [0.0] * BINS)

    def add(self, p_yes: float, accepted: bool, truth: bool) -> None:
        """Count a claim. A p_yes of 1 belongs to the last bin."""
        index = min(int(p_yes * BINS), BINS - 1)
        self.claims += 1
        self.correct += accepted == truth
        self.squares += (p_yes - truth) ** 2
        self.bin_claims[index] += 1
        self.bin_true[index] += truth
        self.bin_p_yes[index] += p_yes

    def accuracy(self) -> float | None:
        """Verdicts equal to the truth / claims."""
        return ratio(self.correct, self.claims)

    def brier(self) -> float | None:
        """Mean squared distance of p_yes from the truth (1 or 0)."""
        return ratio(self.squares, self.claims)

    def expected_error(self) -> float | None:
        """Expected calibration error."""
        gaps = (abs(p_yes - true) for p_yes, true in zip(self.bin_p_yes, self.bin_true, strict=True))
        return ratio(sum(gaps), self.claims)  # a bin's |mean - share| times its claims is |sum - count|


@dataclass
class Agreement:
    """Verdicts of two labelers on the same claims, and their orders of the same responses."""

    both_accept: float = 0
    both_reject: float = 0
    only_first_accepts: float = 0
    only_second_accepts: float = 0
    pairs: int = 0
    equal_pairs: int = 0

    def add_verdicts(self, first: bool, second: bool, weight: float = 1) -> None:
        """Count a claim that both labelers have verified; weight: the claims that it stands for."""
        self.both_accept += weight * (first and second)
        self.both_reject += weight * (not (first or second))
        self.only_first_accepts += weight * (first and not second)
        self.only_second_accepts += weight * (second and not first)

    def add_scores(self, first: Mapping[str, Bounds], second: Mapping[str, Bounds]) -> None:
        """Count the pairs of one prompt's responses that both labelers order, whichever way.

        first, second: the lowest and highest score by response_id; equal where no claim is unknown. A pair has an order
        if it is certain whatever the unknown claims are: the lowest of one response is above the highest of the other.
        """
        for left, right in combinations(sorted(first.keys() & second.keys()), 2):
            orders = [_order(scores[left], scores[right]) for scores in (first, second)]
            if all(orders):
                self.pairs += 1
                self.equal_pairs += orders[0] == orders[1]

    @property
    def claims(self) -> float:
        """Claims that both labelers have verified."""
        return self.both_accept + self.both_reject + self.only_first_accepts + self.only_second_accepts

    def verdict_share(self) -> float | None:
        """Equal verdicts / claims."""
        return ratio(self.both_accept + self.both_reject, self.claims)

    def kappa(self) -> float | None:
        """(agreement - chance agreement) / (1 - chance agreement); None where chance agreement is 1."""
        share = self.verdict_share()
        if share is None:
            return None
        first, second = self.both_accept + self.only_first_accepts, self.both_accept + self.only_second_accepts
        chance = (first * second + (self.claims - first) * (self.claims - second)) / self.claims**2
        return None if chance == 1.0 else (share - chance) / (1.0 - chance)

    def pair_share(self) -> float | None:
        """Pairs in the same order / pairs that both labelers order."""
        return ratio(self.equal_pairs, self.pairs)


def _order(left: Bounds, right: Bounds) -> int:
    """1 if left is above right for certain, -1 if below, 0 if neither."""
    return (left[0] > right[1]) - (left[1] < right[0])
