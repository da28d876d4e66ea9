"""Two labelers against each other and against the truth. Pure: judged claims in, sums kept, figures out.

Notable choices:
- Cohen's kappa (1960) beside the share of equal verdicts: two labelers that accept nearly everything agree by chance;
- p_yes is held against the truth as it is, not divided by p_yes + p_no: mass that a labeler puts elsewhere is its own
  fault. Brier (1950): mean (p_yes - truth)^2, where 0.25 is what always saying 0.5 gets. Expected calibration error
  (Naeini et al. 2015): over BINS bins of equal width, the mean of |mean p_yes - share of true claims|, weighted by how
  many claims a bin has;
- a ratio whose denominator is zero is None, never 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations

BINS = 10


@dataclass
class Calibration:
    """One labeler's p_yes and verdicts against the truth, claim by claim."""

    claims: int = 0
    right: int = 0
    squares: float = 0.0
    bin_claims: list[int] = field(default_factory=lambda: [0] * BINS)
    bin_true: list[int] = field(default_factory=lambda: [0] * BINS)
    bin_p_yes: list[float] = field(default_factory=lambda: [0.0] * BINS)

    def add(self, p_yes: float, accepted: bool, truth: bool) -> None:
        """Count a claim. A p_yes of 1 belongs to the last bin."""
        where = min(int(p_yes * BINS), BINS - 1)
        self.claims += 1
        self.right += accepted == truth
        self.squares += (p_yes - truth) ** 2
        self.bin_claims[where] += 1
        self.bin_true[where] += truth
        self.bin_p_yes[where] += p_yes

    def accuracy(self) -> float | None:
        """Verdicts equal to the truth / claims."""
        return _ratio(self.right, self.claims)

    def brier(self) -> float | None:
        """Mean squared distance of p_yes from the truth (1 or 0)."""
        return _ratio(self.squares, self.claims)

    def expected_error(self) -> float | None:
        """Expected calibration error."""
        gaps = (abs(p_yes - true) for p_yes, true in zip(self.bin_p_yes, self.bin_true, strict=True))
        return _ratio(sum(gaps), self.claims)  # a bin's |mean - share| times its claims is |sum - count|


@dataclass
class Agreement:
    """Verdicts of two labelers on the same claims, and their orders of the same responses."""

    both_accept: int = 0
    both_reject: int = 0
    only_first: int = 0  # accepts
    only_second: int = 0
    pairs: int = 0
    pairs_alike: int = 0

    def add_verdicts(self, first: bool, second: bool) -> None:
        """Count a claim that both have judged."""
        self.both_accept += first and second
        self.both_reject += not (first or second)
        self.only_first += first and not second
        self.only_second += second and not first

    def add_scores(self, first: Mapping[str, float], second: Mapping[str, float]) -> None:
        """Count the pairs of one prompt's responses (scores by response_id) that both labelers order, either way."""
        for one, other in combinations(sorted(first.keys() & second.keys()), 2):
            mine, theirs = first[one] - first[other], second[one] - second[other]
            if mine and theirs:
                self.pairs += 1
                self.pairs_alike += (mine > 0) == (theirs > 0)

    @property
    def claims(self) -> int:
        """Claims that both have judged."""
        return self.both_accept + self.both_reject + self.only_first + self.only_second

    def share(self) -> float | None:
        """Equal verdicts / claims."""
        return _ratio(self.both_accept + self.both_reject, self.claims)

    def kappa(self) -> float | None:
        """(agreement - agreement by chance) / (1 - agreement by chance); None where chance alone agrees always."""
        share = self.share()
        if share is None:
            return None
        first, second = self.both_accept + self.only_first, self.both_accept + self.only_second
        chance = (first * second + (self.claims - first) * (self.claims - second)) / self.claims**2
        return None if chance == 1.0 else (share - chance) / (1.0 - chance)

    def pairs_share(self) -> float | None:
        """Pairs ordered alike / pairs that both order."""
        return _ratio(self.pairs_alike, self.pairs)


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None
