"""Records measured figures in docs/results/<name>.json, which the documentation shows.

    make demo && make demo RUN=runs/seed-1 SET="seed=1"
    make results NAME=demo RUNS="runs/demo runs/seed-1"
    python -m bench.record rounds runs/rounds runs/rounds-1
    make cost > cost.txt && python -m bench.record cost cost.txt

The sources of demo, rounds, ablations, best-of-n, benchmarks, rewrite-captions and labeler-precision are run folders;
those of other results are files with the output of a command, whose Markdown tables are recorded.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.figures.results import RESULTS, ROOT, ResultFile, read_result, result_names, write_result
from bench.result import machine
from rlaif.command import exit_status
from rlaif.errors import InputError
from rlaif.storage.files import read_json

Metrics = dict[str, Any]


def demo(folders: Sequence[Path]) -> Metrics:
    """By seed: figures before and after alignment, and of the labeler."""
    sections = ("before", "after", "change", "labeler", "short_answers", "intervals")
    return {
        seed: pick(metrics, sections) for seed, (_, metrics) in by_seed(folders, "before", "after", "intervals").items()
    }


def rounds(folders: Sequence[Path]) -> Metrics:
    """By seed: every candidate on validation, and the chosen one on the test split."""
    figures = {}
    for seed, (folder, metrics) in by_seed(folders, "before", "after").items():
        if not (folder / "rounds.json").is_file():
            raise InputError(f"{folder} has no rounds.json; name the folder of a finished `make rounds`")
        history = read_json(folder / "rounds.json")
        candidates = [pick(candidate, ("name", "round", "figures", "intervals")) for candidate in history["candidates"]]
        figures[seed] = {
            "chosen": candidates[history["chosen"]]["name"],
            **pick(metrics, ("before", "after", "change", "short_answers", "intervals")),
            "candidates": candidates,
        }
    return figures


def ablations(folders: Sequence[Path]) -> Metrics:
    """By variant of configs/ablations.yaml that ran; without minutes, which depend on what else the machine did."""
    from rlaif.config import AblationsConfig
    from rlaif.config.load import load_config_of
    from rlaif.pipelines.ablations import folder_name

    sections = ("before", "after", "labeler", "short_answers", "intervals")
    config = load_config_of(AblationsConfig, ROOT / "configs" / "ablations.yaml")
    variants = {name: only(folders) / folder_name(name) for name in config.variants}
    figures = {
        name: pick(read_metrics(folder), sections)
        for name, folder in variants.items()
        if (folder / "metrics.json").is_file()
    }
    if not figures:
        raise InputError(
            f"{only(folders)} has no variant of configs/ablations.yaml; name the folder of `make ablations`"
        )
    return figures


def best_of_n(folders: Sequence[Path]) -> Metrics:
    """By sampling temperature, selector and N."""
    figures = {}
    for folder in folders:
        metrics = read_metrics(folder / "best-of-n", "best_of_n")
        sampling = read_json(folder / "best-of-n" / "generation.json")["settings"]["generation"]
        temperature = str(sampling["temperature"])
        if temperature in figures:
            raise InputError(f"{folder} has temperature {temperature} again; name one run of each temperature")
        figures[temperature] = {
            **metrics["best_of_n"],
            "intervals": metrics["intervals"]["best_of_n"],
        }
    return figures


def benchmarks(folders: Sequence[Path]) -> Metrics:
    """By benchmark: figures and intervals before and after alignment, without the ids of the images."""
    section: Metrics = read_metrics(only(folders), "benchmarks")["benchmarks"]
    return {
        name: {which: {key: value for key, value in side.items() if key != "images"} for which, side in sides.items()}
        for name, sides in section.items()
    }


def captions(folders: Sequence[Path]) -> Metrics:
    """Shares of captions with an error: all raw captions, the kept ones, and the kept ones after rewriting."""
    metrics = read_metrics(only(folders), "rewrites")
    return {**metrics["rewrites"], "intervals": metrics["intervals"]["rewrites"]}


def labeler_precision(folders: Sequence[Path]) -> Metrics:
    """By run: the share of its labeler's verdicts that are right, and Cohen's kappa of the two."""
    from evaluation.compare_labelers import compare

    names = {folder.name for folder in folders}
    if len(folders) != 2 or len(names) != 2:
        raise InputError(
            f"got {len(folders)} run folders with {len(names)} names; name two runs of different labelers, with "
            'different names: RUNS="runs/demo runs/bfloat16"'
        )
    first, second, agreement = compare(folders[0], folders[1])
    return {
        side.path.name: {"accuracy": side.calibration.accuracy(), "kappa": agreement.kappa()}
        for side in (first, second)
    }


FROM_RUNS: dict[str, tuple[str, str, Callable[[Sequence[Path]], Metrics]]] = {  # name -> title, command, reader
    "demo": ("One round of alignment on the embedded scenes", 'make demo SET="seed=N"', demo),
    "rounds": ("Four rounds of alignment on the embedded scenes", 'make rounds SET="seed=N"', rounds),
    "ablations": ("The demo with one setting changed at a time", "make ablations", ablations),
    "best-of-n": ("The best of N answers of the aligned policy", "make best-of-n N=16", best_of_n),
    "benchmarks": ("Public benchmarks on embedded scenes", "make benchmark NAME=...", benchmarks),
    "rewrite-captions": ("Captions before and after rewriting", "make rewrite-captions", captions),
    "labeler-precision": (
        "The embedded labeler in two precisions on the answers of the demo",
        'make compare-labelers RUNS="runs/demo runs/bfloat16"',
        labeler_precision,
    ),
}


def by_seed(folders: Sequence[Path], *sections: str) -> dict[str, tuple[Path, Metrics]]:
    """The folder and metrics of each seed. Errors: InputError if one lacks a section, or if two have one seed."""
    runs: dict[str, tuple[Path, Metrics]] = {}
    for folder in folders:
        metrics = read_metrics(folder, "seeds", *sections)
        seed = str(metrics["seeds"]["seed"])
        if seed in runs:
            raise InputError(f"{runs[seed][0]} and {folder} both have seed {seed}; name one run of each seed")
        runs[seed] = folder, metrics
    return runs


def pick(section: Metrics, names: Sequence[str]) -> Metrics:
    return {name: section[name] for name in names if name in section}


def only(folders: Sequence[Path]) -> Path:
    """The only folder. Errors: InputError if there are several."""
    if len(folders) != 1:
        raise InputError(f"got {len(folders)} run folders; this result is recorded from exactly one")
    return folders[0]


def read_metrics(folder: Path, *sections: str) -> Metrics:
    """metrics.json of a run. Errors: InputError if it has none yet, or lacks one of the sections."""
    file = folder / "metrics.json"
    if not file.is_file():
        raise InputError(f"{file} does not exist; name the folder of a finished run")
    metrics: Metrics = read_json(file)
    if missing := [section for section in sections if section not in metrics]:
        raise InputError(f"{file} has no {missing[0]!r}; name the folder of a run that has got so far")
    return metrics


def tables_in(output: str) -> list[Metrics]:
    """The Markdown tables of a command's output, as columns and rows of texts."""
    tables: list[Metrics] = []
    columns: list[str] | None = None
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        if not line.startswith("|"):
            columns = None
        elif columns is None:
            columns = cells
            tables.append({"columns": columns, "rows": []})
        elif set(line) != {"|", "-"}:
            tables[-1]["rows"].append(cells)
    return tables


