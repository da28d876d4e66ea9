"""The bench of `make browse` runs, at a size at which its figures mean nothing."""

import pytest

from bench.comparisons.browse import PAGES, main


@pytest.mark.slow
def test_every_page_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--pairs", "40", "--repeats", "1"]) == 0
    shown = capsys.readouterr().out
    assert all(f"| {name} | " in shown for name, _ in PAGES)
