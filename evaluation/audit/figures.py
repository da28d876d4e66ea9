"""What people's verdicts say about the labeler, weighted back to the whole run. Pure.

Notable choices:
- each stratum's share of true claims has the posterior distribution of a proportion under Jeffreys' prior (Brown, Cai
  and DasGupta 2001): a stratum of ten claims that are all true says "above 0.8", not "1". A figure of the run is a
  function of these shares and of the sizes of the strata, and its interval the middle 95% of DRAWS of them;
- of K kinds, not two, the prior is a Dirichlet distribution with 1 / K for each (Perks 1947): any half of four kinds
  then has Jeffreys' prior, so that a figure has the same interval however finely its claims are counted;
- a claim's truth is the answer that most of its people give; one that they are divided about, cannot tell, or find
  in no answer, has none, and is counted apart;
- agreement of two people is Cohen's kappa over the claims that both have judged, each claim with the weight of its
  stratum, the mean over the pairs of people by their claims in common.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from evaluation.agreement import Agreement
from evaluation.statistics import LEVEL, Figures, Intervals, ratio

DRAWS = 4000
TRUE, FALSE, UNCLEAR, FOREIGN = "true", "false", "cannot tell", "not of this response"
ANSWERS = (TRUE, FALSE, UNCLEAR, FOREIGN)


@dataclass(frozen=True)
class Cell:
    """A stratum with its answers: claims of the run, their mean p(yes), the labeler's verdict, and judged claims.

    true, false: claims that people agree on. other: judged ones without a truth. foreign: not of their response.
    """

    size: int
    mean: float
    accepted: bool
    true: int = 0
    false: int = 0
    other: int = 0
    foreign: int = 0

    @property
    def judged(self) -> int:
        return self.true + self.false + self.other + self.foreign


def truth_of_answers(answers: Iterable[str]) -> str | None:
    """What people say of one claim: the answer that most of them give; None where two are as frequent."""
    (first, most), *others = Counter(answers).most_common()
    return None if others and others[0][1] == most else first


def claim_figures(cells: Sequence[Cell], seed: int) -> tuple[Figures, Intervals]:
    """Figures of the labeler against people, for all claims of the run, and their intervals.

    A stratum of which nobody has judged a claim is left out, and `covered` says which share of the claims the others
    have.
    """
    known = [cell for cell in cells if cell.true + cell.false]
    figures, spread = estimate([(cell.true, cell.false) for cell in known], lambda s: _claim_shares(known, s), seed)
    if (distance := figures["calibration_error"]) is not None and (bounds := spread["calibration_error"]):
        low = min(bounds[0], 2 * distance - bounds[1])  # chance only adds to a distance
        spread["calibration_error"] = [max(0.0, low), bounds[1]]
    figures["covered"] = ratio(sum(cell.size for cell in known), sum(cell.size for cell in cells))
    met = [cell for cell in cells if cell.judged]
    for name, count in (("cannot_tell", "other"), ("not_of_its_response", "foreign")):
        parts = [(cell.size, getattr(cell, count), cell.judged - getattr(cell, count)) for cell in met]
        share, interval = _share(name, parts, seed)
        figures |= share
        spread |= interval
    figures["judged"] = sum(cell.judged for cell in cells)
    return figures, spread


def pair_figures(cells: Sequence[tuple[int, int, int, int]], seed: int) -> tuple[Figures, Intervals]:
    """Shares of all pairs that are in the order that people see, and in which they see no difference.

    As in `make evaluate`, a pair without a difference is not in order. cells: size of a stratum, pairs in the same
    order, in the other one, without a difference.
    """
    judged = [cell for cell in cells if sum(cell[1:])]
    figures, spread = _share("pair_agreement", [(size, same, other + ties) for size, same, other, ties in judged], seed)
    shares, intervals = _share("pair_ties", [(size, ties, same + other) for size, same, other, ties in judged], seed)
    return figures | shares | {"pairs_judged": sum(sum(cell[1:]) for cell in judged)}, spread | intervals


def reliability(cells: Sequence[Cell], seed: int) -> list[dict[str, Any]]:
    """p(yes) as people see it: of each stratum of which they have judged a claim its claims in the run, their mean
    p(yes), the judged ones, the share of these that is true, and its interval; by p(yes).
    """
    rows = []
    for cell in sorted((cell for cell in cells if cell.true + cell.false), key=lambda cell: cell.mean):
        share, interval = _share("true_share", [(cell.size, cell.true, cell.false)], seed)
        row: dict[str, Any] = {"claims": cell.size, "mean_p_yes": cell.mean, "judged": cell.true + cell.false}
        rows.append(row | share | {"interval": interval["true_share"]})
    return rows


def people_kappa(answers: Mapping[str, Mapping[str, str]], weights: Mapping[str, float]) -> float | None:
    """Agreement of people with one another; answers: by claim, of each person; weights: of each claim."""
    both: dict[tuple[str, str], Agreement] = defaultdict(Agreement)
    for claim_id, said in answers.items():
        for first, second in combinations(sorted(said), 2):
            if {said[first], said[second]} <= {TRUE, FALSE}:
                both[first, second].add_verdicts(said[first] == TRUE, said[second] == TRUE, weights[claim_id])
    kappas = [(found.claims, kappa) for found in both.values() if (kappa := found.kappa()) is not None]
    return _mean([claims for claims, _ in kappas], [kappa for _, kappa in kappas])


def _claim_shares(cells: Sequence[Cell], shares: Sequence[Sequence[float]]) -> Figures:
    """Figures where a share of each stratum's claims is true, and the rest is false."""
    table = Agreement()
    gap = size = 0.0
    for cell, (share, _) in zip(cells, shares, strict=True):
        table.add_verdicts(cell.accepted, True, cell.size * share)
        table.add_verdicts(cell.accepted, False, cell.size * (1 - share))
        gap += cell.size * abs(cell.mean - share)
        size += cell.size
    return verdict_figures(table) | {"calibration_error": ratio(gap, size)}


