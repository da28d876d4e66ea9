"""The figures of an export, and their table for the terminal. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edge.check.distance import Comparison
from evaluation.hallucination import hallucination_figures
from evaluation.statistics import Counts, Intervals, intervals, ratio, total
from rlaif.report.figures import format_with_interval

FIGURES = ("mention_rate", "recall")
MB = 10**6


@dataclass(frozen=True)
class Row:
    """One export against the policy in float32.

    same_answers: pictures with the same tokens. kl_mean, kl_max: nats a token, see edge/check/distance.py; None where
    the export does not give its probabilities. feature_error: mean over pictures; None where it gives no features.
    bytes: of its files. peak_bytes: of one process that encodes all pictures, releases the vision part and then loads
    the language model. tokens_per_second: generated tokens over the seconds of their generation, of all pictures.
    mention_rate, recall: as in `make evaluate`; None where no truth is known. intervals: theirs, 95%.
    remark: what the reader must know about how it was measured.
    """

    export: str
    pictures: int
    same_answers: int
    kl_mean: float | None
    kl_max: float | None
    feature_error: float | None
    bytes: int
    peak_bytes: int
    tokens_per_second: float | None
    mention_rate: float | None
    recall: float | None
    intervals: Intervals = field(default_factory=dict)
    remark: str = ""

    def to_json(self, provenance: dict[str, Any]) -> dict[str, Any]:
        """The entry of check.json."""
        return {**vars(self), **provenance}


def make_row(
    export: str,
    comparisons: Sequence[Comparison],
    answers: Sequence[Counts],
    bytes: int,
    peak_bytes: int,
    seconds: float,
    generated: int,
    seed: int,
    remark: str = "",
) -> Row:
    """The row of an export.

    answers: what the answer to each picture adds to the sums behind `hallucination_figures`. generated: tokens, in
    `seconds`.
    """
    figures, spread = hallucination_figures(total(answers)), intervals(answers, hallucination_figures, seed)
    divergences = [kl for it in comparisons for kl in it.kl or ()]
    errors = [it.feature_error for it in comparisons if it.feature_error is not None]
    return Row(
        export=export,
        pictures=len(comparisons),
        same_answers=sum(it.same for it in comparisons),
        kl_mean=ratio(sum(divergences), len(divergences)),
        kl_max=max(divergences, default=None),
        feature_error=ratio(sum(errors), len(errors)),
        bytes=bytes,
        peak_bytes=peak_bytes,
        tokens_per_second=ratio(generated, seconds),
        mention_rate=figures["mention_rate"],
        recall=figures["recall"],
        intervals={name: spread[name] for name in FIGURES},
        remark=remark,
    )


def rows_table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table whose columns are aligned for the terminal, and the remarks below."""
    header = ("export", "same answers", "KL mean", "KL max", "features", "MB", "peak MB", "tokens/s", *FIGURES)
    lines = [header, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    texts = [f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines]
    texts.insert(1, f"|{'|'.join('-' * (width + 2) for width in widths)}|")
    texts.append("KL: of next tokens, in nats; features: relative error; in brackets: 95% confidence intervals")
    texts += [f"{row.export}: {row.remark}" for row in rows if row.remark]
    return "\n".join(texts)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.export,
        f"{row.same_answers}/{row.pictures}",
        _number(row.kl_mean),
        _number(row.kl_max),
        _number(row.feature_error),
        f"{row.bytes / MB:.2f}",
        f"{row.peak_bytes / MB:.0f}",
        "-" if row.tokens_per_second is None else f"{row.tokens_per_second:.0f}",
        *(format_with_interval(name, getattr(row, name), row.intervals[name]) for name in FIGURES),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"
