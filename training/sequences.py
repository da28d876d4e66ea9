"""The sequences of a training: which samples of which tables are packed together, and in which order."""

import random
from collections.abc import Sequence

from torch.utils.data import Dataset

from rlaif.config import TrainingConfig
from training.conversations import Conversations
from training.packing import Sample, pack_best_fit, pack_in_order
from training.paper_stages import order_of

Packed = tuple[int, int, int]  # table, row, tokens kept


class Sequences(Dataset[list[Sample]]):
    """Number of a sequence -> its samples."""

    def __init__(self, tables: Sequence[Conversations], config: TrainingConfig, image_token_id: int) -> None:
        self.tables, self.image_token_id = tables, image_token_id
        self.packs: list[list[Packed]] = []
        rng = random.Random(config.seed)
        groups = [[(number, row) for row in range(len(table))] for number, table in enumerate(tables)]
        if order_of(config) == "mixed":
            groups = [[row for group in groups for row in group]]
        for group in groups:
            rng.shuffle(group)
            lengths = [tables[number].lengths[row] for number, row in group]
            if config.packing == "in_order":
                packs = pack_in_order(lengths, config.sequence_length)
            elif config.packing == "best_fit":
                packs = pack_best_fit(lengths, config.sequence_length)
                rng.shuffle(packs)
            else:
                packs = [[(index, length)] for index, length in enumerate(lengths)]
            self.packs += [[(*group[index], kept) for index, kept in pack] for pack in packs]

    def __len__(self) -> int:
        return len(self.packs)

    def __getitem__(self, index: int) -> list[Sample]:
        samples = (
            self.tables[table][row].truncated(kept, self.image_token_id) for table, row, kept in self.packs[index]
        )
        return [sample for sample in samples if sample is not None]
