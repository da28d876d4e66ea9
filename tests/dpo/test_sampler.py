"""The order of pairs: a permutation, whole prompts in a batch where they fit, the same order for the same seed."""

import random
from collections import Counter

import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler, prepare_data_loader, skip_first_batches
from torch.utils.data import DataLoader

from dpo.sampler import PromptSampler, in_batches


def batches(prompts: list[int], size: int, order: list[int] | None = None) -> list[list[int]]:
    """The prompts of each batch."""
    indices = list(in_batches(prompts, range(len(prompts)) if order is None else order, size))
    assert sorted(indices) == list(range(len(prompts)))  # each pair once
    return [[prompts[index] for index in indices[start : start + size]] for start in range(0, len(indices), size)]


def test_pairs_of_a_prompt_come_together_literally() -> None:
    assert list(in_batches([7, 8, 7, 8], range(4), 2)) == [0, 2, 1, 3]
    assert list(in_batches([7, 8, 7, 8], [3, 2, 1, 0], 2)) == [3, 1, 2, 0]
    assert batches([1, 2, 2, 3], 2) == [[1, 3], [2, 2]]  # 2 does not fit beside 1, 3 does
    assert batches([1, 2, 2, 3, 3, 4, 4], 2) == [[1, 2], [3, 3], [4, 4], [2]]  # 2 is divided, and no other one
    assert batches([1] * 5 + [2], 2) == [[1, 1], [1, 1], [1, 2]]  # more pairs than a batch
    assert batches([1, 1, 2], 1) == [[1], [1], [2]]


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_batches_are_full_and_few_prompts_are_divided(size: int) -> None:
    rng = random.Random(size)
    prompts = [prompt for prompt in range(300) for _ in range(rng.randint(1, 4))]
    rng.shuffle(prompts)
    made = batches(prompts, size)
    assert [len(batch) for batch in made[:-1]] == [size] * (len(made) - 1)
    parts = Counter(prompt for batch in made for prompt in set(batch))
    needed = {prompt: -(-count // size) for prompt, count in Counter(prompts).items()}
    divided = sum(parts[prompt] > needed[prompt] for prompt in needed)
    assert divided <= 0.02 * len(needed) + 1
    usual = [set(prompts[start : start + size]) for start in range(0, len(prompts), size)]
    assert size == 1 or sum(map(len, usual)) > 1.5 * sum(parts.values())  # negative control


def test_without_a_second_pair_it_is_the_order_of_trainer() -> None:
    ours = PromptSampler(list(range(50)), 4, seed=3)
    torch.manual_seed(3)
    theirs = SeedableRandomSampler(range(50))
    for epoch in (0, 1, 5):
        ours.set_epoch(epoch)
        theirs.set_epoch(epoch)
        assert list(ours) == list(theirs)
    assert len(ours) == 50


@pytest.mark.parametrize("skipped", [0, 3])
def test_processes_and_a_resumed_epoch_take_whole_prompts_in_turn(skipped: int) -> None:
    """As accelerate divides the batches: process r of 2 has every second one, and skips those that are done."""
    prompts = [index // 2 for index in range(64)]

    def epoch(number: int) -> list[list[list[int]]]:
        """Of each process, its batches."""
        parts = []
        for process in range(2):
            sampler = PromptSampler(prompts, 4, seed=0)
            loader = prepare_data_loader(
                DataLoader(range(64), batch_size=4),  # type: ignore[arg-type]
                num_processes=2,
                process_index=process,
                put_on_device=False,
            )
            loader.set_sampler(sampler)
            loader = skip_first_batches(loader, skipped)
            loader.set_epoch(number)  # as Trainer does
            parts.append([batch.tolist() for batch in loader])
        return parts

    sampler = PromptSampler(prompts, 4, seed=0)
    sampler.set_epoch(1)
    order = list(sampler)
    expected = [order[start : start + 4] for start in range(0, 64, 4)]
    assert epoch(1) == [expected[2 * skipped :: 2], expected[2 * skipped + 1 :: 2]]
    assert epoch(0) != epoch(1)
    for batch in expected:
        assert Counter(prompts[index] for index in batch).most_common()[-1][1] == 2


def test_epochs_differ_and_repeat() -> None:
    prompts = [index // 2 for index in range(40)]
    sampler = PromptSampler(prompts, 4, seed=0)
    first = list(sampler)
    assert first == list(sampler) == list(PromptSampler(prompts, 4, seed=0))
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert {tuple(sorted(prompts[index] for index in first[:4]))} != {(0, 0, 1, 1)}  # random across prompts
