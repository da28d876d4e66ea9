"""The benchmarks run, at a size at which their figures mean nothing."""

from pathlib import Path

import pytest

from bench import packing, pairs


def test_packing_is_measured_against_padding(capsys: pytest.CaptureFixture[str]) -> None:
    small = {"width": 128, "layers": 1, "sequence-length": 768, "batch": 4, "packed-batch": 1, "rows": 12}
    packing.main([f"--{name}={value}" for name, value in small.items()])
    told = capsys.readouterr().out
    assert "12 rows" in told and '"padded"' in told
    assert "times as many tokens of content a second" in told.splitlines()[-1]


def test_pairs_are_measured_against_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    pairs.main(["--responses", "30", "60", "--reference-up-to", "30"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:4] for line in lines[1:]] == [
        ["30", "300", "reference", "6"],
        ["30", "300", "ours", "6"],
        ["60", "600", "ours", "12"],
    ]
    assert float(lines[2][-1]) > 0  # the ratio


def test_both_ways_find_as_many_pairs(tmp_path: Path) -> None:
    pairs.write_run(tmp_path / "run", 200)
    pairs.write_reference_files(tmp_path / "files", 200)
    assert pairs.ours(tmp_path / "run") == pairs.reference(tmp_path / "files") == 40
