"""The data-set card of an export: README.md with the front matter that the hub reads.

Everything in it comes from the run: its tables and their metadata, and metrics.json. Where the truth is known the card
says how often the labeler is wrong; otherwise it says that this is not known. Only the last component of a local path
is shown.
"""

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from rlaif.errors import InputError
from rlaif.storage.files import atomic_write
from rlaif.storage.run import Run
from rlaif.storage.tables import count_rows, has_table, read_metadata, read_rows
from rlaif.storage.versions import code_version

TEMPLATE = Path(__file__).with_name("card.md.j2")
SHOWN_SETTINGS = ("seed", "round", "generation", "feedback")
NOT_STATED = "not stated"  # the license of imported data
SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M")


def write_card(run: Run, folder: Path) -> Path:
    """Write README.md of an exported folder; returns its path. Errors: InputError if its figures are missing."""
    import yaml
    from huggingface_hub import DatasetCard, DatasetCardData

    section = run.config.export
    metrics = run.metrics()
    figures = metrics.get("export", {}).get(section.format)
    if figures is None:
        raise InputError(f"{run.path}/metrics.json has no figures of {folder}; delete that folder and export again")
    splits: dict[str, int] = figures["pairs"]
    policy, labeler = model_names(run)
    name = run.path.resolve().name
    imported = metrics.get("import")
    data = DatasetCardData(
        license=section.license or source_license(imported),
        pretty_name=name,
        annotations_creators=[] if imported else ["machine-generated"],
        size_categories=[size_category(sum(splits.values()))],
        task_categories=["image-text-to-text"],
        tags=["preference", "dpo", "rlaif", "hallucination", section.format],
        configs=[{"config_name": "default", "data_files": data_files(folder, list(splits))}],
    )
    stages = metrics.get("stages", {})
    content = DatasetCard.from_template(
        data,
        template_path=str(TEMPLATE),
        name=name,
        format=section.format,
        imported=imported,
        license=section.license or source_license(imported),
        splits=splits,
        counts=counts(run, list(splits)),
        dropped=[
            (stage, reason, count)
            for stage in ("import", "generation", "feedback", run.stage)
            for reason, count in stages.get(stage, {}).get("dropped", {}).items()
        ],
        words=figures["words"],
        policy=policy,
        labeler=labeler,
        splitter=model_name(run, "splits", "splitter") if has_table(run, "splits") else None,
        settings=yaml.safe_dump(settings(run), sort_keys=False),
        source=first_value(run, "prompts", "source"),
        feedback=metrics.get("feedback", {}),
        truth=known_truth(metrics),
        people=people(metrics),
        identity=read_metadata(run, "pairs")["identity"],
        code_version=code_version(),
    )
    target = folder / "README.md"
    with atomic_write(target) as temporary:
        temporary.write_text(str(content).rstrip() + "\n", encoding="utf-8")
    return target


def source_license(imported: dict[str, Any] | None) -> str | None:
    """The one license of imported data, as the hub names it; None if it has none or several, or was not imported."""
    stated = NOT_STATED if imported is None else str(imported["license"])
    return None if stated == NOT_STATED or "," in stated else stated


def data_files(folder: Path, splits: Sequence[str]) -> list[dict[str, str]]:
    """The file of each split, as in the `configs` of the hub's front matter."""
    return [{"split": split, "path": next(folder.glob(f"{split}.*")).name} for split in splits]


def size_category(rows: int) -> str:
    """The hub's name for a number of rows."""
    return next((name for power, name in enumerate(SIZES, start=3) if rows < 10**power), "100M<n<1B")


def length_figures(lengths: Sequence[int]) -> dict[str, float]:
    """Mean, median and 95th percentile (linear interpolation); all 0 if there are no lengths."""
    values = np.asarray(lengths or [0])
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "95th percentile": float(np.percentile(values, 95)),
    }


def counts(run: Run, splits: Sequence[str]) -> dict[str, int]:
    """Rows of the tables that the run has, and of the prompts and images of these splits."""
    rows = {}
    if has_table(run, "prompts"):
        digests = [  # 8 bytes of each, so that a long table fits into memory
            int(row["image_sha256"][:16], 16)
            for split in splits
            for row in read_rows(run, "prompts", ["image_sha256"], filter={"split": split})
        ]
        rows["prompts of these splits"] = len(digests)
        rows["distinct images of these splits"] = len(np.unique(np.array(digests, np.uint64)))
    for table in ("responses", "claims", "pairs"):
        if has_table(run, table):
            rows[f"{table} of the run"] = count_rows(run, table)
    return rows


def model_names(run: Run) -> tuple[str, str]:
    """Policy and labeler, each with its revision."""
    return model_name(run, "responses", "policy"), model_name(run, "claims", "labeler")


def model_name(run: Run, table: str, role: str) -> str:
    name, revision = first_value(run, table, role), first_value(run, table, f"{role}_revision")
    if name is None:
        return "unknown"
    name = PurePath(name).name if PurePath(name).is_absolute() else name
    return f"{name} (revision {revision or 'unknown'})"


def settings(run: Run) -> dict[str, Any]:
    """The settings of generation and feedback, from the tables' metadata, without the labeler's prompts."""
    stored: dict[str, Any] = {}
    for table in ("responses", "pairs"):
        if has_table(run, table):
            stored |= read_metadata(run, table)["config"]
    shown = {name: stored[name] for name in SHOWN_SETTINGS if name in stored}
    if "feedback" in shown:
        shown["feedback"] = {name: value for name, value in shown["feedback"].items() if name != "prompts"}
    return shown


def known_truth(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """Figures of the labeler against the truth; None if no truth is known or `make evaluate` has not run."""
    labeler = metrics.get("labeler", {})
    return labeler if labeler.get("claim_accuracy") is not None else None


def people(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """What people say of the labeler; None without an audit, or where they could not tell anything."""
    figures = metrics.get("people") or {}
    known = [name for name in ("agreement", "pair_agreement") if figures.get(name) is not None]
    return figures if known else None


def first_value(run: Run, table: str, column: str) -> Any:
    """The column in the first row of a table; None without a table or row."""
    row = next(read_rows(run, table, [column]), None) if has_table(run, table) else None
    return row and row[column]
