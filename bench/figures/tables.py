"""Result files as Markdown tables. Pure functions from figures to text; TABLES maps the names in pages to them."""

from collections.abc import Callable, Iterable, Sequence

from bench.figures.results import Figures, ResultFile
from rlaif.pipelines import ablations
from rlaif.report.figures import format_figure, format_with_interval

BENCHMARK_FIGURES = {  # benchmark -> figure -> its published name
    "chair": {"mention_rate": "CHAIR_i (mentions)", "chair_s": "CHAIR_s (answers)", "recall": "CHAIR recall"},
    "amber": {
        "chair": "AMBER CHAIR",
        "cover": "AMBER Cover",
        "hal": "AMBER Hal",
        "cog": "AMBER Cog",
        "accuracy": "AMBER discriminative accuracy",
    },
    "pope": {
        "random_accuracy": "POPE accuracy, random",
        "popular_accuracy": "POPE accuracy, popular",
        "adversarial_accuracy": "POPE accuracy, adversarial",
    },
    "mmhal": {"score": "MMHal-Bench rating (0 to 6)"},
}
SELECTORS = {
    "reward": "by its own reward",
    "reward_sum": "by its own reward, not divided by tokens",
    "likelihood": "by its likelihood",
    "score": "by the labeler's score",
}
CAPTION_COLUMNS = {
    "raw": "all raw captions",
    "kept_before": "kept captions, raw",
    "kept_after": "kept captions, rewritten",
}
CAPTION_ROWS = {"captions": "captions", "error": "with an error", "stray": "with words that describe nothing"}


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells must have no line breaks."""
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def demo_table(figures: Figures) -> str:
    """One row per seed: hallucination, recall, length and, once they were asked, short answers before and after."""
    columns = ["seed", "hallucinated mentions", "answers with one", "recall", "mean words"]
    asked = all("short_answers" in run for run in figures.values())
    columns += ["short answers"] if asked else []
    rows = []
    for seed, run in figures.items():
        mentions, words = run["change"]["mention_rate"], run["change"]["mean_words"]
        rows.append(
            [
                seed,
                f"{_shift(run, 'mention_rate')} ({mentions:+.0%})",
                _shift(run, "response_rate"),
                _shift(run, "recall"),
                f"{_shift(run, 'mean_words')} ({words:+.1%})",
                *([_short_answers(run)] if asked else []),
            ]
        )
    return markdown_table(columns, rows)


def readme_table(demo: Figures, rounds: Figures) -> str:
    """The figures of the README: one round and several, all seeds in one cell."""
    rows = []
    for label, runs in (("one round (`make demo`)", demo.values()), ("four rounds (`make rounds`)", rounds.values())):
        words = (f"{round(100 * run['change']['mean_words'], 1):+g}%" for run in runs)
        cells = [" · ".join(_shift(run, name) for run in runs) for name in ("mention_rate", "recall")]
        rows.append([label, *cells, " · ".join(words)])
    return markdown_table([f"{len(demo)} seeds", "hallucinated mentions", "recall", "words"], rows)


def labeler_table(figures: Figures) -> str:
    """One row per seed of the demo: the labeler against the truth."""
    columns = [
        "seed",
        "verdicts right",
        "splits right",
        "pairs that agree (ties)",
        "the same pairs, scored whole",
        "pairs chosen by whole scores",
    ]
    rows = []
    for seed, run in figures.items():
        labeler = run["labeler"]
        shown = {name: format_figure(name, labeler[name]) for name in labeler}
        rows.append(
            [
                seed,
                shown["claim_accuracy"],
                shown["split_accuracy"],
                f"{shown['pair_agreement']} ({shown['pair_ties']} ties)",
                shown["whole_response_same_pairs_agreement"],
                shown["whole_response_pair_agreement"],
            ]
        )
    return markdown_table(columns, rows)


def rounds_table(figures: Figures) -> str:
    """One row per seed: the policy that was chosen on validation, on the test split."""
    columns = ["seed", "chosen policy", "hallucinated mentions", "answers with one", "recall", "mean words"]
    asked = all("short_answers" in run for run in figures.values())
    columns += ["short answers"] if asked else []
    rows = []
    for seed, run in figures.items():
        change = run["change"]
        low, high = (100 * bound for bound in run["intervals"]["change"]["mention_rate"])
        rows.append(
            [
                seed,
                run["chosen"],
                f"{_shift(run, 'mention_rate')} ({change['mention_rate']:+.1%}, [{low:.1f}, {high:.1f}])",
                _shift(run, "response_rate"),
                _shift(run, "recall"),
                f"{_shift(run, 'mean_words')} ({change['mean_words']:+.0%})",
                *([_short_answers(run)] if asked else []),
            ]
        )
    return markdown_table(columns, rows)


def validation_table(figures: Figures) -> str:
    """One row per seed: false mentions of the validation scenes, policy by policy."""
    names = [candidate["name"] for candidate in next(iter(figures.values()))["candidates"]]
    rows = [
        [
            seed,
            *(
                format_with_interval(
                    "mention_rate", candidate["figures"]["mention_rate"], candidate["intervals"].get("mention_rate")
                )
                for candidate in run["candidates"]
            ),
        ]
        for seed, run in figures.items()
    ]
    return markdown_table(["seed", *names], rows)


def best_of_n_table(figures: Figures) -> str:
    """One row per temperature and selector, one column per N: false mentions and recall."""
    sizes = list(next(iter(figures.values()))["reward"])
    rows = [
        [
            temperature,
            label,
            *(
                " / ".join(format_figure(name, by_size[name]) for name in ("mention_rate", "recall"))
                for by_size in by_selector[selector].values()
            ),
        ]
        for temperature, by_selector in figures.items()
        for selector, label in SELECTORS.items()
    ]
    return markdown_table(["temperature", "best of (false mentions / recall)", *sizes], rows)


def benchmarks_table(figures: Figures) -> str:
    """One row per figure of each public benchmark, before and after alignment."""
    rows = []
    for benchmark, labels in BENCHMARK_FIGURES.items():
        sides = figures.get(benchmark)
        if sides is None:
            continue
        for name, label in labels.items():
            if name in sides["before"]["figures"]:
                cells = (
                    format_with_interval(name, sides[which]["figures"][name], sides[which]["intervals"].get(name))
                    for which in ("before", "after")
                )
                rows.append([label, *cells])
    return markdown_table(["", "before", "after"], rows)


def captions_table(figures: Figures) -> str:
    """Errors of captions before and after rewriting."""
    rows = [
        [label, *(format_figure(name, figures[which][name]) for which in CAPTION_COLUMNS)]
        for name, label in CAPTION_ROWS.items()
    ]
    return markdown_table(["", *CAPTION_COLUMNS.values()], rows)


def labeler_precision_table(figures: Figures) -> str:
    """One column per run: how often its labeler is right, and how often both say the same."""
    rows = {"verdicts right": "accuracy", "Cohen's kappa of the two": "kappa"}
    return markdown_table(
        ["", *figures],
        [[label, *(format_figure(name, run[name]) for run in figures.values())] for label, name in rows.items()],
    )


def printed_tables(figures: Figures) -> str:
    """The tables that a command printed."""
    return "\n\n".join(markdown_table(table["columns"], table["rows"]) for table in figures["tables"])


def sources_table(results: dict[str, ResultFile]) -> str:
    """One row per result file: how, when and where it was measured."""
    rows = [
        [result.title, f"`{result.command}`", result.date, f"`{result.commit}`", result.machine, result.note or "-"]
        for result in results.values()
    ]
    return markdown_table(["figures", "command", "date", "commit", "machine", "note"], rows)


TABLES: dict[str, tuple[str, Callable[[Figures], str]]] = {  # name in pages -> result file, its table
    "demo": ("demo", demo_table),
    "demo-labeler": ("demo", labeler_table),
    "rounds": ("rounds", rounds_table),
    "rounds-validation": ("rounds", validation_table),
    "ablations": ("ablations", ablations.table),
    "best-of-n": ("best-of-n", best_of_n_table),
    "benchmarks": ("benchmarks", benchmarks_table),
    "rewrite-captions": ("rewrite-captions", captions_table),
    "labeler-precision": ("labeler-precision", labeler_precision_table),
}


def _short_answers(run: Figures) -> str:
    """Correct short answers before and after, and the change in points with its interval."""
    short = run["short_answers"]
    before, after = (format_figure(which, short[which]) for which in ("before", "after"))
    low, high = (100 * bound for bound in run["intervals"]["short_answers"]["change"])
    return f"{before} → {after} ({100 * short['change']:+.1f} points, [{low:.1f}, {high:.1f}])"


def _shift(run: Figures, name: str) -> str:
    return f"{format_figure(name, run['before'][name])} → {format_figure(name, run['after'][name])}"
