"""Captions before and after rewriting, held against the truth.

    python -m feedback.rewrites --config configs/rewrite.yaml --run runs/rewrite

Reads `rewrites` and, of the raw captions' table, the column `reference`: what is true of each image, which no other
stage reads. Prints the shares of captions with an error and writes them into metrics.json, under `rewrites`. Without
that column there is nothing to measure, and it says so.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feedback.metrics import judge
from model.embedded.noise import WORDS
from rlaif.config import CaptionsSection, RewriteConfig, run_stage
from rlaif.errors import InputError
from rlaif.run import Run
from rlaif.tables import parquet_files, read_rows
from rlaif.words import words

Objects = Sequence[dict[str, Any]]  # what is true of an image
LABELS = {
    "error": "with an error",
    "lost": "  an object of the image is lost",
    "false": "  something said is false",
    "repeated": "  something is said twice",
    "stray": "with words that describe nothing",
}


@dataclass(frozen=True)
class Errors:
    """What is wrong with one caption."""

    lost: bool
    false: bool
    repeated: bool
    stray: bool

    @property
    def error(self) -> bool:
        """Whether its mentions are other than one true one for each object."""
        return self.lost or self.false or self.repeated


def find_errors(text: str, objects: Objects) -> Errors:
    """Hold a caption against the objects of its image: none lost, none invented, none twice; nothing beside them."""
    judged = judge(text, objects)
    return Errors(
        lost=judged.found < judged.objects,
        false=judged.hallucinated > 0,
        repeated=judged.mentions > judged.objects,
        stray=not WORDS.issuperset(words(text)),
    )


def error_shares(captions: Sequence[Errors]) -> dict[str, float | int | None]:
    """The share of captions with each kind of error (None where there are no captions), and their number."""
    count = len(captions)
    shares = {name: sum(getattr(item, name) for item in captions) / count if count else None for name in LABELS}
    return {"captions": count, **shares}


def raw_with_truth(section: CaptionsSection) -> Iterator[tuple[str, str | None, Objects]]:
    """(caption_id, raw caption, true objects) of the rows whose truth is known.

    Errors: InputError when the table is not there.
    """
    import pyarrow.parquet as pq

    for name, path in parquet_files(Path(section.path), "captions.path").items():
        with pq.ParquetFile(path) as file:
            columns = [section.caption_column, "reference"]
            if "reference" not in file.schema_arrow.names:
                continue
            for index, row in enumerate(file.read(columns=columns).to_pylist()):
                if row["reference"]:
                    yield f"{name}:{index}", row[section.caption_column], json.loads(row["reference"])["objects"]


def measure(config: RewriteConfig, path: Path) -> None:
    """Print and note the figures. Errors: InputError."""
    run = Run(path, config, "measure")
    rewritten = {row["caption_id"]: row for row in read_rows(run, "rewrites", ["caption_id", "raw_caption", "caption"])}
    raw: list[Errors] = []
    before: list[Errors] = []
    after: list[Errors] = []
    for caption_id, text, objects in raw_with_truth(config.captions):
        raw.append(find_errors(text or "", objects))
        if (row := rewritten.get(caption_id)) is None:
            continue
        if row["raw_caption"] != text:
            raise InputError(
                f"{path}/rewrites.parquet was made of other captions than {config.captions.path} has ({caption_id} "
                "differs); give the CONFIG and SET that made it"
            )
        before.append(raw[-1])
        after.append(find_errors(row["caption"], objects))
    if not raw:
        print(f"no truth is known for {config.captions.path} (it has no column 'reference'): nothing to measure")
        return
    figures = {"raw": error_shares(raw), "kept_before": error_shares(before), "kept_after": error_shares(after)}
    run.update_metrics(rewrites=figures)
    print(figures_table(figures))


def figures_table(figures: dict[str, dict[str, float | int | None]]) -> str:
    """All raw captions, those of which a new one was kept, and the new ones, as text for the terminal."""
    lines = [f"{'':34}{'raw':>10}{'kept, raw':>12}{'rewritten':>12}"]
    for name, label in {"captions": "captions", **LABELS}.items():
        cells = [figures[which][name] for which in ("raw", "kept_before", "kept_after")]
        shown = ["-" if cell is None else f"{cell:,}" if name == "captions" else f"{cell:.1%}" for cell in cells]
        lines.append(f"{label:34}{shown[0]:>10}{shown[1]:>12}{shown[2]:>12}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_stage(RewriteConfig, "feedback.rewrites", (__doc__ or "").splitlines()[0], measure, argv)


if __name__ == "__main__":
    sys.exit(main())
