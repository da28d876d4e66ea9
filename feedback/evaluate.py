"""Hallucination before and after alignment, and the labeler held against the truth.

    python -m feedback.evaluate --config configs/demo.yaml --run runs/demo

Asks the policy of the config ("before") and the aligned one in runs/<name>/policy ("after") greedily about the prompts
of the split `evaluation.split`, and holds responses, claims, scores and pairs of the run against the truth: the column
`reference` of prompts, which no other stage reads. Writes evaluations (which, prompt_id, text, finish_reason,
num_tokens, split) and, into metrics.json, `before`, `after` and `labeler`. Answers are asked for once; figures are
computed on every run.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from feedback.metrics import (
    Figures,
    claim_quality,
    claim_truth,
    hallucination,
    judge,
    pair_agreement,
    reordered,
    split_is_right,
)
from feedback.pairs import Scored, build_pairs
from rlaif.config import Config, EngineSection, ModelSection, run_stage
from rlaif.engine import PROMPT_TOO_LONG, Engine, Request, open_engine
from rlaif.errors import InputError
from rlaif.run import Run, model_revision
from rlaif.tables import TableWriter, count_rows, make_id, read_rows
from rlaif.words import words

Serve = Callable[[ModelSection, EngineSection, int], Engine]
Truth = dict[str, list[dict[str, Any]] | None]  # prompt_id -> true objects of its image; None where no truth is known


def evaluate(config: Config, path: Path, serve: Serve = open_engine) -> None:
    """Ask both policies, then write every figure; raises RlaifError for whatever the user can put right."""
    run = Run(path, config, "evaluate")
    policies = {"before": config.policy, "after": aligned_policy(path, config)}
    settings = {
        "evaluation": config.evaluation.model_dump(),
        "policies": {which: model_revision(section) for which, section in policies.items()},
    }
    unfinished = run.begin(["evaluations"], settings, inputs=["prompts"])
    truth = read_truth(run)
    labeler = evaluate_labeler(run, truth)  # first: a missing table comes to light before the long part
    if unfinished:
        run.announce(
            *(f"greedy answers {which}: {section.model}" for which, section in policies.items()),
            f"to the prompts of split {config.evaluation.split!r}; then compares with the truth",
        )
        ask_policies(run, policies, serve)
    figures = evaluate_answers(run, truth)
    run.update_metrics(**figures, labeler=labeler)
    if unfinished:
        run.finish({"evaluations": count_rows(run, "evaluations")}, next_command=f"make report RUN={path}")
    print(figures_table(figures, labeler))


def aligned_policy(path: Path, config: Config) -> ModelSection:
    """The model that dpo left in the run folder, loaded as the policy is."""
    folder = path / "policy"
    if not folder.is_dir():
        raise InputError(f"no aligned model in {folder}; make it with: make dpo RUN={path}")
    return config.policy.model_copy(update={"model": str(folder), "revision": None})


def ask_policies(run: Run, policies: dict[str, ModelSection], serve: Serve) -> None:
    """Greedy answers of every policy to every prompt of the evaluation split, written to evaluations."""
    config, split = run.config, run.config.evaluation.split
    prompts = list(read_rows(run, "prompts", ["prompt_id", "image", "instruction"], filter={"split": split}))
    if not prompts:
        known = ", ".join(sorted({row["split"] for row in read_rows(run, "prompts", ["split"])}))
        raise InputError(f"no prompts of split {split!r} in {run.path}, only of {known}; set evaluation.split")
    requests = [
        Request(row["instruction"], row["image"]["bytes"], seed=config.seed, max_tokens=config.evaluation.max_tokens)
        for row in prompts
    ]
    with TableWriter(run, "evaluations", key="which") as writer:
        for which, section in policies.items():
            if which in writer.done:
                continue
            with closing(serve(section, config.engine, config.seed)) as engine:
                answers = engine.generate(requests, description=f"answers {which}")
            rows = []
            for prompt, (answer,) in zip(prompts, answers, strict=True):
                if answer.finish_reason == PROMPT_TOO_LONG:
                    run.drop(prompt["prompt_id"], PROMPT_TOO_LONG, which)
                    continue
                rows.append(
                    {
                        "which": which,
                        "prompt_id": prompt["prompt_id"],
                        "text": answer.text,
                        "finish_reason": answer.finish_reason,
                        "num_tokens": answer.num_tokens,
                        "split": split,
                    }
                )
            writer.write(rows)
            writer.flush()


def read_truth(run: Run) -> Truth:
    """The true objects of every prompt of the run."""
    rows = read_rows(run, "prompts", ["prompt_id", "reference"])
    return {row["prompt_id"]: row["reference"] and json.loads(row["reference"])["objects"] for row in rows}


def evaluate_answers(run: Run, truth: Truth) -> dict[str, Figures]:
    """The five figures of `metrics.hallucination`, before and after."""
    judged = defaultdict(list)
    for row in read_rows(run, "evaluations", ["which", "prompt_id", "text"]):
        judged[row["which"]].append(judge(row["text"], truth[row["prompt_id"]]))
    return {which: hallucination(judged[which]) for which in ("before", "after")}


def evaluate_labeler(run: Run, truth: Truth) -> Figures:
    """Claims, splits and pair orders of the sampled responses against the truth; None where no truth is known.

    Whole-response scoring by the same labeler is the baseline: `whole_response_pair_agreement` over the pairs that the
    same pair rule makes of its scores, `whole_response_same_pairs_agreement` over its order of the pairs of the run.
    """
    responses = {row["response_id"]: row for row in read_rows(run, "responses", ["response_id", "prompt_id", "text"])}
    responses = {key: row for key, row in responses.items() if truth[row["prompt_id"]] is not None}
    false_mentions = {key: judge(row["text"], truth[row["prompt_id"]]).hallucinated for key, row in responses.items()}

    claims: dict[str, list[str]] = defaultdict(list)
    verdicts = []
    for row in read_rows(run, "claims", ["response_id", "prompt_id", "claim", "verdict"]):
        if row["response_id"] in responses:
            claims[row["response_id"]].append(row["claim"])
            verdicts.append((row["verdict"], claim_truth(row["claim"], truth[row["prompt_id"]] or [])))
    scores = {row["response_id"]: row for row in read_rows(run, "scores") if row["response_id"] in responses}
    splits = [key in scores and split_is_right(row["text"], claims[key]) for key, row in responses.items()]

    rows = read_rows(run, "pairs", ["chosen_response_id", "rejected_response_id"])
    pairs = [(row["chosen_response_id"], row["rejected_response_id"]) for row in rows]
    pairs = [pair for pair in pairs if pair[0] in responses]
    whole_scores = {key: row["whole_response_score"] for key, row in scores.items()}
    own = pair_agreement(pairs, false_mentions)
    whole = pair_agreement(whole_response_pairs(run.config, responses, whole_scores), false_mentions)
    same = pair_agreement(reordered(pairs, whole_scores), false_mentions)
    return {
        **claim_quality(verdicts),
        "split_accuracy": sum(splits) / len(splits) if splits else None,
        "responses": len(splits),
        "pair_agreement": own["agreement"],
        "pair_ties": own["ties"],
        "pairs": own["pairs"],
        "whole_response_pair_agreement": whole["agreement"],
        "whole_response_pair_ties": whole["ties"],
        "whole_response_pairs": whole["pairs"],
        "whole_response_same_pairs_agreement": same["agreement"],
    }


def whole_response_pairs(
    config: Config, responses: dict[str, dict[str, Any]], scores: dict[str, float]
) -> list[tuple[str, str]]:
    """The (chosen, rejected) response ids that the run's pair rule makes of whole-response scores."""
    by_prompt: dict[str, list[Scored]] = defaultdict(list)
    for response_id, score in scores.items():
        row = responses[response_id]
        by_prompt[row["prompt_id"]].append(Scored(response_id, row["text"], score))
    limit, balance = config.feedback.pairs_per_prompt, config.feedback.balance_length
    pairs = []
    surplus = 0
    for prompt_id, scored in by_prompt.items():
        seed = int(make_id(str(config.seed), prompt_id), 16) % 2**31
        built, _ = build_pairs(prompt_id, scored, limit=limit, seed=seed, surplus=surplus if balance else None)
        surplus += sum(len(words(pair.chosen.text)) - len(words(pair.rejected.text)) for pair in built)
        pairs += [(pair.chosen.response_id, pair.rejected.response_id) for pair in built]
    return pairs


def figures_table(figures: dict[str, Figures], labeler: Figures) -> str:
    """Before, after and their difference, then the labeler, as text for the terminal."""
    lines = [f"{'':32}{'before':>10}{'after':>10}"]
    for name in ("mention_rate", "response_rate", "recall", "mean_words", "responses"):
        before, after = (_cell(name, figures[which][name]) for which in ("before", "after"))
        lines.append(f"{name:32}{before:>10}{after:>10}")
    lines.append("labeler")
    lines += [f"  {name:40}{_cell(name, value):>10}" for name, value in labeler.items()]
    if figures["before"]["mention_rate"] is None:
        lines.append("no truth is known for these images (reference is null): figures that need it are left out")
    return "\n".join(lines)


def _cell(name: str, value: float | int | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1f}" if name == "mean_words" else f"{100 * value:.1f}%"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_stage(Config, "feedback.evaluate", (__doc__ or "").splitlines()[0], evaluate, argv)


if __name__ == "__main__":
    sys.exit(main())
