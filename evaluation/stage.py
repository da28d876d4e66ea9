"""Hallucination before and after alignment, and the labeler held against the truth.

    python -m evaluation --config configs/demo.yaml --run runs/demo

Asks the policy of the config ("before") and the aligned one in runs/<name>/policy ("after") greedily about the prompts
of the split `evaluation.split`, and holds what the run has of responses, claims, scores and pairs against the truth:
the column `reference` of prompts, which no other stage reads. With `evaluation.labeler` the labeler judges the answers
too. Writes evaluations (which, prompt_id, text, finish_reason, num_tokens, split), labeled_answers (which, prompt_id,
num_claims, num_rejected) and, into metrics.json, `before`, `after`, `change` and `labeler`, and under `intervals` the
95% confidence interval of each of their figures (bootstrap over prompts; `change` with both answers to a prompt drawn
together). Answers are asked for and judged once; figures are computed on every run.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from evaluation.hallucination import (
    answer_counts,
    change,
    claim_counts,
    claim_quality,
    claim_truth,
    hallucination_of,
    judge,
    pair_agreement,
    pair_counts,
    reordered,
    split_is_right,
)
from evaluation.labeled_answers import label_answers, labeled_counts, labeled_figures
from evaluation.statistics import Counts, Figures, Intervals, intervals, ratio, total
from feedback.labeler_prompts import read_prompts
from feedback.pair import Scored, build_pairs
from rlaif.config import Config, ModelSection
from rlaif.errors import InputError
from rlaif.inference.engine import REFUSALS, Advance, Engine, OpenEngine, Request
from rlaif.inference.open import open_engine
from rlaif.inference.revision import model_revision, pin_revision
from rlaif.progress import progress_bar
from rlaif.report.figures import format_with_interval
from rlaif.storage.files import make_id
from rlaif.storage.join import join_by_prompt
from rlaif.storage.run import Run
from rlaif.storage.tables import count_rows, read_parts, read_rows
from rlaif.storage.writer import TableWriter
from rlaif.text import replace_surrogates, words

PROMPTS_AT_ONCE = 500  # asked for in one go and then on disk; bounds memory and what a kill costs


def evaluate(config: Config, path: Path, serve: OpenEngine = open_engine) -> None:
    """Ask both policies, then write every figure; raises RlaifError for whatever the user can put right."""
    run = Run(path, config, "evaluate")
    policies = {"before": pin_revision(config.policy), "after": aligned_policy(path, config)}
    settings: dict[str, Any] = {
        "evaluation": config.evaluation.model_dump(),
        "policies": {which: model_revision(section) for which, section in policies.items()},
    }
    tables = ["evaluations"]
    if config.evaluation.labeler:
        tables.append("labeled_answers")
        labeler, splitter = pin_revision(config.labeler), config.splitter and pin_revision(config.splitter)
        revision = model_revision(labeler)
        wording = asdict(read_prompts(config.feedback.prompts))
        settings["labeler"] = {"revision": revision, **config.feedback.model_dump(), "prompts": wording}
        if splitter:
            settings["splitter"] = model_revision(splitter)
    unfinished = run.begin(tables, settings, inputs=["prompts"])
    labelled = (path / "feedback.json").is_file()  # not where nothing but a last look is taken
    labeling = count_labeling(run) if labelled else []  # first: it may lack a table
    if unfinished:
        run.announce(
            *(f"greedy answers {which}: {section.model}" for which, section in policies.items()),
            f"to the prompts of split {config.evaluation.split!r}; then compares with the truth"
            + (f" and asks {config.labeler.model} about each" if config.evaluation.labeler else ""),
        )
        ask_policies(run, policies, serve)
        if config.evaluation.labeler:
            label_answers(run, labeler, revision, splitter, serve)
    figures, spread = evaluate_answers(run)
    if labelled:
        figures["labeler"] = labeler_figures(total(labeling))
        spread["labeler"] = intervals(labeling, labeler_figures, config.seed)
    run.update_metrics(**figures, intervals=spread)
    if unfinished:
        run.finish({table: count_rows(run, table) for table in tables}, next_command=f"make report RUN={path}")
    print(figures_table(figures, spread))


def aligned_policy(path: Path, config: Config) -> ModelSection:
    """The model that dpo left in the run folder, loaded as the policy is."""
    folder = path / "policy"
    if not folder.is_dir():
        raise InputError(f"no aligned model in {folder}; make it with: make dpo RUN={path}")
    return config.policy.model_copy(update={"model": str(folder), "revision": None})


def ask_policies(run: Run, policies: dict[str, ModelSection], serve: OpenEngine) -> None:
    """Greedy answers of every policy to every prompt of the evaluation split, written to evaluations."""
    config, split = run.config, run.config.evaluation.split
    num_prompts = sum(1 for _ in read_rows(run, "prompts", ["prompt_id"], filter={"split": split}))
    if not num_prompts:
        known = ", ".join(sorted({row["split"] for row in read_rows(run, "prompts", ["split"])}))
        raise InputError(f"no prompts of split {split!r} in {run.path}, only of {known}; set evaluation.split")
    with (
        TableWriter(run, "evaluations", key=("which", "prompt_id")) as writer,
        progress_bar("answers", "prompt", len(policies) * num_prompts, len(writer.done)) as bar,
    ):
        for which, section in policies.items():
            rows = read_rows(run, "prompts", ["prompt_id", "image", "instruction"], filter={"split": split})
            todo = (row for row in rows if (which, row["prompt_id"]) not in writer.done)
            first = next(todo, None)
            if first is None:
                continue
            with closing(serve(section, config.engine, config.seed)) as engine:
                prompts = chain([first], todo)
                while some := list(islice(prompts, PROMPTS_AT_ONCE)):
                    writer.write(ask(run, which, some, engine, bar.update))
                    writer.flush()


def ask(
    run: Run, which: str, prompts: Sequence[dict[str, Any]], engine: Engine, advance: Advance
) -> Iterator[dict[str, Any]]:
    """Rows of `evaluations` for some prompts; one that the policy cannot take is dropped by name."""
    seed, max_tokens = run.config.seed, run.config.evaluation.max_tokens
    requests = [Request(row["instruction"], row["image"]["bytes"], seed=seed, max_tokens=max_tokens) for row in prompts]
    answers = engine.generate(requests, advance)
    for prompt, (answer,) in zip(prompts, answers, strict=True):
        if answer.finish_reason in REFUSALS:
            run.drop(prompt["prompt_id"], answer.finish_reason, which)
        else:
            yield {
                "which": which,
                "prompt_id": prompt["prompt_id"],
                "text": replace_surrogates(answer.text),
                "finish_reason": answer.finish_reason,
                "num_tokens": answer.num_tokens,
                "split": run.config.evaluation.split,
            }


def true_objects(prompt: dict[str, Any]) -> list[dict[str, Any]] | None:
    """What is on a prompt's image; None where no truth is known."""
    return prompt["reference"] and json.loads(prompt["reference"])["objects"]