def verdict_figures(table: Agreement) -> Figures:
    """A labeler's verdicts, the first ones of the table, against people's."""
    return {
        "agreement": table.verdict_share(),
        "kappa": table.kappa(),
        "false_claims_accepted": ratio(table.only_first_accepts, table.only_first_accepts + table.both_reject),
        "true_claims_rejected": ratio(table.only_second_accepts, table.only_second_accepts + table.both_accept),
    }


def _share(name: str, cells: Sequence[tuple[int, int, int]], seed: int) -> tuple[Figures, Intervals]:
    """One figure: the share of yes, weighted by size; cells: size, yes, no."""
    sizes = [size for size, _, _ in cells]
    counts = [(yes, no) for _, yes, no in cells]
    return estimate(counts, lambda shares: {name: _mean(sizes, [share for share, _ in shares])}, seed)


def estimate(
    counts: Sequence[Sequence[int]], figures: Callable[[Sequence[Sequence[float]]], Figures], seed: int
) -> tuple[Figures, Intervals]:
    """Figures of the shares of each kind in each stratum, and their intervals, which contain the figures.

    counts: of each stratum, the judged items of each kind; there is at least one in each stratum.
    """
    import numpy as np  # deferred so that --help stays fast

    estimates = figures([[count / sum(kinds) for count in kinds] for kinds in counts])
    rng = np.random.default_rng(seed)
    drawn = [rng.dirichlet([count + 1 / len(kinds) for count in kinds], DRAWS).tolist() for kinds in counts]
    values: dict[str, list[float]] = defaultdict(list)
    for shares in zip(*drawn, strict=True):
        for name, value in figures(shares).items():
            if value is not None:
                values[name].append(value)
    spread: Intervals = {}
    tail = (1 - LEVEL) / 2
    for name, value in estimates.items():
        if value is None or not values[name]:
            spread[name] = None
            continue
        low, high = np.quantile(values[name], [tail, 1 - tail]).tolist()
        spread[name] = [min(low, value), max(high, value)]
    return estimates, spread


def _mean(weights: Sequence[float], values: Sequence[float]) -> float | None:
    return ratio(sum(weight * value for weight, value in zip(weights, values, strict=True)), sum(weights))
