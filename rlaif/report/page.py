"""One self-contained page about a run: what changed, how good the labeler is, how training went, pairs to check by eye.

    python -m rlaif.report --config configs/demo.yaml --run runs/demo

Reads metrics.json, claims, responses, pairs, evaluations and dpo/log.json, whichever of them the run has, and writes
report.html. The page needs no network: images are data URIs, plots are inline SVG, and everything that a model or a
user wrote is escaped. The column `reference` of prompts is not read.
"""

import base64
import io
import json
import math
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from rlaif.config import Config
from rlaif.errors import InputError
from rlaif.report.charts import Group, Line, histogram, line_chart
from rlaif.report.sections import benchmarks, change, labeler, percent, read_json, rounds, signed
from rlaif.storage.files import atomic_write
from rlaif.storage.join import join_parts
from rlaif.storage.rows import read_located_parts, read_rows_at, row_locations
from rlaif.storage.run import Run
from rlaif.storage.schemas import COMMANDS, SCHEMAS
from rlaif.storage.tables import count_rows, read_metadata, read_parts
from rlaif.storage.versions import code_version

STAGES = ("generation", "feedback", "dpo", "evaluate")  # in the order they run
PAIRS_SHOWN = 20
IMAGE_SIDE = 480  # pixels of the longer side of an image in the page


def report(config: Config, path: Path) -> Path:
    """Write report.html of a run; returns its path. Errors: InputError for a missing run or a damaged table."""
    run = Run(path, config, "report")
    if not path.is_dir():
        raise InputError(f"no run folder {path}; make one with `make generate RUN={path}`")
    run.announce("one page, report.html, from what the run has so far")
    page = {
        "name": path.resolve().name,
        "round": config.round,
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "code_version": code_version(),
        "change": change(run.metrics()),
        "rounds": rounds(path / "rounds.json"),
        "labeler": labeler(run.metrics()),
        "benchmarks": benchmarks(run.metrics()),
        "training": training(path / "dpo" / "log.json"),
        "lengths": lengths(run),
        "certainty": certainty(run),
        "stages": run.metrics().get("stages", {}),
        "pairs": pairs(run),
        "pairs_in_all": count_rows(run, "pairs") if has(run, "pairs") else 0,
        "provenance": provenance(run),
        "made_by": COMMANDS,
    }
    target = path / "report.html"
    with atomic_write(target) as temporary:
        temporary.write_text(render(page), encoding="utf-8", errors="backslashreplace")  # a path may be no UTF-8
    print(f"  wrote    {target} ({target.stat().st_size / 2**20:.1f} MiB); open it in a browser")
    return target


def render(page: dict[str, Any]) -> str:
    """The page as HTML; every value is escaped except the SVG that rlaif.report.charts made."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "readable": lambda name: str(name).replace("_", " ")}
    return environment.get_template("report.html.j2").render(page)


def training(log: Path) -> list[dict[str, Any]] | None:
    """Curves over optimizer steps from the trainer's log (entries with a `step`); None before `make dpo`."""
    if not log.is_file():
        return None
    entries = read_json(log, "make dpo")

    def line(name: str, tone: str, key: str) -> Line:
        return Line(name, tone, [(entry["step"], entry[key]) for entry in entries if key in entry])

    charts = [
        (
            "Loss",
            [line("loss", "after", "loss"), line("validation", "before", "eval_loss")],
            (entries[0]["loss"], "before the first step"),
        ),
        (
            "Rewards",
            [
                line("margin", "margin", "rewards/margins"),
                line("chosen", "chosen", "rewards/chosen"),
                line("rejected", "rejected", "rewards/rejected"),
            ],
            None,
        ),
    ]
    return [
        {"title": title, "lines": drawn, "svg": line_chart(drawn, x_label="step", level=level)}
        for title, lines, level in charts
        if (drawn := [line for line in lines if line.points])
    ]


def lengths(run: Run) -> list[dict[str, Any]]:
    """Distributions of tokens: chosen beside rejected answers, and answers before beside after, where known."""
    figures = []
    if all(has(run, table) for table in ("prompts", "responses", "pairs")):
        figures.append(("What training saw", pair_lengths(run)))
    if has(run, "evaluations"):
        answers = [
            Group(which, which, numbers(run, "evaluations", "num_tokens", "which", which))
            for which in ("before", "after")
        ]
        figures.append(("What the model says", answers))
    return [
        {"title": title, "groups": groups, "svg": token_histogram(groups)}
        for title, groups in figures
        if all(len(group.values) for group in groups)
    ]


def pair_lengths(run: Run) -> list[Group]:
    """Tokens of the rejected and of the chosen answers of pairs."""
    sides: dict[str, list[np.ndarray]] = {"rejected": [], "chosen": []}
    for _, tables in join_parts(
        read_parts(run, "prompts", ["prompt_id"]),
        responses=read_parts(run, "responses", ["prompt_id", "response_id", "num_tokens"]),
        pairs=read_parts(run, "pairs", ["prompt_id", "chosen_response_id", "rejected_response_id"]),
    ):
        responses, made = tables["responses"].table, tables["pairs"].table
        for side, found in sides.items():
            places = pc.index_in(made[f"{side}_response_id"], responses["response_id"].combine_chunks())
            found.append(responses["num_tokens"].take(places).to_numpy())
    return [Group(side, side, np.concatenate(found) if found else np.array([])) for side, found in sides.items()]


