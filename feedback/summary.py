"""Statistics to check before training: the labeler's confidence, the coverage of its claims, the length of answers."""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from feedback.pair import Pair
from feedback.pair_table import ScoredResponses
from rlaif.text import words


@dataclass
class Summary:
    """Sums over the responses and pairs of a run."""

    responses: int = 0
    asked: int = 0  # claims by outcome
    restated: int = 0
    unknown: int = 0
    rejected: int = 0
    weak: int = 0  # claims with p_yes + p_no < min_yes_no_mass
    coverage: float = 0.0
    pairs: int = 0
    words_chosen: int = 0
    words_rejected: int = 0
    lost: int = 0  # responses without a score, because all of their claims are unknown

    def add_responses(self, responses: ScoredResponses, min_yes_no_mass: float) -> None:
        """Count scored responses and their claims."""
        outcomes, verified = responses.claims["outcome"], responses.claims.drop_null()
        self.responses += len(responses.scored)
        for outcome in ("asked", "restated", "unknown"):
            count = pc.sum(pc.equal(outcomes, outcome)).as_py() or 0
            setattr(self, outcome, getattr(self, outcome) + count)
        self.rejected += int(np.count_nonzero(~verified["verdict"].to_numpy()))
        self.weak += int(np.count_nonzero(1.0 - verified["p_other"].to_numpy().astype(float) < min_yes_no_mass))
        self.coverage += pc.sum(responses.coverage).as_py() or 0.0

    def add_pair(self, pair: Pair) -> None:
        self.pairs += 1
        self.words_chosen += len(words(pair.chosen.text))
        self.words_rejected += len(words(pair.rejected.text))

    @property
    def claims(self) -> int:
        return self.verified + self.unknown

    @property
    def verified(self) -> int:
        """Claims with a verdict."""
        return self.asked + self.restated

    @property
    def extra_words(self) -> int:
        """Words of all chosen answers minus words of all rejected ones."""
        return self.words_chosen - self.words_rejected

    def metrics(self) -> dict[str, float | None]:
        """Counts and means, for metrics.json; None for the mean of nothing."""
        return {
            "claims_per_response": _mean(self.claims, self.responses),
            "asked_claims": self.asked,
            "restated_claims": self.restated,
            "unknown_claims": self.unknown,
            "lost_responses": self.lost,
            "restated_share": _mean(self.restated, self.claims),
            "unknown_share": _mean(self.unknown, self.claims),
            "rejected_share": _mean(self.rejected, self.verified),
            "weak_verdict_share": _mean(self.weak, self.verified),
            "coverage": _mean(self.coverage, self.responses),
            "mean_words_chosen": _mean(self.words_chosen, self.pairs),
            "mean_words_rejected": _mean(self.words_rejected, self.pairs),
        }

    def lines(self, min_yes_no_mass: float) -> list[str]:
        """The metrics as lines for the terminal."""
        lost = [f"{self.lost:,} responses lost, because all of their claims are unknown"] if self.lost else []
        if not self.responses:
            return [
                "no response could be scored; the reasons are counted below, dropped.parquet has them row by row",
                *lost,
            ]
        lines = [
            f"{self.claims / self.responses:.1f} claims per response, "
            f"with {self.coverage / self.responses:.0%} of its content words",
            f"{self.asked:,} claims verified by their question, {self.restated:,} restated as a statement, "
            f"{self.unknown:,} unknown",
            *lost,
            f"{self.rejected / self.verified:.1%} of the verified claims rejected; "
            f"{self.weak:,} weak verdicts (p_yes + p_no < {min_yes_no_mass:g})",
        ]
        if self.pairs:
            chosen, rejected = self.words_chosen / self.pairs, self.words_rejected / self.pairs
            lines.append(f"mean length of chosen {chosen:.1f} words, of rejected {rejected:.1f}")
        return lines


def _mean(total: float, count: int) -> float | None:
    return total / count if count else None
