"""Captions before and after rewriting, held against the truth.

    python -m evaluation.caption_errors --config configs/rewrite.yaml --run runs/rewrite

Reads `rewrites` and, of the raw captions' table, the column `reference`: what is true of each image, which no other
stage reads. Prints the shares of captions with an error and writes them into metrics.json, under `rewrites`, and their
95% confidence intervals (bootstrap over captions). Without that column there is nothing to measure, and it says so.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.hallucination import judge
from evaluation.statistics import Counts, Figures, Intervals, intervals, ratio, total
from rlaif.command import run_stage
from rlaif.config import CaptionsSection, RewriteConfig
from rlaif.errors import InputError
from rlaif.report.figures import format_with_interval
from rlaif.storage.files import parquet_files
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
from rlaif.text import words
from scenes.noise import WORDS

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


def error_counts(errors: Errors) -> Counts:
    """What one caption adds to the sums behind `error_shares`."""
    return Counter(captions=1, **{name: int(getattr(errors, name)) for name in LABELS})


def error_shares(totals: Counts) -> Figures:
    """The share of captions with each kind of error (None where there are no captions), and their number."""
    return {"captions": totals["captions"], **{name: ratio(totals[name], totals["captions"]) for name in LABELS}}


def raw_captions(section: CaptionsSection) -> Iterator[tuple[str, str | None, Objects | None]]:
    """(caption_id, raw caption, true objects) of all rows in order; None where the truth is not known.

    Errors: InputError when the table is not there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, path in parquet_files(Path(section.path), "captions.path").items():
        with pq.ParquetFile(path) as file:
            columns = [one for one in (section.caption_column, "reference") if one in file.schema_arrow.names]
            index = 0
            for batch in file.iter_batches(columns=columns):
                captions = batch[section.caption_column].cast(pa.large_binary()).to_pylist()  # they may be no UTF-8
                truths = batch["reference"].to_pylist() if "reference" in columns else [None] * len(captions)
                for raw, truth in zip(captions, truths, strict=True):
                    text = None if raw is None else raw.decode(errors="replace")
                    yield f"{name}:{index}", text, json.loads(truth)["objects"] if truth else None
                    index += 1


def measure(config: RewriteConfig, path: Path) -> None:
    """Print and note the figures. Errors: InputError."""
    run = Run(path, config, "measure")
    raw: list[Counts] = []
    before: list[Counts] = []
    after: list[Counts] = []
    rewrites = read_rows(run, "rewrites", ["caption_id", "raw_caption", "caption"])  # in the order of the raw captions
    row = next(rewrites, None)
    for caption_id, text, objects in raw_captions(config.captions):
        kept = row if row and row["caption_id"] == caption_id else None
        if kept:
            if kept["raw_caption"] != text:
                raise _made_of_others(config, path, caption_id)
            row = next(rewrites, None)
        if objects is not None:
            raw.append(error_counts(find_errors(text or "", objects)))
            if kept:
                before.append(raw[-1])
                after.append(error_counts(find_errors(kept["caption"], objects)))
    if row:
        raise _made_of_others(config, path, row["caption_id"])
    if not raw:
        print(f"no truth is known for {config.captions.path} (it has no column 'reference'): nothing to measure")
        return
    counted = {"raw": raw, "kept_before": before, "kept_after": after}
    figures = {which: error_shares(total(counts)) for which, counts in counted.items()}
    spread = {which: intervals(counts, error_shares, config.seed) for which, counts in counted.items()}
    run.update_metrics(rewrites=figures, intervals={"rewrites": spread})
    print(figures_table(figures, spread))


def _made_of_others(config: RewriteConfig, path: Path, caption_id: str) -> InputError:
    return InputError(
        f"{path}/rewrites.parquet was made of other captions than {config.captions.path} has ({caption_id} "
        "differs); give the CONFIG and SET that made it"
    )


def figures_table(figures: dict[str, Figures], spread: dict[str, Intervals]) -> str:
    """All raw captions, those of which a new one was kept, and the new ones, as text for the terminal; in brackets 95%
    confidence intervals.
    """
    lines = [f"{'':34}{'raw':>20}{'kept, raw':>20}{'rewritten':>20}"]
    for name, label in {"captions": "captions", **LABELS}.items():
        cells = (format_with_interval(name, figures[which][name], spread[which].get(name)) for which in figures)
        lines.append(f"{label:34}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_stage(RewriteConfig, "evaluation.caption_errors", (__doc__ or "").splitlines()[0], measure, argv)


if __name__ == "__main__":
    sys.exit(main())
