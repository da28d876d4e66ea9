"""Results of benchmarks: the ratio of two rates that are measured in turn on one machine, with its spread."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rlaif.storage.files import atomic_write, read_json

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Result:
    """ratio: ours / peer, median of the repeats; low, high: smallest and largest ratio; ours, peer: median rates."""

    ratio: float
    low: float
    high: float
    ours: float
    peer: float
    unit: str


def compare_rates(ours: Sequence[float], peer: Sequence[float], unit: str) -> Result:
    """The result of two lists of rates, one of each per repeat."""
    ratios = [our_rate / peer_rate for our_rate, peer_rate in zip(ours, peer, strict=True)]
    return Result(
        round(statistics.median(ratios), 2),
        round(min(ratios), 2),
        round(max(ratios), 2),
        round(statistics.median(ours), 3),
        round(statistics.median(peer), 3),
        unit,
    )


def machine() -> str:
    """The machine in words: cores, GPUs, versions."""
    import torch  # deferred: bench.comparisons.startup measures its import

    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    cores = f"{len(os.sched_getaffinity(0))} cores of {names[0] if names else platform.processor()}"
    parts = [cores, *gpus]
    return f"{', '.join(parts)}; {platform.system()}, Python {platform.python_version()}, torch {torch.__version__}"


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


def write(results: dict[str, Result], folder: Path = RESULTS) -> None:
    """Add results to latest.json; other results in it stay."""
    folder.mkdir(exist_ok=True)
    kept = _latest(folder) | {name: {**asdict(result), "machine": machine()} for name, result in results.items()}
    with atomic_write(folder / "latest.json") as temporary:
        temporary.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n", encoding="utf-8")


def read(folder: Path = RESULTS) -> dict[str, Result]:
    """The results in latest.json, by benchmark."""
    return {
        name: Result(**{field.name: stored[field.name] for field in fields(Result)})
        for name, stored in _latest(folder).items()
    }


def _latest(folder: Path) -> dict[str, dict[str, Any]]:
    file = folder / "latest.json"
    stored: dict[str, dict[str, Any]] = read_json(file) if file.is_file() else {}
    return stored


def table(results: dict[str, Result]) -> str:
    """Results as a Markdown table."""
    lines = ["| name | ratio | spread | ours | peer | unit |", "|---|---|---|---|---|---|"]
    for name, result in results.items():
        spread = f"{result.low:g} to {result.high:g}"
        rates = f"{result.ours:,.4g} | {result.peer:,.4g}"
        lines.append(f"| {name} | {result.ratio:g} | {spread} | {rates} | {result.unit} |")
    return "\n".join(lines)
