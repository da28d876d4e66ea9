"""Draws what people are asked: claims stratified by the labeler's verdict and p(yes), pairs by their margin. Pure.

Notable choices:
- an item belongs to the sample by a hash of the seed and its id, not by its place: the sample is the same whatever the
  order of rows, and a larger sample of the same seed contains the smaller one;
- a stratum gets items by its size times the standard deviation that p(yes) predicts there (Neyman 1934), so that people
  spend their time where the labeler may be wrong, but at least LEAST, so that a confident error can be found too.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappush, heapreplace
from math import sqrt

BOUNDS = (0.1, 0.3, 0.5, 0.7, 0.9)  # of p(yes), between strata
LEAST = 5  # items of a stratum
DEVIATION = 0.1  # the least that is assumed, as that of a share of 0.01


@dataclass
class Stratum:
    """Items of one kind. name: what they have in common. total: the sum of their p(yes)."""

    name: str
    most: int  # items that may be drawn
    size: int = 0
    total: float = 0.0
    _kept: list[tuple[int, str]] = field(default_factory=list)  # the smallest hashes, negated: a heap

    def add(self, key: int, item: str, p_yes: float) -> None:
        self.size += 1
        self.total += p_yes
        if len(self._kept) < self.most:
            heappush(self._kept, (-key, item))
        elif (-key, item) > self._kept[0]:
            heapreplace(self._kept, (-key, item))

    @property
    def mean(self) -> float:
        """The mean p(yes)."""
        return self.total / self.size

    @property
    def deviation(self) -> float:
        """The standard deviation of a truth that is as probable as p(yes) says."""
        return max(DEVIATION, sqrt(max(0.0, self.mean * (1 - self.mean))))

    def drawn(self, count: int) -> list[str]:
        """The first `count` items in the order of their hashes."""
        return [item for _, item in sorted(self._kept, reverse=True)[:count]]


def draw_claims(claims: Iterable[tuple[str, float, bool]], count: int, seed: int) -> tuple[list[Stratum], list[str]]:
    """Strata of claims (id, p(yes), verdict), and `count` of their ids, or all if there are fewer, in mixed order."""
    strata: dict[tuple[bool, int], Stratum] = {}
    for claim_id, p_yes, verdict in claims:
        kind = verdict, bisect_right(BOUNDS, p_yes)
        if kind not in strata:
            strata[kind] = Stratum(f"{'accepted' if verdict else 'rejected'}, p(yes) {band(p_yes)}", count)
        strata[kind].add(item_key(seed, claim_id), claim_id, p_yes)
    return list(strata.values()), _draw(list(strata.values()), count, seed)


def draw_pairs(margins: Sequence[tuple[str, float]], count: int, seed: int) -> tuple[list[Stratum], list[str]]:
    """Strata of pairs (id, margin of scores), thirds by margin, and `count` of their ids in mixed order."""
    ordered = sorted(margin for _, margin in margins)
    cuts = [ordered[len(ordered) // 3], ordered[2 * len(ordered) // 3]] if ordered else []
    strata: dict[str, Stratum] = {}
    for pair_id, margin in margins:
        name = ("small", "middle", "large")[sum(margin > cut for cut in cuts)] + " margin"
        stratum = strata.setdefault(name, Stratum(name, count))
        stratum.add(item_key(seed, pair_id), pair_id, 0.5)
    return list(strata.values()), _draw(list(strata.values()), count, seed)


def band(p_yes: float) -> str:
    """The interval of BOUNDS that a probability lies in, such as "0.1-0.3"."""
    edges = (0.0, *BOUNDS, 1.0)
    index = bisect_right(BOUNDS, p_yes)
    return f"{edges[index]:g}-{edges[index + 1]:g}"


def item_key(seed: int, item: str) -> int:
    """64 bits by which the items of a stratum are ordered."""
    return int.from_bytes(hashlib.sha256(f"{seed}\x1f{item}".encode()).digest()[:8], "big")


def allocate(strata: Sequence[Stratum], count: int) -> list[int]:
    """Items of each stratum: LEAST where it has so many, the rest by size times deviation; together `count`, or all."""
    count = min(count, sum(stratum.size for stratum in strata))
    given = [0] * len(strata)
    for _ in range(count):
        index = max(
            (index for index, stratum in enumerate(strata) if given[index] < stratum.size),
            key=lambda index: (
                given[index] < LEAST,
                strata[index].size * strata[index].deviation / sqrt((given[index] + 1) * (given[index] + 2)),
            ),
        )
        given[index] += 1
    return given


def _draw(strata: list[Stratum], count: int, seed: int) -> list[str]:
    ids = [
        item for stratum, share in zip(strata, allocate(strata, count), strict=True) for item in stratum.drawn(share)
    ]
    return sorted(ids, key=lambda item: item_key(seed + 1, item))  # another order than that of the draw
