"""Errors of captions before and after rewriting, found by comparison with the truth.

    python -m evaluation.caption_errors --config configs/rewrite.yaml --run runs/rewrite

Reads `rewrites` and, of the table of raw captions, the columns `source` and `reference`: the truth of each image, which
no other stage reads. Prints the shares of captions with an error, and writes them into the section `rewrites` of
metrics.json with their 95% confidence intervals (bootstrap over captions). Without these columns no truth is known,
and it reports that.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from evaluation.statistics import Counts, Figures, Intervals, intervals, ratio, total
from evaluation.truth import Truth, TruthLookup, truth_of
from rlaif.command import run_stage
from rlaif.config import CaptionsSection, RewriteConfig
from rlaif.errors import InputError
from rlaif.report.figures import format_with_interval
from rlaif.storage.files import parquet_files

LABELS = {
    "error": "with an error",
    "lost": "  an object of the image is missing",
    "false": "  a mention is false",
    "repeated": "  an object is mentioned twice",
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
        """Whether the mentions differ from one true mention of each object."""
        return self.lost or self.false or self.repeated


def find_errors(text: str, truth: Truth) -> Errors:
    """Compare a caption with its image: missing, added or repeated objects, and words that describe nothing."""
    mentions = truth.check_mentions(text)
    return Errors(
        lost=truth.count_objects_found(text) < truth.num_objects,
        false=not all(mentions),
        repeated=len(mentions) > truth.num_objects,
        stray=truth.has_stray_words(text),
    )


def error_counts(errors: Errors) -> Counts:
    """What one caption adds to the sums behind `error_figures`."""
    return Counter(captions=1, **{name: int(getattr(errors, name)) for name in LABELS})


def error_figures(totals: Counts) -> Figures:
    """The share of captions with each kind of error (None where there are no captions), and their number."""
    return {"captions": totals["captions"], **{name: ratio(totals[name], totals["captions"]) for name in LABELS}}


def raw_captions(
    section: CaptionsSection, truth_of: TruthLookup = truth_of
) -> Iterator[tuple[str, str | None, Truth | None]]:
    """(caption_id, raw caption, truth of its image) of all rows in order; truth None where it is not known.

    Errors: InputError: the table is missing.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, path in parquet_files(Path(section.path), "captions.path").items():
        with pq.ParquetFile(path) as file:
            wanted = (section.caption_column, "source", "reference")
            columns = [column for column in wanted if column in file.schema_arrow.names]
            index = 0
            for batch in file.iter_batches(columns=columns):
                captions = batch[section.caption_column].cast(pa.large_binary()).to_pylist()  # may be invalid UTF-8
                truths: Iterable[Truth | None] = repeat(None, len(captions))
                if {"source", "reference"}.issubset(columns):
                    truths = map(truth_of, batch["source"].to_pylist(), batch["reference"].to_pylist())
                for raw, truth in zip(captions, truths, strict=True):
                    text = None if raw is None else raw.decode(errors="replace")
                    yield f"{name}:{index}", text, truth
                    index += 1


def measure(config: RewriteConfig, path: Path, truth_of: TruthLookup = truth_of) -> None:
    """Run the stage. Errors: InputError."""
    from rlaif.storage.run import Run  # deferred so that --help stays fast
    from rlaif.storage.tables import read_rows

    run = Run(path, config, "measure")
    raw: list[Counts] = []
    before: list[Counts] = []
    after: list[Counts] = []
    rewrites = read_rows(run, "rewrites", ["caption_id", "raw_caption", "caption"])  # in the order of the raw captions
    row = next(rewrites, None)
    for caption_id, text, truth in raw_captions(config.captions, truth_of):
        kept = row if row and row["caption_id"] == caption_id else None
        if kept:
            if kept["raw_caption"] != text:
                raise _other_captions(config, path, caption_id)
            row = next(rewrites, None)
        if truth:
            raw.append(error_counts(find_errors(text or "", truth)))
            if kept:
                before.append(raw[-1])
                after.append(error_counts(find_errors(kept["caption"], truth)))
    if row:
        raise _other_captions(config, path, row["caption_id"])
    if not raw:
        print(f"no truth is known for {config.captions.path} (columns source and reference): nothing to measure")
        return
    counts = {"raw": raw, "kept_before": before, "kept_after": after}
    figures = {which: error_figures(total(captions)) for which, captions in counts.items()}
    spread = {which: intervals(captions, error_figures, config.seed) for which, captions in counts.items()}
    run.update_metrics(rewrites=figures, intervals={"rewrites": spread})
    print(figures_table(figures, spread))


def _other_captions(config: RewriteConfig, path: Path, caption_id: str) -> InputError:
    return InputError(
        f"{path}/rewrites.parquet and {config.captions.path} have different captions ({caption_id}); use the CONFIG "
        "and SET with which the captions were rewritten"
    )


def figures_table(figures: dict[str, Figures], spread: dict[str, Intervals]) -> str:
    """All raw captions, those whose rewrite was kept, and the rewrites, as text for the terminal.

    In brackets: 95% confidence intervals.
    """
    lines = [f"{'':36}{'raw':>20}{'kept, raw':>20}{'rewritten':>20}"]
    for name, label in {"captions": "captions", **LABELS}.items():
        cells = (format_with_interval(name, figures[which][name], spread[which].get(name)) for which in figures)
        lines.append(f"{label:36}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_stage(RewriteConfig, "evaluation.caption_errors", (__doc__ or "").splitlines()[0], measure, argv)


if __name__ == "__main__":
    sys.exit(main())