def evaluate_answers(run: Run) -> tuple[dict[str, Figures], dict[str, Intervals]]:
    """`before`, `after` and `change`: the figures, and their intervals."""
    counts = {which: dict(count_answers(run, which)) for which in ("before", "after")}
    figures = {which: answer_figures(total(own.values())) for which, own in counts.items()}
    spread = {which: intervals(list(own.values()), answer_figures, run.config.seed) for which, own in counts.items()}
    both = [
        Counter({(f"{which} {name}"): count for which in counts for name, count in counts[which][prompt_id].items()})
        for prompt_id in counts["before"]
        if prompt_id in counts["after"]
    ]
    figures["change"] = change(figures["before"], figures["after"])
    spread["change"] = intervals(both, change_of, run.config.seed)
    return figures, spread


def count_answers(run: Run, which: str) -> Iterator[tuple[str, Counts]]:
    """What a policy's answer to each prompt adds to the sums behind `answer_figures`."""

    def of_one(table: str, columns: Sequence[str]) -> Iterator[pa.Table]:
        return (part.filter(pc.equal(part["which"], which)) for part in read_parts(run, table, ["which", *columns]))

    tables = {"evaluations": of_one("evaluations", ["prompt_id", "text"])}
    if run.config.evaluation.labeler:
        tables["labeled_answers"] = of_one("labeled_answers", ["prompt_id", "num_claims", "num_rejected"])
    for prompt, rows in join_by_prompt(read_parts(run, "prompts", ["prompt_id", "reference"]), **tables):
        if rows["evaluations"]:
            (answer,) = rows["evaluations"]
            counts = answer_counts(judge(answer["text"], true_objects(prompt)))
            for row in rows.get("labeled_answers", []):
                counts.update(labeled_counts(row["num_claims"], row["num_rejected"]))
            yield prompt["prompt_id"], counts


def answer_figures(totals: Counts) -> Figures:
    """Against the truth, and where the labeler has judged answers, what it says of them."""
    return hallucination_of(totals) | (labeled_figures(totals) if totals["judged"] else {})


def change_of(totals: Counts) -> Figures:
    """`metrics.change` from sums that begin with "before " and "after "."""
    sides = [
        Counter({name.removeprefix(f"{which} "): count for name, count in totals.items() if name.startswith(which)})
        for which in ("before", "after")
    ]
    return change(*map(answer_figures, sides))


