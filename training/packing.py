"""Data packing (paper section 4.1): samples of different lengths are put into sequences of one fixed length.

A batch is as long as its longest sample. The lengths of captions, questions and long answers differ by a factor of ten,
so that most of a padded batch is padding.

A packed sequence is `[sample | sample | ...]`. Position ids restart at 0 with each sample. A batch is one row of all
its samples without padding, and the lengths of the samples say who attends to whom (`model.shared_prefix`); or, with
dense masks, a row for each sequence, `[sample | sample | ... | padding]`. There the position ids of padding are 0, so
that each padding token is a sample by itself; without attention mask and cache (`use_cache`), transformers derives the
boundaries of samples from them. The model puts image features at the placeholders in reading order, so the slices of a
batch are in the order of its samples.

A sample may be several conversations about the same images, `[prefix | branch | branch | ...]`: their common prefix,
images included, occurs once, and each branch continues it. Branches do not attend to one another, so that each
conversation has the logits that it would have alone, at the cost of one image.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch

from model.image_processing import pack_slices
from model.processing import NO_LOSS


@dataclass(frozen=True)
class Sample:
    """Conversations about the same images, ready for training.

    input_ids, labels [T] (NO_LOSS where there is none); branches [T]: 0 in the common prefix, then 1, 2, ... (all 0 for
    a single conversation); slices: overviews and slices of its images in reading order, [3, P, L*P] each, with their
    sizes in patches tgt_sizes [S, 2].
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    branches: torch.Tensor
    slices: list[torch.Tensor]
    tgt_sizes: torch.Tensor

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> list[int]:
        """Tokens of the prefix and of each branch."""
        prefix = int((self.branches == 0).sum())
        _, counts = self.branches[prefix:].unique_consecutive(return_counts=True)
        return [prefix, *counts.tolist()]

    @property
    def positions(self) -> torch.Tensor:
        """Position ids [T]: each branch continues those of the prefix."""
        prefix, *branches = self.lengths
        return torch.cat([torch.arange(prefix), *(torch.arange(prefix, prefix + length) for length in branches)])

    def truncated(self, length: int, image_token_id: int) -> "Sample | None":
        """The first `length` tokens or fewer: a slice is kept whole or cut before its first placeholder.

        None if no label would be left.
        """
        if len(self) <= length:
            return self
        placeholders = (self.input_ids == image_token_id).nonzero()[:, 0]
        kept = 0
        if len(self.slices):
            queries = len(placeholders) // len(self.slices)
            kept = int((placeholders < length).sum()) // queries
            if kept < len(self.slices):
                length = min(length, int(placeholders[kept * queries]))
        labels = self.labels[:length]
        if (labels == NO_LOSS).all():
            return None
        return Sample(
            self.input_ids[:length], labels, self.branches[:length], self.slices[:kept], self.tgt_sizes[:kept]
        )


def pack_in_order(lengths: Sequence[int], capacity: int) -> list[list[tuple[int, int]]]:
    """As in the paper: samples follow one another, and the last one of a sequence is truncated.

    Returns: for each sequence of `capacity` tokens, its (sample, tokens kept).
    """
    packs: list[list[tuple[int, int]]] = []
    room = 0
    for index, length in enumerate(lengths):
        if room == 0:
            packs.append([])
            room = capacity
        packs[-1].append((index, min(length, room)))
        room -= min(length, room)
    return packs


def pack_best_fit(lengths: Sequence[int], capacity: int) -> list[list[tuple[int, int]]]:
    """Best fit decreasing: longest first, each sample goes where it leaves the least room. Truncates nothing.

    Takes at most 11/9 of the fewest possible sequences, and one more.
    Errors: ValueError for a sample longer than `capacity`.
    """
    packs: list[list[tuple[int, int]]] = []
    rooms: list[tuple[int, int]] = []  # (tokens left, pack), sorted
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        length = lengths[index]
        if length > capacity:
            raise ValueError(
                f"sample {index} has {length} tokens, but a sequence has {capacity}; set a larger sequence_length, or "
                "packing in_order, which truncates"
            )
        index_of_room = bisect_left(rooms, (length, 0))
        if index_of_room == len(rooms):
            room, pack = capacity, len(packs)
            packs.append([])
        else:
            room, pack = rooms.pop(index_of_room)
        packs[pack].append((index, length))
        if room > length:
            insort(rooms, (room - length, pack))
    return packs


