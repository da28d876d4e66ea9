"""Hallucination and recall against N, when the best of N responses is selected by reward or by score.

    python -m evaluation.selection --config runs/demo/best-of-n/config.yaml --run runs/demo/best-of-n

Of each prompt's first N responses (N = 1, 2, 4, ...) one is selected, the first of equal ones:

| selector   | the highest                                                                                           |
|------------|-------------------------------------------------------------------------------------------------------|
| reward     | implicit reward of the policy, per token (`rewards`)                                                  |
| reward_sum | the same, not divided by tokens                                                                       |
| likelihood | log-probability under the policy, per token                                                           |
| score      | score of the labeler (`scores`); with unknown claims the lowest that they allow                       |

A response without a value, such as a truncated one, is selected only if no other has one. Where no truth is known, only
words are counted.

Writes the section `best_of_n` of metrics.json, and under `intervals` the 95% confidence interval of each figure
(bootstrap over prompts).
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.hallucination import answer_counts, hallucination_figures
from evaluation.statistics import Counts, Figures, Intervals, intervals, total
from evaluation.truth import TruthLookup, truth_of
from rlaif.command import run_stage
from rlaif.config import Config
from rlaif.report.figures import format_with_interval

TABLES = {"rewards": ("reward", "num_tokens", "log_prob"), "scores": ("score_low",)}  # name -> columns
SELECTORS: dict[str, tuple[str, Callable[[Mapping[str, Any]], float]]] = {  # name -> table, value of a row
    "reward": ("rewards", lambda row: row["reward"]),
    "reward_sum": ("rewards", lambda row: row["reward"] * row["num_tokens"]),
    "likelihood": ("rewards", lambda row: row["log_prob"] / row["num_tokens"]),
    "score": ("scores", lambda row: row["score_low"]),
}
SHOWN = ("mention_rate", "response_rate", "recall", "mean_words")


def measure_selection(config: Config, path: Path, truth_of: TruthLookup = truth_of) -> None:
    """Run the stage. Errors: InputError if a table is missing."""
    from rlaif.storage.join import join_by_prompt  # deferred so that --help stays fast
    from rlaif.storage.run import Run
    from rlaif.storage.tables import read_parts

    run = Run(path, config, "selection")
    counts: dict[str, dict[int, list[Counts]]] = {
        selector: {n: [] for n in sample_sizes(config.best_of)} for selector in SELECTORS
    }
    for prompt, rows in join_by_prompt(
        read_parts(run, "prompts", ["prompt_id", "source", "reference"]),
        responses=read_parts(run, "responses", ["prompt_id", "response_id", "text"]),
        **{table: read_parts(run, table, ["prompt_id", "response_id", *columns]) for table, columns in TABLES.items()},
    ):
        if not rows["responses"]:
            continue
        truth = truth_of(prompt["source"], prompt["reference"])
        for selector, (table, value_of) in SELECTORS.items():
            values = {row["response_id"]: value_of(row) for row in rows[table]}
            for n, answers in counts[selector].items():
                answers.append(answer_counts(select(rows["responses"][:n], values)["text"], truth))
    figures = {
        selector: {n: hallucination_figures(total(answers)) for n, answers in by_n.items()}
        for selector, by_n in counts.items()
    }
    spread = {
        selector: {n: intervals(answers, hallucination_figures, config.seed) for n, answers in by_n.items()}
        for selector, by_n in counts.items()
    }
    run.update_metrics(best_of_n=figures, intervals={"best_of_n": spread})
    print(selection_table(figures, spread))


def sample_sizes(largest: int) -> list[int]:
    """1, 2, 4 and so on, and `largest` itself."""
    return [*(2**power for power in range(largest.bit_length()) if 2**power < largest), largest]


def select(responses: Sequence[dict[str, Any]], values: Mapping[str, float]) -> dict[str, Any]:
    """The first response of the highest value; values: by response_id."""
    return max(responses, key=lambda row: values.get(row["response_id"], -float("inf")))


def selection_table(figures: Mapping[str, Mapping[int, Figures]], spread: Mapping[str, Mapping[int, Intervals]]) -> str:
    """Figures by selector and N as text for the terminal; in brackets 95% confidence intervals."""
    lines = []
    for selector, by_n in figures.items():
        lines.append(f"{'best by ' + selector:20}" + "".join(f"{f'N = {n}':>20}" for n in by_n))
        for name in SHOWN:
            cells = (
                format_with_interval(name, by_n[n][name], interval_of.get(name))
                for n, interval_of in spread[selector].items()
            )
            lines.append(f"  {name:18}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_stage(Config, "evaluation.selection", (__doc__ or "").splitlines()[0], measure_selection, argv)


if __name__ == "__main__":
    sys.exit(main())
