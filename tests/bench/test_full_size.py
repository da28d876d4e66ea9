"""The script for one GPU: order, limits, what is recorded when parts fail; its parts with small models."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import full_size
from bench.full_size import Part, card_name, measure, table
from bench.isolated import PartFailed, reports
from tests.support.kills.reporting import count, die, fail, hang

SIZE = full_size.SMALL


def test_reports_come_as_they_are_made() -> None:
    assert list(reports(60, count, 2, 5)) == [2, 3, 4]


def test_what_was_reported_before_a_failure_is_kept() -> None:
    seen = []
    with pytest.raises(PartFailed, match=r"^ValueError: 12 GiB do not fit$"):
        for value in reports(60, fail):
            seen.append(value)
    assert seen == ["first"]
    with pytest.raises(PartFailed, match="its process died with exit status 3"):
        list(reports(60, die))


def test_a_part_that_takes_too_long_is_ended() -> None:
    with pytest.raises(PartFailed, match=r"took longer than its 0 seconds"):
        list(reports(0.01, hang))


def test_what_a_part_has_started_ends_with_it() -> None:
    received = reports(60, hang)
    child = Path(f"/proc/{next(received)}/stat")
    assert child.exists()
    received.close()
    until = time.monotonic() + 20
    while has_not_ended(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not has_not_ended(child)


def has_not_ended(stat: Path) -> bool:
    """Whether a process runs, by its /proc/PID/stat; one that nobody has waited for is a zombie."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def scripted(name: str, figures: Any) -> Callable[..., Any]:
    """What `reports` would give for parts without a process."""

    def parts(seconds: float, work: Any, folder: Path, size: Any, *arguments: str) -> Any:
        if arguments == ("slow",):
            raise PartFailed(f"took longer than its {seconds:.0f} seconds")
        yield (name, dict(figures)) if work is not full_size.card else ("card", {"product_tflops": 800.0})

    return parts


def test_a_failed_part_is_recorded_and_the_next_one_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"card": Part(full_size.card, 9), "bad": Part(print, 7, ("slow",)), "good": Part(print, 8)}
    monkeypatch.setattr(full_size, "PARTS", parts)
    figures = {"useful_tflops": 360.0, "tokens_per_second": 9000.0, "peak_gib": 70.0}
    monkeypatch.setattr(full_size, "reports", scripted("good", figures))
    saved: list[str] = []
    results = measure(list(parts), SIZE, lambda results: saved.append(json.dumps(results)))
    assert results["bad"]["failed"] == "took longer than its 7 seconds"
    assert results["good"]["share"] == 0.45
    assert "bad" not in json.loads(saved[0]) and "good" not in json.loads(saved[2])  # saved after each
    assert table(results).splitlines()[2:] == [
        "| good | 9,000 | 360 | 45.0% | 70.0 |",
        "bad: took longer than its 7 seconds",
    ]


def test_all_parts_have_one_limit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_size, "MINUTES", 0.01)
    assert measure(["card"], SIZE, lambda results: None)["card"]["failed"] == "not started: the 0.01 minutes are over"


def test_the_limits_of_the_important_parts_fit_the_time() -> None:
    important = list(full_size.PARTS.values())[:5]
    assert sum(part.seconds for part in important) <= 60 * full_size.MINUTES


@pytest.mark.parametrize(("device", "name"), [("NVIDIA H200", "h200"), ("NVIDIA H100 80GB HBM3", "h100-80gb-hbm3")])
def test_the_file_has_the_name_of_the_card(device: str, name: str) -> None:
    assert card_name(device) == name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_parts_run_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For real, but in this process; without a GPU nothing is recorded unless asked for."""

    def here(seconds: float, work: Any, *arguments: Any) -> Any:
        values: list[Any] = []
        work(values.append, *arguments)
        yield from values

    monkeypatch.setattr(full_size, "reports", here)
    file = tmp_path / "test.json"
    full_size.main(["--only", "card", "model", "dpo-ours", "sft-2", "--out", str(file)])
    assert torch.cuda.is_available() or "its figures mean nothing" in capsys.readouterr().out
    recorded = json.loads(file.read_text())
    assert recorded["test"] and list(recorded["parts"]) == ["card", "model", "dpo-ours", "sft-2"]
    for name in ("dpo-ours", "sft-2"):
        figures = recorded["parts"][name]
        assert 0 < figures["share"] < 1 and figures["computed_tflops"] > 0 and figures["tokens_per_second"] > 0
        assert sum(figures["time"].values()) == pytest.approx(1, abs=0.01)


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("shared_engines")
def test_the_engine_samples_and_verifies_with_more_logits_than_tokens(tmp_path: Path) -> None:
    """As at full size, where most ids of the vocabulary are not tokens of the small tokenizer."""
    values: list[tuple[str, dict[str, Any]]] = []
    full_size.model(values.append, tmp_path, SIZE)
    full_size.engine(values.append, tmp_path, SIZE)
    figures = dict(values)
    assert list(figures) == ["model", "engine", "sampling", "verifying"]
    assert all(figures[name]["useful_tflops"] > 0 for name in ("sampling", "verifying"))
