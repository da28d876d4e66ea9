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
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlaif.charts import Group, Line, histogram, line_chart
from rlaif.config import Config, run_stage
from rlaif.errors import InputError
from rlaif.run import Run, code_version
from rlaif.tables import MADE_BY, SCHEMAS, atomic_write, count_rows, read_metadata, read_rows

STAGES = ("generation", "feedback", "dpo", "evaluate")  # in the order they run
PAIRS_SHOWN = 20
IMAGE_SIDE = 480  # pixels of the longer side of an image in the page
MINUS = "\N{MINUS SIGN}"


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
        "labeler": labeler(run.metrics()),
        "training": training(path / "dpo" / "log.json"),
        "lengths": lengths(run),
        "certainty": certainty(run),
        "stages": run.metrics().get("stages", {}),
        "pairs": pairs(run),
        "pairs_in_all": count_rows(run, "pairs") if has(run, "pairs") else 0,
        "provenance": provenance(run),
        "made_by": MADE_BY,
    }
    target = path / "report.html"
    with atomic_write(target) as temporary:
        temporary.write_text(render(page), encoding="utf-8")
    print(f"  wrote    {target} ({target.stat().st_size / 2**20:.1f} MiB); open it in a browser")
    return target


def render(page: dict[str, Any]) -> str:
    """The page as HTML; every value is escaped except the SVG that rlaif.charts made."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "readable": lambda name: str(name).replace("_", " ")}
    return environment.get_template("report.html.j2").render(page)


def change(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """Headline and tiles of before and after; None before `make evaluate`."""
    if "before" not in metrics:
        return None
    before, after = metrics["before"], metrics["after"]
    tiles = [
        tile(before, after, "mention_rate", "Mentions that are not in the image", better=-1),
        tile(before, after, "response_rate", "Answers with at least one of them", better=-1),
        tile(before, after, "recall", "Objects of the image that are found", better=1),
        tile(before, after, "mean_words", "Words in an answer", better=0),
    ]
    return {
        "headline": headline(before["mention_rate"], after["mention_rate"]),
        "tiles": [one for one in tiles if one],
        "responses": after["responses"],
        "before": before,
        "after": after,
    }


def headline(before: float | None, after: float | None) -> str:
    """One sentence on mention-level hallucination; both None where no truth is known."""
    if before is None or after is None:
        return "Answers before and after alignment"
    if before == after:
        return f"Hallucination stayed at {percent(before)}"
    if before == 0:
        return f"Hallucination rose from 0% to {percent(after)}"
    relative = abs(after / before - 1)
    return f"Hallucination {'fell' if after < before else 'rose'} by {percent(relative, 0)}"


def tile(before: dict[str, Any], after: dict[str, Any], name: str, title: str, better: int) -> dict[str, Any] | None:
    """One figure, twice, with its change; better: +1 if more is better, -1 if less is, 0 neither. None: unknown."""
    old, new = before[name], after[name]
    if old is None or new is None:
        return None
    show = (lambda value: f"{value:.1f}") if name == "mean_words" else percent
    full = 1.0 if name == "recall" else max(old, new) or 1.0
    if name == "recall":
        shift = f"{signed(100 * (new - old))} points"
    else:
        shift = f"{signed(100 * (new / old - 1), 0)}%" if old else "was 0"
    verdict = "" if new == old or not better else "good" if (new > old) == (better > 0) else "bad"
    bars = [(label, show(value), 100 * value / full) for label, value in (("before", old), ("after", new))]
    return {"title": title, "value": show(new), "shift": shift, "verdict": verdict, "bars": bars}


def labeler(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """Figures of the labeler against the truth; None where they are not known."""
    found = metrics.get("labeler", {})
    if found.get("claim_accuracy") is None:
        return None
    wrong = [
        f"{percent(found[name])} of {kind}"
        for name, kind in (
            ("false_claims_accepted", "false ones accepted"),
            ("true_claims_rejected", "true ones rejected"),
        )
        if found[name] is not None
    ]
    meters = [
        ("Verdicts that are right", found["claim_accuracy"], "; ".join([f"of {found['claims']:,} claims", *wrong])),
        (
            "Responses split rightly",
            found["split_accuracy"],
            f"of {found['responses']:,} responses; no claim lost or invented",
        ),
    ]
    orders = [
        ("claim by claim", found["pair_agreement"], "after"),
        ("whole response, same pairs", found["whole_response_same_pairs_agreement"], "before"),
        ("whole response, its own pairs", found["whole_response_pair_agreement"], "before"),
    ]
    return {
        "meters": meters,
        "orders": [order for order in orders if order[1] is not None],
        "pairs": found["pairs"],
        "ties": found["pair_ties"],
    }


def training(log: Path) -> list[dict[str, Any]] | None:
    """Curves over optimizer steps from the trainer's log (entries with a `step`); None before `make dpo`."""
    if not log.is_file():
        return None
    try:
        entries = json.loads(log.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{log} is damaged ({error}); run `make dpo` again") from error

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
    if has(run, "pairs") and has(run, "responses"):
        tokens = {
            row["response_id"]: row["num_tokens"] for row in read_rows(run, "responses", ["response_id", "num_tokens"])
        }
        ids = list(read_rows(run, "pairs", ["chosen_response_id", "rejected_response_id"]))
        sides = [
            Group(side, side, [tokens[row[f"{side}_response_id"]] for row in ids]) for side in ("rejected", "chosen")
        ]
        figures.append(("What training saw", sides))
    if has(run, "evaluations"):
        rows = list(read_rows(run, "evaluations", ["which", "num_tokens"]))
        sides = [
            Group(which, which, [row["num_tokens"] for row in rows if row["which"] == which])
            for which in ("before", "after")
        ]
        figures.append(("What the model says", sides))
    return [
        {"title": title, "groups": groups, "svg": token_histogram(groups)}
        for title, groups in figures
        if all(group.values for group in groups)
    ]


def token_histogram(groups: Sequence[Group]) -> Any:
    """Bins of a whole number of tokens, at most 30 of them, from the shortest to the longest answer."""
    values = [value for group in groups for value in group.values]
    low, longest = int(min(values)), int(max(values))
    step = max(1, math.ceil((longest + 1 - low) / 30))
    bins = max(1, math.ceil((longest + 1 - low) / step))
    return histogram(groups, low=low, high=low + bins * step, bins=bins, x_label="tokens")


def certainty(run: Run) -> dict[str, Any] | None:
    """How sure the labeler was: the distribution of p(yes) over claims, by verdict; None before `make feedback`."""
    if not has(run, "claims") or not count_rows(run, "claims"):
        return None
    rows = list(read_rows(run, "claims", ["p_yes", "verdict"]))
    groups = [
        Group("rejected", "rejected", [row["p_yes"] for row in rows if not row["verdict"]]),
        Group("accepted", "chosen", [row["p_yes"] for row in rows if row["verdict"]]),
    ]
    groups = [group for group in groups if group.values]
    svg = histogram(groups, low=0.0, high=1.0, bins=25, x_label="p(yes) of a claim", apart=True)
    unsure = sum(0.1 < row["p_yes"] < 0.9 for row in rows) / len(rows)
    return {"groups": groups, "svg": svg, "claims": len(rows), "unsure": unsure}


def pairs(run: Run) -> list[dict[str, Any]] | None:
    """Some pairs of the run, drawn by its seed, in table order; None before `make feedback`."""
    if not has(run, "pairs"):
        return None
    total = count_rows(run, "pairs")
    shown = set(random.Random(run.config.seed).sample(range(total), min(PAIRS_SHOWN, total)))
    return [pair_card(row) for index, row in enumerate(read_rows(run, "pairs")) if index in shown]


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
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(image_bytes)) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGBA" if opened.has_transparency_data else "RGB")
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


def percent(share: float, digits: int = 1) -> str:
    """0.1234 -> "12.3%"."""
    return f"{100 * share:.{digits}f}%"


def signed(value: float, digits: int | None = 1) -> str:
    """A number with its sign and a true minus; digits None: as short as it is."""
    text = f"{abs(value):g}" if digits is None else f"{abs(value):.{digits}f}"
    plus = "" if digits is None else "+"
    return text if not float(text) else (MINUS if value < 0 else plus) + text


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_stage(Config, "rlaif.report", "Write one self-contained page about a run.", report, argv)


if __name__ == "__main__":
    sys.exit(main())
