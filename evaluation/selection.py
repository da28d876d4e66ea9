"""Hallucination and recall against N, when the best of N responses is taken.

    python -m evaluation.selection --config runs/demo/best-of-n/config.yaml --run runs/demo/best-of-n

Of each prompt's first N responses (N = 1, 2, 4 and so on), the one is taken with the highest reward of the policy
itself (`rewards`), or with the best score of the labeler (`scores`); the first of equals. Responses that have none (cut
off, say) are taken only where no other is there. Where no truth is known words alone are counted. Writes metrics.json,
section `best_of_n`, and under `intervals` the 95% confidence interval of each figure (bootstrap over prompts).
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.hallucination import answer_counts, hallucination_of, judge
from evaluation.statistics import Counts, Figures, Intervals, intervals, total
from rlaif.command import run_stage
from rlaif.config import Config
from rlaif.report.figures import format_with_interval
from rlaif.storage.join import join_by_prompt
from rlaif.storage.run import Run
from rlaif.storage.tables import read_parts

SELECTORS = {"reward": "rewards", "score": "scores"}  # column -> table
SHOWN = ("mention_rate", "response_rate", "recall", "mean_words")


def best_of_n(config: Config, path: Path) -> None:
    """The stage. Errors: InputError: a table is missing."""
    run = Run(path, config, "best_of_n")
    found: dict[str, dict[int, list[Counts]]] = {name: {n: [] for n in sizes(config.best_of)} for name in SELECTORS}
    for prompt, rows in join_by_prompt(
        read_parts(run, "prompts", ["prompt_id", "reference"]),
        responses=read_parts(run, "responses", ["prompt_id", "response_id", "text"]),
        **{name: read_parts(run, name, ["prompt_id", "response_id", column]) for column, name in SELECTORS.items()},
    ):
        truth = json.loads(prompt["reference"])["objects"] if prompt["reference"] else None
        for column, name in SELECTORS.items():
            worth = {row["response_id"]: row[column] for row in rows[name]}
            for n, counts in found[column].items():
                if rows["responses"]:
                    counts.append(answer_counts(judge(best(rows["responses"][:n], worth)["text"], truth)))
    figures = {
        column: {n: hallucination_of(total(counts)) for n, counts in by_n.items()} for column, by_n in found.items()
    }
    spread = {
        column: {n: intervals(counts, hallucination_of, config.seed) for n, counts in by_n.items()}
        for column, by_n in found.items()
    }
    run.update_metrics(best_of_n=figures, intervals={"best_of_n": spread})
    print(table(figures, spread))


def sizes(most: int) -> list[int]:
    """1, 2, 4 and so on, and `most` itself."""
    return [*(2**power for power in range(most.bit_length()) if 2**power < most), most]


def best(responses: Sequence[dict[str, Any]], worth: Mapping[str, float]) -> dict[str, Any]:
    """The first response of the highest worth."""
    return max(responses, key=lambda row: worth.get(row["response_id"], -float("inf")))


def table(figures: Mapping[str, Mapping[int, Figures]], spread: Mapping[str, Mapping[int, Intervals]]) -> str:
    """For the terminal; in brackets 95% confidence intervals."""
    lines = []
    for column, by_n in figures.items():
        lines.append(f"{'best by ' + column:20}" + "".join(f"{f'N = {n}':>20}" for n in by_n))
        for name in SHOWN:
            cells = (format_with_interval(name, one[name], spread[column][n].get(name)) for n, one in by_n.items())
            lines.append(f"  {name:18}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_stage(Config, "evaluation.selection", "Hallucination and recall against N.", best_of_n, argv)


if __name__ == "__main__":
    sys.exit(main())
