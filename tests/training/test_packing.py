"""Packing: what lands where, and that a packed batch computes what its samples do alone."""

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor
from model.image_processing import pack_slices
from model.processing import NO_LOSS
from model.shared_prefix import dense_mask
from tests.support.tiny import load_model, noise_image
from training.packing import (
    Sample,
    content_tokens,
    folded_batch,
    pack_best_fit,
    pack_in_order,
    packed_batch,
    share_prefix,
)


def test_in_order_the_last_sample_of_a_sequence_is_truncated() -> None:
    assert pack_in_order([4, 3, 5, 2, 12], 10) == [[(0, 4), (1, 3), (2, 3)], [(3, 2), (4, 8)]]


def test_best_fit_goes_where_the_least_room_is_left() -> None:
    # longest first: 7 opens a sequence (3 left), 6 another (4 left), 4 goes to the second (full), 3 to the first
    assert pack_best_fit([3, 4, 6, 7], 10) == [[(3, 7), (0, 3)], [(2, 6), (1, 4)]]
    with pytest.raises(ValueError, match="sample 1 has 11 tokens, but a sequence has 10"):
        pack_best_fit([3, 11], 10)


@given(st.lists(st.integers(1, 64), max_size=60))
def test_best_fit_loses_nothing_and_fits(lengths: list[int]) -> None:
    packs = pack_best_fit(lengths, 64)
    assert sorted(piece for pack in packs for piece in pack) == list(enumerate(lengths))
    assert all(sum(length for _, length in pack) <= 64 for pack in packs)
    fills = [sum(length for _, length in pack) for pack in packs]
    # what opened a sequence found no room in the ones before it, so no two of them would fit into one
    assert all(one + other > 64 for one, other in combinations(fills, 2))


def sample(processor: MiniCPMVProcessor, question: str, answer: str, size: tuple[int, int] | None) -> Sample:
    turn, learnt = processor.encode_turn(question, has_image=size is not None), processor.encode_answer(answer)
    slices: list[torch.Tensor] = []
    tgt_sizes = torch.zeros(0, 2, dtype=torch.int32)
    if size is not None:
        turn = processor.expand(turn, [size])
        slices, tgt_sizes = processor.image_processor.slice(noise_image(size))
    ids = turn + learnt
    return Sample(
        torch.tensor(ids),
        torch.tensor([NO_LOSS] * len(turn) + learnt),
        torch.zeros(len(ids), dtype=torch.long),
        slices,
        tgt_sizes,
    )


@pytest.fixture
def samples(tiny_model: Path) -> list[Sample]:
    processor = MiniCPMVProcessor.from_pretrained(tiny_model)
    return [
        sample(processor, "Is there a star?", "no", (112, 56)),
        sample(processor, "red circle", "yes yes yes a blue square", None),
        sample(processor, "the picture", "a green star in the top left", (41, 43)),
        sample(processor, "are there", "the red circle is right", (120, 110)),
    ]