def numbers(run: Run, table: str, column: str, where: str, equals: Any) -> np.ndarray:
    """A column of numbers, where another one has a value: 4 bytes a row, for tables of any length."""
    parts = read_parts(run, table, [column, where])
    return np.concatenate([part.filter(pc.equal(part[where], equals))[column].to_numpy() for part in parts])


def token_histogram(groups: Sequence[Group]) -> Any:
    """Bins of a whole number of tokens, at most 30 of them, from the shortest to the longest answer."""
    low = int(min(min(group.values) for group in groups))
    longest = int(max(max(group.values) for group in groups))
    step = max(1, math.ceil((longest + 1 - low) / 30))
    bins = max(1, math.ceil((longest + 1 - low) / step))
    return histogram(groups, low=low, high=low + bins * step, bins=bins, x_label="tokens")


def certainty(run: Run) -> dict[str, Any] | None:
    """How sure the labeler was: the distribution of p(yes) over claims, by verdict; None before `make feedback`."""
    if not has(run, "claims") or not count_rows(run, "claims"):
        return None
    rejected, accepted = (numbers(run, "claims", "p_yes", "verdict", verdict) for verdict in (False, True))
    groups = [Group("rejected", "rejected", rejected), Group("accepted", "chosen", accepted)]
    groups = [group for group in groups if len(group.values)]
    svg = histogram(groups, low=0.0, high=1.0, bins=25, x_label="p(yes) of a claim", separate=True)
    claims = len(rejected) + len(accepted)
    unsure = sum(int(np.count_nonzero((values > 0.1) & (values < 0.9))) for values in (rejected, accepted)) / claims
    return {"groups": groups, "svg": svg, "claims": claims, "unsure": unsure}


def pairs(run: Run) -> list[dict[str, Any]] | None:
    """Some pairs of the run, drawn by its seed, in table order; None before `make feedback`."""
    if not has(run, "pairs"):
        return None
    total = count_rows(run, "pairs")
    shown = set(random.Random(run.config.seed).sample(range(total), min(PAIRS_SHOWN, total)))
    parts = read_located_parts(run, "pairs", ["pair_id"])
    rows = (row for part in parts for row in part.select(["group", "row"]).to_pylist())
    locations = row_locations(row for index, row in enumerate(rows) if index in shown)
    return [pair_card(row) for row in read_rows_at(run.path / "pairs.parquet", locations, SCHEMAS["pairs"].names)]


def pair_card(row: dict[str, Any]) -> dict[str, Any]:
    """A row of pairs as the page shows it."""
    sides = [
        {
            "name": side,
            "text": "\n".join(message["content"] for message in row[side]),
            "score": signed(row[f"{side}_score"], None),
            "claims": [chip(claim) for claim in row[f"{side}_claims"]],
        }
        for side in ("chosen", "rejected")
    ]
    instruction = "\n".join(message["content"] for message in row["prompt"])
    images = [data_uri(image["bytes"]) for image in row["images"]]
    return {"id": row["pair_id"], "instruction": instruction, "images": images, "sides": sides}


def chip(claim: dict[str, Any]) -> dict[str, Any]:
    """A claim with its verdict and how sure it is (0 to 1), which the page shows as depth of colour."""
    detail = f"{claim['question']} p(yes) {claim['p_yes']:.3f}, p(no) {claim['p_no']:.3f}"
    sure = abs(claim["p_yes"] - claim["p_no"])
    return {**claim, "detail": detail, "sure": round(sure, 2)}


def data_uri(image_bytes: bytes) -> str:
    """An encoded image, turned as its camera meant and made small enough for a page, as a data URI (WebP)."""
    from model.images import open_image

    image = open_image(image_bytes)
    image.thumbnail((IMAGE_SIDE, IMAGE_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=88)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def provenance(run: Run) -> dict[str, Any]:
    """What made each table, from its metadata, and the settings of every stage, from its marker."""
    tables = [read_metadata(run, table) | {"rows": count_rows(run, table)} for table in tables_of(run)]
    markers = {stage: run.path / f"{stage}.json" for stage in STAGES}
    settings = {
        stage: json.dumps(json.loads(marker.read_text(encoding="utf-8"))["settings"], indent=2, ensure_ascii=False)
        for stage, marker in markers.items()
        if marker.is_file()
    }
    metrics = run.metrics()
    return {
        "tables": tables,
        "settings": settings,
        "versions": metrics.get("versions", {}),
        "seeds": metrics.get("seeds", {}),
    }


def tables_of(run: Run) -> Iterator[str]:
    """Names of the tables that the run has, in the order they are made."""
    return (table for table in SCHEMAS if has(run, table))


def has(run: Run, table: str) -> bool:
    return (run.path / f"{table}.parquet").is_file()
