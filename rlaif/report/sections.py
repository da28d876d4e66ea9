"""Sections of the report that come from metrics.json and rounds.json: before and after, labeler, benchmarks, rounds."""

from pathlib import Path
from typing import Any

from rlaif.report.charts import Line, line_chart
from rlaif.report.figures import format_figure, format_interval
from rlaif.storage.files import read_json

MINUS = "\N{MINUS SIGN}"
Intervals = dict[str, dict[str, list[float] | None]]  # before, after, change -> figure -> confidence interval


def change(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """Headline and tiles of before and after; None before `make evaluate`."""
    if "before" not in metrics:
        return None
    before, after, intervals = metrics["before"], metrics["after"], metrics.get("intervals", {})
    tiles = [
        tile(before, after, "mention_rate", "Mentions that are not in the image", -1, intervals),
        tile(before, after, "response_rate", "Answers with at least one of them", -1, intervals),
        tile(before, after, "recall", "Objects of the image that are mentioned", 1, intervals),
        tile(before, after, "mean_words", "Words in an answer", 0, intervals),
    ]
    return {
        "headline": headline(before["mention_rate"], after["mention_rate"]),
        "tiles": [figure for figure in tiles if figure],
        "responses": after["responses"],
        "before": before,
        "after": after,
    }


def headline(before: float | None, after: float | None) -> str:
    """One sentence on mention-level hallucination; both are None where no truth is known."""
    if before is None or after is None:
        return "Answers before and after alignment"
    if before == after:
        return f"Hallucination stayed at {percent(before)}"
    if before == 0:
        return f"Hallucination rose from 0% to {percent(after)}"
    relative = abs(after / before - 1)
    return f"Hallucination {'fell' if after < before else 'rose'} by {percent(relative, 0)}"


def tile(
    before: dict[str, Any], after: dict[str, Any], name: str, title: str, better: int, intervals: Intervals
) -> dict[str, Any] | None:
    """A figure before and after, with its change; None where it is unknown. better: 1 more, -1 less, 0 neither."""
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
    shown = {"title": title, "value": show(new), "shift": shift, "verdict": verdict, "bars": bars}
    return shown | {"intervals": tile_intervals(name, intervals)}


def tile_intervals(name: str, intervals: Intervals) -> str:
    """The confidence intervals of a tile's figures and of its change in one line; empty where there are none."""
    texts = [
        f"{which} {format_interval('change' if which == 'change' else name, intervals[which][name])}"
        for which in ("before", "after", "change")
        if intervals.get(which, {}).get(name)
    ]
    return ", ".join(texts).replace("-", MINUS)


def rounds(history: Path) -> dict[str, Any] | None:
    """Validation figures of each round's policy and of their average; None for a run of one round."""
    if not history.is_file():
        return None
    content = read_json(history)
    candidates = content["candidates"]
    successive = [candidate for candidate in candidates if candidate["round"] is not None]

    def line(name: str, tone: str, key: str, scale: float) -> Line:
        points, intervals = [], []
        for candidate in successive:
            number, value = candidate["round"], candidate["figures"][key]
            if value is not None:
                points.append((number, scale * value))
            if interval := candidate["intervals"].get(key):
                intervals.append((number, scale * interval[0], scale * interval[1]))
        return Line(name, tone, points, intervals)

    charts = [
        (
            "False in percent",
            [
                line("claims that the labeler rejects", "rejected", "rejected_share", 100),
                line("mentions that are not in the image", "margin", "mention_rate", 100),
            ],
        ),
        ("Claims in an answer", [line("claims", "chosen", "mean_claims", 1)]),
    ]
    names = [
        name
        for name in candidates[0]["figures"]
        if any(candidate["figures"][name] is not None for candidate in candidates)
    ]
    return {
        "chosen": candidates[content["chosen"]]["name"],
        "charts": [
            {"title": title, "lines": drawn, "svg": line_chart(drawn, x_label="round")}
            for title, lines in charts
            if (drawn := [line for line in lines if line.points])
        ],
        "names": names,
        "rows": [
            {
                "name": candidate["name"],
                "report": f"{candidate['folder']}/report.html" if candidate["round"] != 0 else None,
                "values": [
                    (
                        format_figure(name, candidate["figures"][name]),
                        format_interval(name, candidate["intervals"].get(name)),
                    )
                    for name in names
                ],
            }
            for candidate in candidates
        ],
    }


def labeler(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """Figures of the labeler against the truth; None where they are not known."""
    figures, intervals = metrics.get("labeler", {}), metrics.get("intervals", {}).get("labeler", {})
    if figures.get("claim_accuracy") is None:
        return None
    wrong = [
        f"{percent(figures[name])} of {kind}"
        for name, kind in (
            ("false_claims_accepted", "false ones accepted"),
            ("true_claims_rejected", "true ones rejected"),
        )
        if figures[name] is not None
    ]
    meters = [
        ("Correct verdicts", "claim_accuracy", "; ".join([f"of {figures['claims']:,} claims", *wrong])),
        (
            "Responses divided correctly",
            "split_accuracy",
            f"of {figures['responses']:,} responses; no claim lost or invented",
        ),
    ]
    orders = [
        ("claim by claim", "pair_agreement", "after"),
        ("whole response, same pairs", "whole_response_same_pairs_agreement", "before"),
        ("whole response, pairs of its scores", "whole_response_pair_agreement", "before"),
    ]
    return {
        "meters": [
            (title, figures[name], format_interval(name, intervals.get(name)), detail) for title, name, detail in meters
        ],
        "orders": [
            (title, figures[name], format_interval(name, intervals.get(name)), tone)
            for title, name, tone in orders
            if figures[name] is not None
        ],
        "pairs": figures["pairs"],
        "ties": figures["pair_ties"],
    }


def stages(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By stage: rows kept and dropped, seconds, and the share of idle steps of its engines (empty without engines, or
    where their steps are not known).
    """
    used = {"generation": metrics.get("sampling", {}), "feedback": metrics.get("labeling", {})}
    idle = {stage: use.get("engine_idle_share") for stage, use in used.items()}
    return {
        stage: counts | {"idle": "" if idle.get(stage) is None else percent(idle[stage])}
        for stage, counts in metrics.get("stages", {}).items()
    }


def outcomes(metrics: dict[str, Any]) -> list[tuple[str, int, float]] | None:
    """(how, number, share) of the claims of scored responses; None before `make feedback`, or without claims."""
    figures = metrics.get("feedback", {})
    kinds = (
        ("verified by their question", "asked_claims"),
        ("verified as a statement, because their question asked something else", "restated_claims"),
        ("unknown, because they could not be put to the labeler", "unknown_claims"),
    )
    total = sum(figures.get(name, 0) for _, name in kinds)
    return [(how, figures[name], figures[name] / total) for how, name in kinds] if total else None


def benchmarks(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """A table for each benchmark that was run: its figures with their intervals, before and after."""
    tables = []
    for name, sides in metrics.get("benchmarks", {}).items():
        rows = [
            (
                figure,
                [
                    (
                        format_figure(figure, side["figures"].get(figure)),
                        format_interval(figure, side["intervals"].get(figure)),
                    )
                    for side in sides.values()
                ],
            )
            for figure in next(iter(sides.values()))["figures"]
        ]
        tables.append({"name": name, "sides": list(sides), "rows": rows})
    return tables


def short_answers(metrics: dict[str, Any]) -> dict[str, Any] | None:
    """Correct short answers before and after, all and by kind of question; None where none were asked."""
    figures, intervals = metrics.get("short_answers"), metrics.get("intervals", {}).get("short_answers", {})
    if not figures:
        return None
    rows = {"all": (figures, intervals)}
    rows |= {kind: (values, intervals["kinds"][kind]) for kind, values in figures["kinds"].items()}
    return {
        "questions": figures["questions"],
        "words": [f"{figures[f'mean_words_{which}']:.1f}" for which in ("before", "after")],
        "rows": [
            (
                kind,
                [(percent(values[which]), format_interval(which, bounds[which])) for which in ("before", "after")],
                f"{signed(100 * values['change'])} points",
                format_interval("change", bounds["change"]).replace("-", MINUS),
            )
            for kind, (values, bounds) in rows.items()
        ],
    }


def percent(share: float, digits: int = 1) -> str:
    """0.1234 -> "12.3%"."""
    return f"{100 * share:.{digits}f}%"


def signed(value: float, digits: int | None = 1) -> str:
    """A number with its sign and a true minus; digits None: as short as it is, at most three decimals."""
    text = f"{abs(round(value, 3)):g}" if digits is None else f"{abs(value):.{digits}f}"
    plus = "" if digits is None else "+"
    return text if not float(text) else (MINUS if value < 0 else plus) + text
