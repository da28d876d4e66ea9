"""What a benchmark found: a ratio of two ways measured in turn on one machine, and its spread."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Result:
    """ratio: ours / peer, the median over the repeats; low, high: the least and the greatest; ours, peer: medians."""

    ratio: float
    low: float
    high: float
    ours: float
    peer: float
    unit: str


def compared(ours: Sequence[float], peer: Sequence[float], unit: str) -> Result:
    """Rates of both ways, one of each a repeat, measured one after the other."""
    ratios = [mine / theirs for mine, theirs in zip(ours, peer, strict=True)]
    return Result(
        round(statistics.median(ratios), 2),
        round(min(ratios), 2),
        round(max(ratios), 2),
        round(statistics.median(ours), 3),
        round(statistics.median(peer), 3),
        unit,
    )


def machine() -> str:
    """What the figures were measured on."""
    import torch  # not above: `bench.startup` measures what importing it takes

    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    cores = f"{len(os.sched_getaffinity(0))} cores of {names[0] if names else platform.processor()}"
    parts = [cores, *gpus]
    return f"{', '.join(parts)}; {platform.system()}, Python {platform.python_version()}, torch {torch.__version__}"


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


def write(found: dict[str, Result], folder: Path = RESULTS) -> None:
    """Put results beside those of other names, in latest.json."""
    folder.mkdir(exist_ok=True)
    kept = _latest(folder) | {name: {**asdict(result), "machine": machine()} for name, result in found.items()}
    (folder / "latest.json").write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n", encoding="utf-8")


def read(folder: Path = RESULTS) -> dict[str, Result]:
    """The results in latest.json, by name."""
    return {
        name: Result(**{field.name: one[field.name] for field in fields(Result)})
        for name, one in _latest(folder).items()
    }


def _latest(folder: Path) -> dict[str, dict[str, Any]]:
    file = folder / "latest.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def table(found: dict[str, Result]) -> str:
    """Markdown."""
    lines = ["| name | ratio | spread | ours | peer | unit |", "|---|---|---|---|---|---|"]
    for name, one in found.items():
        lines.append(
            f"| {name} | {one.ratio:g} | {one.low:g} to {one.high:g} | {one.ours:,.4g} | {one.peer:,.4g} | {one.unit} |"
        )
    return "\n".join(lines)
