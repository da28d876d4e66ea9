"""Data packing (paper section 4.1): samples of different lengths laid into sequences of one fixed length.

Why: a batch is as long as its longest sample, and captions, questions and long answers differ by a factor of ten, so
that most of a padded batch is padding.

A packed sequence is `[sample | sample | ... | padding]`. Positions start again at 0 with each sample, and are 0 for
padding, so that each padding token is a sample of its own; given no
attention mask and no cache (`use_cache`), transformers reads from them where samples begin and keeps them apart (a
block of the mask with sdpa and flex attention, lengths with FlashAttention). Images travel with their sample: the model
puts features in the places of the placeholders in reading order, so a batch's slices stand in the order of its rows.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence

from model.image_processing import pack_slices
from model.processing import NO_LOSS


@dataclass(frozen=True)
class Sample:
    """A conversation ready for training.

    input_ids, labels [T] (NO_LOSS: not learnt); slices: the views of its images in reading order, [3, P, L*P] each,
    with their sizes in patches tgt_sizes [S, 2].
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    slices: list[torch.Tensor]
    tgt_sizes: torch.Tensor

    def __len__(self) -> int:
        return len(self.input_ids)

    def truncated(self, length: int, image_token_id: int) -> "Sample | None":
        """The first `length` tokens or fewer: a view of an image is kept whole or cut before its first placeholder.

        None where nothing that is learnt would be left.
        """
        if len(self) <= length:
            return self
        places = (self.input_ids == image_token_id).nonzero()[:, 0]
        kept = 0
        if len(self.slices):
            queries = len(places) // len(self.slices)
            kept = int((places < length).sum()) // queries
            if kept < len(self.slices):
                length = min(length, int(places[kept * queries]))
        labels = self.labels[:length]
        if (labels == NO_LOSS).all():
            return None
        return Sample(self.input_ids[:length], labels, self.slices[:kept], self.tgt_sizes[:kept])


def pack_in_order(lengths: Sequence[int], capacity: int) -> list[list[tuple[int, int]]]:
    """As in the paper: samples follow one another, and the last one of a sequence is truncated, its rest lost.

    Returns, for each sequence of `capacity` tokens, its (sample, tokens kept).
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
    """Truncates nothing: longest first, each sample goes where it leaves the least room (best fit decreasing, at most
    11/9 of the fewest sequences, and one more).

    Errors: ValueError for a sample longer than `capacity`.
    """
    packs: list[list[tuple[int, int]]] = []
    rooms: list[tuple[int, int]] = []  # (tokens left, pack), sorted
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        length = lengths[index]
        if length > capacity:
            raise ValueError(
                f"sample {index} has {length} tokens, a sequence {capacity}; pack longer sequences, or in order, which "
                "truncates"
            )
        place = bisect_left(rooms, (length, 0))
        if place == len(rooms):
            room, pack = capacity, len(packs)
            packs.append([])
        else:
            room, pack = rooms.pop(place)
        packs[pack].append((index, length))
        if room > length:
            insort(rooms, (room - length, pack))
    return packs


def packed_batch(sequences: Sequence[Sequence[Sample]], capacity: int, pad_token_id: int) -> dict[str, torch.Tensor]:
    """Samples of each sequence -> input_ids, position_ids, labels [B, capacity], and with images pixel_values
    [N, 3, P, Lmax*P] and tgt_sizes [N, 2].

    The first token of a sample is no label, as the model would predict it from the sample before.
    """
    rows = []
    for samples in sequences:
        left = capacity - sum(map(len, samples))
        assert left >= 0, "more tokens than a sequence holds"
        positions = [torch.arange(len(sample)) for sample in samples] + [torch.zeros(left, dtype=torch.long)]
        ids = [sample.input_ids for sample in samples] + [torch.full((left,), pad_token_id)]
        labels = [sample.labels for sample in samples] + [torch.full((left,), NO_LOSS)]
        rows.append((torch.cat(ids), torch.cat(positions), torch.cat(labels)))
    input_ids, position_ids, targets = (torch.stack(column) for column in zip(*rows, strict=True))
    batch = {"input_ids": input_ids, "position_ids": position_ids, "labels": targets.where(position_ids > 0, NO_LOSS)}
    return batch | image_tensors([sample for samples in sequences for sample in samples])


def padded_batch(samples: Sequence[Sample], pad_token_id: int) -> dict[str, torch.Tensor]:
    """One sample a sequence, as long as the longest: input_ids, attention_mask, labels [B, T], and the images as in
    `packed_batch`.
    """

    def padded(rows: list[torch.Tensor], fill: int) -> torch.Tensor:
        return pad_sequence(rows, batch_first=True, padding_value=fill)

    batch = {
        "input_ids": padded([sample.input_ids for sample in samples], pad_token_id),
        "attention_mask": padded([torch.ones_like(sample.input_ids) for sample in samples], 0),
        "labels": padded([sample.labels for sample in samples], NO_LOSS),
    }
    return batch | image_tensors(samples)


def image_tensors(samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
    slices = [view for sample in samples for view in sample.slices]
    if not slices:
        return {}
    return {"pixel_values": pack_slices(slices), "tgt_sizes": torch.cat([sample.tgt_sizes for sample in samples])}


def content_tokens(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """How many tokens of a packed or padded batch are no padding."""
    if "attention_mask" in batch:
        return batch["attention_mask"].sum()
    positions = batch["position_ids"]
    return (positions > 0).sum() + (positions == 1).sum()  # each sample has one token at 0 and one at 1
