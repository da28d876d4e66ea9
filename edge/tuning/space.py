"""The configurations of a search: every allowed combination of the listed values. Pure."""

import random
from collections.abc import Sequence
from itertools import product

from edge.settings import Settings
from rlaif.config.tune import TuneSection
from rlaif.errors import ConfigError


def thread_counts(cores: int) -> list[int]:
    """1, 2, 4 ... up to the number of cores, and that number; more threads than cores wait for each other."""
    counts = [2**power for power in range(cores.bit_length()) if 2**power < cores]
    return [*counts, cores]


def space(section: TuneSection, cores: int, builds: Sequence[str]) -> list[Settings]:
    """Every combination that llama.cpp takes: it computes no more tokens at once than a batch has, and reads a
    quantized KV cache only with flash attention.

    builds: those that are installed. Errors: ConfigError where a listed build is not one of them, or nothing is left.
    """
    if unknown := sorted(set(section.builds) - set(builds)):
        raise ConfigError(
            f"edge.tune.builds names {unknown[0]}; expected builds that are here: {', '.join(builds) or 'none'}; run "
            f"`make edge-runtime TARGET={unknown[0]}`"
        )
    values = product(
        section.threads or thread_counts(cores),
        section.batches,
        section.ubatches,
        section.flash_attention,
        section.kv_types,
        section.repack,
        section.builds or builds,
    )
    found = [
        Settings(threads, batch, ubatch, flash_attention, kv_type, repack, build)
        for threads, batch, ubatch, flash_attention, kv_type, repack, build in values
        if ubatch <= batch and (kv_type == "f16" or flash_attention == "on")
    ]
    if not found:
        raise ConfigError(
            "edge.tune allows no configuration; expected a ubatch that is not larger than its batch, and flash "
            "attention on for a quantized KV cache; add such values"
        )
    return found


def choose(configurations: Sequence[Settings], count: int, seed: int) -> list[Settings]:
    """All, or `count` of them at random, the same for a seed."""
    if len(configurations) <= count:
        return list(configurations)
    return random.Random(seed).sample(list(configurations), count)