def share_prefix(conversations: Sequence[tuple[list[int], list[int]]]) -> tuple[list[int], list[int], list[int]]:
    """Conversations (token ids, labels) -> ids, labels and branches of one sample, with the common prefix once.

    The prefix ends one token before the first label, so that no label is predicted from another branch.
    """
    if len(conversations) == 1:
        ids, labels = conversations[0]
        return ids, labels, [0] * len(ids)
    first_label = min(
        next(position for position, label in enumerate(labels) if label != NO_LOSS) for _, labels in conversations
    )
    columns = zip(*(tokens[: first_label - 1] for tokens, _ in conversations), strict=True)
    prefix = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    ids = list(conversations[0][0][:prefix])
    joined, branches = [NO_LOSS] * prefix, [0] * prefix
    for number, (tokens, labels) in enumerate(conversations, start=1):
        ids += tokens[prefix:]
        joined += labels[prefix:]
        branches += [number] * (len(tokens) - prefix)
    return ids, joined, branches


def folded_batch(sequences: Sequence[Sequence[Sample]], pad_token_id: int, length: int | None = None) -> dict[str, Any]:
    """Samples of each sequence -> a batch for the model, one row of all of them.

    Args:
        length: tokens of the row, filled with padding; None: no padding.

    Returns:
        input_ids, position_ids, labels [1, F]; folds: of each sample the lengths of its prefix and branches; with
        images, pixel_values [S, 3, P, Lmax*P] and tgt_sizes [S, 2].
    """
    samples = [sample for samples in sequences for sample in samples]
    folds = [sample.lengths for sample in samples]
    left = max(length or 1, filled := sum(map(sum, folds))) - filled  # truncated samples may leave nothing
    row = packed_batch([samples], filled + left, pad_token_id, mask=False)
    return {**row, "folds": [*folds, [left]] if left else folds}


def packed_batch(
    sequences: Sequence[Sequence[Sample]], capacity: int, pad_token_id: int, mask: bool = True
) -> dict[str, torch.Tensor]:
    """Samples of each sequence -> a batch for the model, one row for each sequence.

    Returns:
        input_ids, position_ids, labels [B, capacity]; if a sample has branches, and with mask, attention_mask
        [B, 1, capacity, capacity]; with images, pixel_values [S, 3, P, Lmax*P] and tgt_sizes [S, 2].

    The first token of a sample has no label, as it would be predicted from the sample before it.
    """
    rows = []
    for samples in sequences:
        left = capacity - sum(map(len, samples))
        assert left >= 0, "more tokens than a sequence holds"
        positions = [sample.positions for sample in samples] + [torch.zeros(left, dtype=torch.long)]
        ids = [sample.input_ids for sample in samples] + [torch.full((left,), pad_token_id)]
        labels = [sample.labels for sample in samples] + [torch.full((left,), NO_LOSS)]
        rows.append((torch.cat(ids), torch.cat(positions), torch.cat(labels)))
    input_ids, position_ids, targets = (torch.stack(column) for column in zip(*rows, strict=True))
    batch = {"input_ids": input_ids, "position_ids": position_ids, "labels": targets.where(position_ids > 0, NO_LOSS)}
    if mask and any(sample.branches.any() for samples in sequences for sample in samples):
        batch["attention_mask"] = branch_mask(sequences, capacity)
    return batch | image_tensors([sample for samples in sequences for sample in samples])


def branch_mask(sequences: Sequence[Sequence[Sample]], capacity: int) -> torch.Tensor:
    """[B, 1, capacity, capacity], true where the token of a row attends to that of a column.

    A token attends to earlier tokens of its sample, in the prefix and in its branch. Padding attends to itself, so that
    no row is empty.
    """
    groups = torch.full((2, len(sequences), capacity), -1)  # of each token: its sample, its branch
    for row, samples in enumerate(sequences):
        lengths = torch.tensor([len(sample) for sample in samples])
        filled = int(lengths.sum())
        groups[0, row, :filled] = torch.arange(len(samples)).repeat_interleave(lengths)
        groups[1, row, :filled] = torch.cat([sample.branches for sample in samples])
    (sample, branch), causal = groups, torch.ones(capacity, capacity, dtype=torch.bool).tril()
    same_sample = sample[:, :, None] == sample[:, None, :]
    visible = (branch[:, None, :] == 0) | (branch[:, :, None] == branch[:, None, :])
    mask: torch.Tensor = causal & same_sample & visible
    return mask.unsqueeze(1)


def image_tensors(samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
    """pixel_values [S, 3, P, Lmax*P] and tgt_sizes [S, 2] of all samples; empty without images."""
    slices = [pixels for sample in samples for pixels in sample.slices]
    if not slices:
        return {}
    return {"pixel_values": pack_slices(slices), "tgt_sizes": torch.cat([sample.tgt_sizes for sample in samples])}


def content_tokens(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Number of tokens of a packed batch that are not padding. Padding and the first token of a sample are at 0."""
    positions = batch["position_ids"]
    first = (positions[:, :-1] == 0) & (positions[:, 1:] == 1)
    count: torch.Tensor = (positions > 0).sum() + first.sum()
    return count
