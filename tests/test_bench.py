"""The benchmarks run, at a size at which their figures mean nothing."""

import pytest

from bench import packing


def test_packing_is_measured_against_padding(capsys: pytest.CaptureFixture[str]) -> None:
    small = {"width": 128, "layers": 1, "sequence-length": 768, "batch": 4, "packed-batch": 1, "rows": 12}
    packing.main([f"--{name}={value}" for name, value in small.items()])
    told = capsys.readouterr().out
    assert "12 rows" in told and '"padded"' in told
    assert "times as many tokens of content a second" in told.splitlines()[-1]
