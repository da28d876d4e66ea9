"""The order of the pairs: random, with the pairs of one prompt in one batch, where the model computes it once.

A batch has as many pairs as without this order; a prompt with more pairs than a batch is divided. The order depends on
the seed and the epoch alone, so a resumed training skips the batches that it has done, and several processes, which
take the batches in turn, have whole prompts each. If no prompt has two pairs, it is the order of Trainer.
"""

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

Piece = tuple[int, list[int]]  # its rank in the order, and pairs of one prompt


def in_batches(prompts: Sequence[int], order: Sequence[int], size: int) -> Iterator[int]:
    """Indices of pairs, such that each `size` of them in turn have whole prompts as far as possible.

    Args:
        prompts: the prompt of each pair, as any number.
        order: the indices in the order to follow: a batch starts with the first pair left, and is filled with the first
            prompts left that fit. A prompt is divided where it has more pairs than a batch, or no other one fits; what
            is left of it then comes last, so that it does not divide the next one.
    """
    grouped: dict[int, list[int]] = {}
    for index in order:
        grouped.setdefault(prompts[index], []).append(index)
    pieces = [pairs[start : start + size] for pairs in grouped.values() for start in range(0, len(pairs), size)]
    left: list[deque[Piece]] = [deque() for _ in range(size + 1)]  # by number of pairs
    for rank, pairs in enumerate(pieces):
        left[len(pairs)].append((rank, pairs))
    room, last = size, len(pieces)
    while any(left):
        fitting = [pieces for pieces in left[: room + 1] if pieces] or [pieces for pieces in left if pieces]
        _, pairs = min(fitting, key=lambda pieces: pieces[0][0]).popleft()
        yield from pairs[:room]
        if rest := pairs[room:]:
            left[len(rest)].append((last := last + 1, rest))
        room = (room - len(pairs[:room])) or size


class PromptSampler(Sampler[int]):
    """`in_batches` of another random order in each epoch."""

    def __init__(self, prompts: Sequence[int], size: int, seed: int):
        self.prompts, self.size, self.seed, self.epoch = prompts, size, seed, 0

    def __len__(self) -> int:
        return len(self.prompts)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)  # as SeedableRandomSampler of accelerate
        yield from in_batches(self.prompts, torch.randperm(len(self.prompts), generator=generator).tolist(), self.size)

    def set_epoch(self, epoch: int) -> None:
        """Called by Trainer at the start of each epoch, also of a resumed one."""
        self.epoch = epoch
