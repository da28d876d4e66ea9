"""Which configurations are tried."""

import pytest

from edge.settings import Settings
from edge.tuning.space import choose, space, thread_counts
from rlaif.config.tune import TuneSection
from rlaif.errors import ConfigError


def test_threads_are_powers_of_two_and_all_cores() -> None:
    assert [thread_counts(cores) for cores in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_every_combination_that_llama_cpp_takes() -> None:
    section = TuneSection(
        threads=[3],
        batches=[64],
        ubatches=[128, 32],
        flash_attention=["off", "on"],
        kv_types=["f16", "q8_0"],
        repack=[True],
    )
    assert space(section, 8, ["host"]) == [
        Settings(3, 64, 32, "off", "f16", True, "host"),
        Settings(3, 64, 32, "on", "f16", True, "host"),
        Settings(3, 64, 32, "on", "q8_0", True, "host"),
    ]


def test_the_size_of_the_default_space() -> None:
    """Threads 1 and 2; 5 pairs of batch and ubatch; 3 of flash attention and KV type; repacking or not; two builds."""
    found = space(TuneSection(), 2, ["host", "portable"])
    assert len(found) == len(set(found)) == 2 * 5 * 3 * 2 * 2


def test_too_many_configurations_are_drawn_by_the_seed() -> None:
    found = space(TuneSection(), 2, ["host"])
    drawn = choose(found, 10, seed=1)
    assert len(set(drawn)) == 10 and set(drawn) <= set(found)
    assert drawn == choose(found, 10, seed=1) != choose(found, 10, seed=2)
    assert choose(found, 100, seed=1) == found


def test_an_empty_space_and_an_absent_build_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^edge.tune allows no configuration; expected a ubatch that is not larger"):
        space(TuneSection(batches=[8], ubatches=[64]), 2, ["host"])
    message = r"^edge.tune.builds names avx2; expected builds that are here: host; run `make edge-runtime TARGET=avx2`"
    with pytest.raises(ConfigError, match=message):
        space(TuneSection(builds=["host", "avx2"]), 2, ["host"])