def figures_of(name: str, sources: Sequence[Path]) -> Metrics:
    """The figures of a result, from run folders or from printed tables. Errors: InputError."""
    if name in FROM_RUNS:
        return FROM_RUNS[name][2](sources)
    if others := [source for source in sources if not source.is_file()]:
        raise InputError(
            f"{others[0]} is not a file; {name!r} is recorded from files with the output of a command, and only "
            f"{', '.join(FROM_RUNS)} from run folders"
        )
    tables = [table for source in sources for table in tables_in(source.read_text(encoding="utf-8"))]
    if not tables:
        raise InputError(
            f"no Markdown table in {', '.join(map(str, sources))}; expected files with the output of a command"
        )
    return {"tables": tables}


def commit() -> str:
    """The commit of this checkout; `unknown` outside of git, with `+changes` if files differ from it."""
    git = ("git", "-C", str(ROOT))
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode:
        return "unknown"
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], check=False).returncode
    return head.stdout.strip() + ("+changes" if changed else "")


def record(name: str, sources: Sequence[Path], file: Path, title: str = "", command: str = "", note: str = "") -> None:
    """Write a result file; an empty title or command is taken from the file it replaces. Errors: InputError."""
    known = read_result(file.stem, file.parent) if file.stem in result_names(file.parent) else None
    default_title, default_command = FROM_RUNS[name][:2] if name in FROM_RUNS else ("", "")
    result = ResultFile(
        title=title or (known.title if known else default_title),
        command=command or (known.command if known else default_command),
        date=datetime.now(UTC).date().isoformat(),
        commit=commit(),
        machine=machine(),
        note=note,
        figures=figures_of(name, sources),
    )
    if not (result.title and result.command):
        raise InputError(f"{name} has no result file yet; describe it with --title and --command")
    write_result(result, file)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.record", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("name", metavar="NAME", help=f"the result: {', '.join(FROM_RUNS)}, or that of another command")
    add("sources", nargs="+", type=Path, metavar="SOURCE", help="run folders, or files with the output of a command")
    add("--out", type=Path, metavar="FILE", help="default docs/results/NAME.json")
    add("--title", default="", help="title of a new result")
    add("--command", default="", help="command of a new result")
    add("--note", default="", help="note for the reader")
    arguments = parser.parse_args(argv)
    file = arguments.out or RESULTS / f"{arguments.name}.json"

    def run() -> None:
        record(arguments.name, arguments.sources, file, arguments.title, arguments.command, arguments.note)
        print(f"wrote {file}; next: make figures")

    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