def count_labeling(run: Run) -> list[Counts]:
    """What claims, splits and pairs of each prompt add to the sums behind `labeler_figures`; those of known truth."""
    counted = []
    surplus = 0
    for prompt, rows in join_by_prompt(
        read_parts(run, "prompts", ["prompt_id", "reference"]),
        responses=read_parts(run, "responses", ["response_id", "prompt_id", "text"]),
        claims=read_parts(run, "claims", ["response_id", "prompt_id", "claim", "verdict"]),
        scores=read_parts(run, "scores", ["response_id", "prompt_id", "whole_response_score"]),
        pairs=read_parts(run, "pairs", ["prompt_id", "chosen_response_id", "rejected_response_id"]),
    ):
        objects = true_objects(prompt)
        if objects is None or not rows["responses"]:
            continue
        counts: Counts = Counter()
        texts = {row["response_id"]: row["text"] for row in rows["responses"]}
        false_mentions = {key: judge(text, objects).hallucinated for key, text in texts.items()}
        claims: dict[str, list[str]] = defaultdict(list)
        for row in rows["claims"]:
            claims[row["response_id"]].append(row["claim"])
            counts.update(claim_counts(row["verdict"], claim_truth(row["claim"], objects)))
        scores = {row["response_id"]: row["whole_response_score"] for row in rows["scores"]}
        for key, text in texts.items():
            counts.update(splits=1, splits_right=int(key in scores and split_is_right(text, claims[key])))
        own = [(row["chosen_response_id"], row["rejected_response_id"]) for row in rows["pairs"]]
        whole, surplus = whole_response_pairs(run.config, prompt["prompt_id"], texts, scores, surplus)
        for kind, pairs in {"own": own, "whole": whole, "same": reordered(own, scores)}.items():
            for pair in pairs:
                counts.update(pair_counts(pair, false_mentions, kind))
        counted.append(counts)
    return counted


def labeler_figures(totals: Counts) -> Figures:
    """Claims, splits and pair orders of the sampled responses against the truth; None where no truth is known.

    Whole-response scoring by the same labeler is the baseline: `whole_response_pair_agreement` over the pairs that the
    same pair rule makes of its scores, `whole_response_same_pairs_agreement` over its order of the pairs of the run.
    """
    own, whole, same = (pair_agreement(totals, kind) for kind in ("own", "whole", "same"))
    return {
        **claim_quality(totals),
        "split_accuracy": ratio(totals["splits_right"], totals["splits"]),
        "responses": totals["splits"],
        "pair_agreement": own["agreement"],
        "pair_ties": own["ties"],
        "pairs": own["pairs"],
        "whole_response_pair_agreement": whole["agreement"],
        "whole_response_pair_ties": whole["ties"],
        "whole_response_pairs": whole["pairs"],
        "whole_response_same_pairs_agreement": same["agreement"],
    }


def whole_response_pairs(
    config: Config, prompt_id: str, texts: dict[str, str], scores: dict[str, float], surplus: int
) -> tuple[list[tuple[str, str]], int]:
    """The (chosen, rejected) response ids that the run's pair rule makes of a prompt's whole-response scores.

    surplus: words that chosen answers have had more than rejected ones so far; returned as it is afterwards.
    """
    scored = [Scored(response_id, texts[response_id], score) for response_id, score in scores.items()]
    built, _ = build_pairs(
        prompt_id,
        scored,
        limit=config.feedback.pairs_per_prompt,
        seed=int(make_id(str(config.seed), prompt_id), 16) % 2**31,
        surplus=surplus if config.feedback.balance_length else None,
    )
    surplus += sum(len(words(pair.chosen.text)) - len(words(pair.rejected.text)) for pair in built)
    return [(pair.chosen.response_id, pair.rejected.response_id) for pair in built], surplus


def figures_table(figures: dict[str, Figures], spread: dict[str, Intervals]) -> str:
    """Before, after and their difference, then the labeler, with their intervals, as text for the terminal."""

    def cell(which: str, name: str) -> str:
        return format_with_interval(name, figures[which].get(name), spread[which].get(name))

    lines = [f"{'':24}{'before':>22}{'after':>22}{'change':>28}"]
    for name in figures["before"]:
        moved = ""
        if name in figures["change"]:  # a change of a mean is a share too
            moved = format_with_interval("change", figures["change"][name], spread["change"].get(name))
        lines.append(f"{name:24}{cell('before', name):>22}{cell('after', name):>22}{moved:>28}".rstrip())
    lines.append("change: relative to before, of recall in points; in brackets: 95% confidence intervals")
    if "labeler" in figures:
        lines.append("labeler")
        lines += [f"  {name:40}{cell('labeler', name):>22}" for name in figures["labeler"]]
    if figures["before"]["mention_rate"] is None:
        lines.append("no truth is known for these images (reference is null): figures that need it are left out")
    return "\n".join(lines)
