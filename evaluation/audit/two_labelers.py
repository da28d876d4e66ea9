"""Two labelers against people, on the same audited claims. Pure.

A stratum has claims of one verdict of the first labeler, so that each of them is of one of four kinds: true or false,
accepted or rejected by the second one. The intervals are those of evaluation/audit/figures.py.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product

from evaluation.agreement import Agreement
from evaluation.audit.figures import estimate, verdict_figures
from evaluation.statistics import Figures, Intervals

KINDS = tuple(product((True, False), (True, False)))  # (truth, accepted by the second labeler)
SIDES = ("first", "second")


@dataclass
class Stratum:
    """Claims that both labelers have verified. size: claims of the run; accepted: by the first labeler."""

    accepted: bool
    size: float = 0.0
    kinds: Counter[tuple[bool, bool]] = field(default_factory=Counter)


def count_strata(claims: Iterable[tuple[str, float, bool, bool, bool | None]]) -> list[Stratum]:
    """Strata of claims (stratum, weight, truth, first and second verdict); a second verdict may be unknown, then the
    others of the stratum stand for that claim too. A stratum without any is left out.
    """
    strata: dict[str, Stratum] = {}
    for name, weight, truth, first, second in claims:
        stratum = strata.setdefault(name, Stratum(first))
        stratum.size += weight
        if second is not None:
            stratum.kinds[truth, second] += 1
    return [stratum for stratum in strata.values() if stratum.kinds]


def compare(strata: Sequence[Stratum], seed: int) -> tuple[Figures, Intervals]:
    """Figures of each side, named "first agreement" and so on, and `change` of agreement, with their intervals."""

    def figures(shares: Sequence[Sequence[float]]) -> Figures:
        tables = {side: Agreement() for side in SIDES}
        for stratum, kinds in zip(strata, shares, strict=True):
            for (truth, accepted), share in zip(KINDS, kinds, strict=True):
                tables["first"].add_verdicts(stratum.accepted, truth, stratum.size * share)
                tables["second"].add_verdicts(accepted, truth, stratum.size * share)
        found = {f"{side} {name}": value for side in SIDES for name, value in verdict_figures(tables[side]).items()}
        first, second = (found[f"{side} agreement"] for side in SIDES)
        change = None if first is None or second is None else second - first
        return found | {"change": change}

    return estimate([[stratum.kinds[kind] for kind in KINDS] for stratum in strata], figures, seed)
