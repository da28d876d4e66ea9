"""The table of builds."""

from edge.runtime.installed import Installed
from edge.runtime.speed import Speed, spread, table


def test_builds_are_compared_with_the_first() -> None:
    portable = Installed("portable", "x86_64", ("SSE42",), "1", "c++", 100.4)
    host = Installed("host", "x86_64", ("SSE42", "AVX"), "1", "c++", 20.0)
    phone = Installed("aarch64", "aarch64", (), "1", "c++", 90.0)
    speeds = {"portable": Speed([30, 20, 40], [10, 10, 10]), "host": Speed([90, 90, 90], [15, 25, 20])}
    lines = table([portable, host, phone], speeds).splitlines()
    assert lines[2:] == [
        "| portable | SSE42 | 100 | 30 (20-40) | 10 (10-10) | 1.00 | 1.00 |",
        "| host | SSE42 AVX | 20 | 90 (90-90) | 20 (15-25) | 3.00 | 2.00 |",
        "| aarch64 | - | 90 | not run here | not run here | - | - |",
    ]
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")


def test_the_spread_is_a_median_and_a_range() -> None:
    assert spread([3, 1, 2, 10]) == "2 (1-10)"
