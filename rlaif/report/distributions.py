"""Charts of the report that are drawn from tables and logs: training, lengths of answers, p(yes) of claims."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from markupsafe import Markup

from rlaif.config import Config
from rlaif.report.charts import Group, Line, histogram, line_chart
from rlaif.storage.files import read_json
from rlaif.storage.join import join_parts
from rlaif.storage.run import Run
from rlaif.storage.tables import answers_are_cut, count_rows, has_table, read_parts
from rlaif.text import words


def training(log: Path) -> list[dict[str, Any]] | None:
    """Curves over optimizer steps from the trainer's log (entries with a `step`); None before `make dpo`."""
    if not log.is_file():
        return None
    entries = read_json(log)

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
        (
            "Log-probability of an answer",
            [line("chosen", "chosen", "logps/chosen"), line("rejected", "rejected", "logps/rejected")],
            None,
        ),
    ]
    return [
        {"title": title, "lines": drawn, "svg": line_chart(drawn, x_label="step", level=level)}
        for title, lines, level in charts
        if (drawn := [line for line in lines if line.points])
    ]


def falling_rewards(log: Path) -> dict[str, float] | None:
    """Mean rewards over the last quarter of the trainer's log if both are below 0 there; else None."""
    entries = [entry for entry in read_json(log) if "rewards/chosen" in entry] if log.is_file() else []
    last = entries[-max(1, len(entries) // 4) :]
    if not last:
        return None
    chosen, rejected = (float(np.mean([entry[f"rewards/{side}"] for entry in last])) for side in ("chosen", "rejected"))
    return {"chosen": chosen, "rejected": rejected} if chosen < 0 and rejected < 0 else None


def losses(marker: Path) -> list[str]:
    """The losses that DPO trained with; none for a run without DPO."""
    if not marker.is_file():
        return []
    names: str | list[str] = read_json(marker)["settings"]["dpo"]["trainer"].get("loss_type", "sigmoid")
    return [names] if isinstance(names, str) else names


def lengths(run: Run[Config]) -> list[dict[str, Any]]:
    """Distributions of tokens: chosen beside rejected answers, and answers before beside after, where known.

    Of pairs whose tokens were not counted, such as imported ones: of words.
    """
    figures = []
    if has_table(run, "pairs"):
        counted = all(has_table(run, table) for table in ("prompts", "responses")) and tokens_are_known(run)
        if counted and not answers_are_cut(run):
            figures.append(("Answers of the pairs", pair_lengths(run), "tokens"))
        else:
            figures.append(("Answers of the pairs", pair_words(run), "words"))
    if has_table(run, "evaluations"):
        answers = [
            Group(which, which, column_where(run, "evaluations", "num_tokens", "which", which))
            for which in ("before", "after")
        ]
        figures.append(("Answers before and after", answers, "tokens"))
    return [
        {"title": title, "groups": groups, "svg": length_histogram(groups, unit)}
        for title, groups, unit in figures
        if all(len(group.values) for group in groups)
    ]


def tokens_are_known(run: Run[Config]) -> bool:
    """Whether the tokens of all responses were counted."""
    return not any(part["num_tokens"].null_count for part in read_parts(run, "responses", ["num_tokens"]))


def pair_words(run: Run[Config]) -> list[Group]:
    """Words of the rejected and of the chosen answers of pairs."""
    sides: dict[str, list[int]] = {"rejected": [], "chosen": []}
    for part in read_parts(run, "pairs", list(sides)):
        for side, counts in sides.items():
            counts += [sum(len(words(turn["content"])) for turn in turns) for turns in part[side].to_pylist()]
    return [Group(side, side, counts) for side, counts in sides.items()]


def pair_lengths(run: Run[Config]) -> list[Group]:
    """Tokens of the rejected and of the chosen answers of pairs."""
    sides: dict[str, list[np.ndarray]] = {"rejected": [], "chosen": []}
    for _, tables in join_parts(
        read_parts(run, "prompts", ["prompt_id"]),
        responses=read_parts(run, "responses", ["prompt_id", "response_id", "num_tokens"]),
        pairs=read_parts(run, "pairs", ["prompt_id", "chosen_response_id", "rejected_response_id"]),
    ):
        responses, pairs = tables["responses"].table, tables["pairs"].table
        for side, counts in sides.items():
            rows = pc.index_in(pairs[f"{side}_response_id"], responses["response_id"].combine_chunks())
            counts.append(responses["num_tokens"].take(rows).to_numpy())
    return [Group(side, side, np.concatenate(counts) if counts else np.array([])) for side, counts in sides.items()]


def column_where(run: Run[Config], table: str, column: str, condition: str, equals: Any) -> np.ndarray:
    """A column of numbers, of the rows in which the column `condition` has a value: 4 bytes per row in memory."""
    parts = read_parts(run, table, [column, condition])
    return np.concatenate([part.filter(pc.equal(part[condition], equals))[column].to_numpy() for part in parts])


def length_histogram(groups: Sequence[Group], unit: str) -> Markup:
    """Bins of a whole number of tokens or words, at most 30 of them, from the shortest to the longest answer."""
    low = int(min(min(group.values) for group in groups))
    longest = int(max(max(group.values) for group in groups))
    step = max(1, math.ceil((longest + 1 - low) / 30))
    bins = max(1, math.ceil((longest + 1 - low) / step))
    return histogram(groups, low=low, high=low + bins * step, bins=bins, x_label=unit)


def certainty(run: Run[Config]) -> dict[str, Any] | None:
    """The distribution of the labeler's p(yes) over verified claims, by verdict; None where there are none."""
    if not has_table(run, "claims") or not count_rows(run, "claims"):
        return None
    rejected, accepted = (column_where(run, "claims", "p_yes", "verdict", verdict) for verdict in (False, True))
    groups = [Group("rejected", "rejected", rejected), Group("accepted", "chosen", accepted)]
    groups = [group for group in groups if len(group.values)]
    if not groups:
        return None
    svg = histogram(groups, low=0.0, high=1.0, bins=25, x_label="p(yes) of a claim", separate=True)
    claims = len(rejected) + len(accepted)
    unsure = sum(int(np.count_nonzero((values > 0.1) & (values < 0.9))) for values in (rejected, accepted)) / claims
    return {"title": "Claims by p(yes)", "groups": groups, "svg": svg, "claims": claims, "unsure": unsure}