def gradients(model: MiniCPMVForConditionalGeneration, batches: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Of the summed loss over all labels."""
    model.zero_grad()
    for batch in batches:
        labels = batch.pop("labels")
        logits = model(**batch).logits[:, :-1]
        torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=NO_LOSS, reduction="sum"
        ).backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def alone(sample: Sample) -> dict[str, Any]:
    batch = {"input_ids": sample.input_ids[None], "labels": sample.labels[None]}
    if sample.slices:
        batch |= {"pixel_values": pack_slices(sample.slices), "tgt_sizes": sample.tgt_sizes}
    return batch


def test_a_packed_batch_gives_what_its_samples_give_alone(tiny_model: Path, samples: list[Sample]) -> None:
    model, processor = load_model(tiny_model)
    model.config.use_cache = False
    capacity = max(len(samples[0]) + len(samples[1]) + len(samples[2]), len(samples[3])) + 5
    batch = packed_batch([samples[:3], samples[3:]], capacity, processor.tokenizer.pad_token_id)
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        together = model(**inputs).logits
        start = 0
        for index, item in enumerate(samples[:3]):
            single = {name: value for name, value in alone(item).items() if name != "labels"}
            piece = together[0, start : start + len(item)]
            assert torch.allclose(piece, model(**single).logits[0], atol=1e-5), index
            start += len(item)
        # negative control: with positions that do not start again, samples see one another
        mixed = model(**inputs | {"position_ids": torch.arange(capacity).expand(2, -1)}).logits
    second = slice(len(samples[0]), len(samples[0]) + len(samples[1]))
    assert (mixed[0, second] - together[0, second]).abs().max() > 1e-3
    folded = folded_batch([samples[:3], samples[3:]], processor.tokenizer.pad_token_id)
    single = gradients(model, [alone(item) for item in samples])
    for layout in (batch, folded):
        packed = gradients(model, [layout])
        assert packed.keys() == single.keys() and len(packed) == len(list(model.parameters()))
        for name in packed:
            assert torch.allclose(packed[name], single[name], atol=1e-5), name


def test_the_first_token_of_a_sample_is_not_learnt_from_the_sample_before() -> None:
    ids = torch.tensor([5, 6, 7])
    item = Sample(ids, ids, torch.zeros(3), [], torch.zeros(0, 2))
    batch = packed_batch([[item, item]], 8, pad_token_id=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 5, 6, 7, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2, 0, 0]]
    assert batch["labels"].tolist() == [[NO_LOSS, 6, 7, NO_LOSS, 6, 7, NO_LOSS, NO_LOSS]]


def test_a_truncated_sample_keeps_whole_views_only(samples: list[Sample], tiny_model: Path) -> None:
    image_token_id = MiniCPMVProcessor.from_pretrained(tiny_model).image_token_id
    item = samples[3]  # an overview and four slices of four placeholders
    positions = (item.input_ids == image_token_id).nonzero()[:, 0].tolist()
    learnt = Sample(item.input_ids, item.input_ids, item.branches, item.slices, item.tgt_sizes)
    cut = learnt.truncated(positions[9], image_token_id)  # in the middle of the third view
    assert cut is not None and len(cut.slices) == 2 and cut.tgt_sizes.tolist() == item.tgt_sizes[:2].tolist()
    assert len(cut) == positions[8] and int((cut.input_ids == image_token_id).sum()) == 8
    assert item.truncated(positions[9], image_token_id) is None  # no answer would be left
    assert item.truncated(len(item), image_token_id) is item


def test_what_conversations_begin_with_stands_once() -> None:
    first = ([1, 2, 3, 4, 5, 6], [NO_LOSS] * 4 + [5, 6])
    second = ([1, 2, 9, 4, 7], [NO_LOSS] * 4 + [7])
    assert share_prefix([first, second]) == (
        [1, 2, 3, 4, 5, 6, 9, 4, 7],
        [NO_LOSS, NO_LOSS, NO_LOSS, NO_LOSS, 5, 6, NO_LOSS, NO_LOSS, 7],
        [0, 0, 1, 1, 1, 1, 2, 2, 2],
    )
    # the same question answered twice: what predicts an answer's first token belongs to its branch
    assert share_prefix([first, ([1, 2, 3, 4, 8], [NO_LOSS] * 4 + [8])]) == (
        [1, 2, 3, 4, 5, 6, 4, 8],
        [NO_LOSS, NO_LOSS, NO_LOSS, NO_LOSS, 5, 6, NO_LOSS, 8],
        [0, 0, 0, 1, 1, 1, 2, 2],
    )
    assert share_prefix([first]) == (*first, [0] * 6)


def test_branches_see_the_prefix_and_themselves() -> None:
    ids = torch.arange(5)
    branched = Sample(ids, ids, torch.tensor([0, 0, 1, 1, 2]), [], torch.zeros(0, 2))
    plain = Sample(ids[:2], ids[:2], torch.zeros(2, dtype=torch.long), [], torch.zeros(0, 2))
    batch = packed_batch([[branched, plain]], 8, pad_token_id=0)
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 2, 0, 1, 0]]
    assert batch["attention_mask"][0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 0, 0, 1],
    ]
    assert content_tokens(batch) == 7


def test_a_folded_batch_is_one_row_that_lists_the_lengths_of_prefixes_and_branches() -> None:
    ids = torch.arange(5)
    branched = Sample(ids, ids, torch.tensor([0, 0, 1, 1, 2]), [], torch.zeros(0, 2))
    plain = Sample(ids[:2], ids[:2], torch.zeros(2, dtype=torch.long), [], torch.zeros(0, 2))
    batch = folded_batch([[branched], [plain, plain]], pad_token_id=9)
    assert batch["input_ids"].tolist() == [[0, 1, 2, 3, 4, 0, 1, 0, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 2, 0, 1, 0, 1]]
    assert batch["labels"].tolist() == [[NO_LOSS, 1, 2, 3, 4, NO_LOSS, 1, NO_LOSS, 1]]
    assert batch["folds"] == [[2, 2, 1], [2], [2]] and "attention_mask" not in batch
    # filled up to a length; and a batch whose samples were all truncated to nothing
    assert folded_batch([[plain]], 9, length=5)["folds"] == [[2], [3]]
    filled = folded_batch([[plain]], 9, length=5)
    assert filled["input_ids"].tolist() == [[0, 1, 9, 9, 9]] and content_tokens(filled) == 2
    assert folded_batch([[]], 9)["folds"] == [[1]]
    # the mask is the one of the dense layout
    dense = packed_batch([[branched, plain]], 7, 9)["attention_mask"]
    assert torch.equal(dense_mask([[2, 2, 1], [2]]), dense)


def test_conversations_about_one_image_give_what_they_give_alone(tiny_model: Path) -> None:
    model, processor = load_model(tiny_model)
    model.config.use_cache = False
    size = (112, 56)
    turns = [("Is there a star?", "no"), ("Is there a red circle?", "yes yes"), ("the picture", "a green star")]
    apart = [sample(processor, question, answer, size) for question, answer in turns]
    rows = [(item.input_ids.tolist(), item.labels.tolist()) for item in apart]
    ids, labels, branches = share_prefix(rows)
    shared = Sample(
        torch.tensor(ids), torch.tensor(labels), torch.tensor(branches), apart[0].slices, apart[0].tgt_sizes
    )
    assert len(shared) < sum(map(len, apart)) - 2 * int((apart[0].input_ids == processor.image_token_id).sum())
    batch = packed_batch([[shared, apart[1]]], len(shared) + len(apart[1]), processor.tokenizer.pad_token_id)
    folded = folded_batch([[shared], [apart[1]]], processor.tokenizer.pad_token_id)
    single = gradients(model, [alone(item) for item in [*apart, apart[1]]])
    for layout in (batch, folded):
        packed = gradients(model, [layout])
        for name in packed:
            assert torch.allclose(packed[name], single[name], atol=1e-5), name
    # negative control: without the mask, a branch sees those before it
    batch = packed_batch([[shared]], len(shared), processor.tokenizer.pad_token_id)
    del batch["attention_mask"]
    mixed, single = gradients(model, [batch]), gradients(model, [alone(item) for item in apart])
    assert max((mixed[name] - single[name]).abs().max() for name in mixed) > 1e-3
