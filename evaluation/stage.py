"""Measures hallucination before and after alignment, and the labeler against the truth.

    python -m evaluation --config configs/demo.yaml --run runs/demo

Two policies answer the prompts of the split `evaluation.split` greedily: the one of the configuration ("before") and
the aligned one in runs/<name>/policy ("after"). Their answers, and the responses, claims, scores and pairs of the run,
are compared with the truth of each image: the column `reference` of prompts, which no other stage reads. With
`evaluation.labeler` the labeler verifies these answers too, which needs no known truth. Where people have judged a
sample of the run (`make audit`), the labeler is compared with them; that alone where there is no aligned policy yet.

| output          | content                                                                                          |
|-----------------|--------------------------------------------------------------------------------------------------|
| evaluations     | which, prompt_id, text, finish_reason, num_tokens, split                                         |
| labeled_answers | which, prompt_id, num_claims, num_rejected, num_unknown; with `evaluation.labeler`               |
| short_answers   | which, question_id, image_id, kind, question, expected, text, correct, ...: see short_answers.py |
| metrics.json    | `before`, `after`, `change`, `labeler`, `short_answers`, and under `intervals` the 95% confidence|
|                 | interval of each figure (bootstrap over prompts or images; for a change both answers to a prompt |
|                 | are drawn together); `people`: see evaluation/audit/figures.py                                   |

Answers are generated and labeled once; figures are computed on every run.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from evaluation.audit.section import people_table, read_audit, update_people
from evaluation.audit.store import Audit, AuditError
from evaluation.hallucination import answer_counts, change, hallucination_figures
from evaluation.labeled_answers import label_answers, labeled_counts, labeled_figures
from evaluation.labeler_quality import labeler_counts, labeler_figures, recorded_pair_rule
from evaluation.short_answers import (
    SIDES,
    ShortQuestion,
    has_short_questions,
    remaining,
    short_counts,
    short_questions,
    short_statistics,
    short_table,
    short_writer,
    write_answers,
)
from evaluation.statistics import Counts, Figures, Intervals, intervals, total
from evaluation.truth import TruthLookup, truth_of
from feedback.labeler_prompts import read_prompts
from rlaif.config import Config, ModelSection
from rlaif.errors import InputError
from rlaif.inference.engine import REFUSALS, Advance, Engine, OpenEngine, Request
from rlaif.inference.open import open_engine
from rlaif.inference.revision import pin_model
from rlaif.progress import progress_bar
from rlaif.report.figures import figures_list, format_with_interval
from rlaif.storage.files import files_digest
from rlaif.storage.join import join_by_prompt
from rlaif.storage.run import Run
from rlaif.storage.tables import count_rows, read_parts, read_rows
from rlaif.storage.writer import TableWriter
from rlaif.text import replace_surrogates

PROMPTS_PER_CHUNK = 500  # answers per write: bounds memory, and the work that a kill loses


def evaluate(
    config: Config, path: Path, open_engine: OpenEngine = open_engine, truth_of: TruthLookup = truth_of
) -> None:
    """Run the stage. Errors: RlaifError for anything that the user can fix."""
    run = Run(path, config, "evaluate")
    audit, uncounted = read_audit(path)  # before any answer, because a file may be damaged
    if not (path / "policy").is_dir():
        if uncounted:
            raise AuditError(uncounted)
        if audit:
            return evaluate_labeler(run, audit, truth_of)
    policies = {"before": pin_model(config.policy), "after": pin_model(aligned_policy(path, config))}
    settings: dict[str, Any] = {
        "evaluation": config.evaluation.model_dump(),
        "policies": {
            "before": model_settings(*policies["before"]),
            "after": {**model_settings(*policies["after"]), "model": "policy"},  # relative: a run folder may move
        },
        **config.engine.identity(),
    }
    tables = ["evaluations"]
    if asks_short := has_short_questions(config):
        tables.append("short_answers")
        if (table := config.evaluation.short_answers.path) and Path(table).exists():
            settings["short_answers_files"] = files_digest(Path(table))
    splitter: ModelSection | None = None
    if config.evaluation.labeler:
        tables.append("labeled_answers")
        labeler, labeler_revision = pin_model(config.labeler)
        settings["labeler"] = model_settings(labeler, labeler_revision)
        settings["feedback"] = {
            **config.feedback.model_dump(),
            "prompts": asdict(read_prompts(config.feedback.prompts)),
        }
        if config.splitter:
            splitter, splitter_revision = pin_model(config.splitter)
            settings["splitter"] = model_settings(splitter, splitter_revision)
    unfinished = run.begin(tables, settings, inputs=["prompts"])
    has_feedback = (path / "feedback.json").is_file()  # the final evaluation of `make rounds` has prompts only
    labeling = labeler_counts(run, truth_of) if has_feedback else []  # first, because a table may be missing
    if unfinished:
        run.announce(
            *(f"greedy answers {which}: {model.model}" for which, (model, _) in policies.items()),
            f"to the prompts of split {config.evaluation.split!r}, then compares them with the truth"
            + (f" and verifies their claims with {config.labeler.model}" if config.evaluation.labeler else ""),
            *([f"asks at most {config.evaluation.short_answers.limit:,} short questions"] if asks_short else []),
        )
        questions = partial(short_questions, run, truth_of) if asks_short else None
        answer_prompts(run, {which: model for which, (model, _) in policies.items()}, open_engine, questions)
        if config.evaluation.labeler:
            label_answers(run, labeler, labeler_revision, splitter, open_engine)
    figures, spread = answer_statistics(run, truth_of)
    if has_feedback:
        figures["labeler"] = labeler_figures(total(labeling))
        spread["labeler"] = intervals(labeling, labeler_figures, config.seed)
    run.update_metrics(**figures, intervals=spread)
    people = update_people(run, audit)
    short, short_spread = short_statistics(short_counts(run) if asks_short else [], config.seed)
    if short:
        run.update_metrics(short_answers=short, intervals={"short_answers": short_spread})
    if unfinished:
        kept = {table: count_rows(run, table) for table in tables}
        run.finish(kept, f"make report RUN={path}, with the same CONFIG and SET")
    print(figures_table(figures, spread))
    if people:
        print(people_table(*people))
    if uncounted:
        print(f"people: {uncounted}")
    if short:
        print(short_table(short, short_spread))


def evaluate_labeler(run: Run, audit: Audit, truth_of: TruthLookup) -> None:
    """What needs no aligned policy: the labeler compared with the truth, where it is known, and with people.

    Nothing here is bound to the configuration yet, so all settings are those that the run has recorded.
    Errors: InputError: a table is missing.
    """
    run.announce(f"the labeler alone: {run.path / 'policy'} has no aligned model yet, see `make dpo`")
    labeling = labeler_counts(run, truth_of)
    figures = labeler_figures(total(labeling))
    spread = intervals(labeling, labeler_figures, recorded_pair_rule(run).seed)
    run.update_metrics(labeler=figures, intervals={"labeler": spread})
    if labeling:
        print(figures_list("labeler", figures, spread))
    if people := update_people(run, audit):
        print(people_table(*people))
    print(f"  next     make report RUN={run.path}, with the same CONFIG and SET")


def model_settings(section: ModelSection, revision: str) -> dict[str, Any]:
    """All that determines the answers of a model; the tables are bound to these settings."""
    return {**section.identity(), "revision": revision}


def aligned_policy(path: Path, config: Config) -> ModelSection:
    """The model that dpo wrote into the run folder, with the settings of the policy. Errors: InputError."""
    folder = path / "policy"
    if not folder.is_dir():
        raise InputError(f"no aligned model in {folder}; first run `make dpo RUN={path}` with the same CONFIG and SET")
    return config.policy.model_copy(update={"model": str(folder), "revision": None})


def answer_prompts(
    run: Run,
    policies: dict[str, ModelSection],
    open_engine: OpenEngine,
    questions: Callable[[], Iterator[ShortQuestion]] | None,
) -> None:
    """Write `evaluations`: greedy answers of every policy to every prompt of the evaluation split.

    questions: with them also `short_answers`, of the same engines.
    Errors: InputError: the split has no prompts.
    """
    config, split = run.config, run.config.evaluation.split
    num_prompts = sum(1 for _ in read_rows(run, "prompts", ["prompt_id"], filter={"split": split}))
    if not num_prompts:
        known = ", ".join(sorted({row["split"] for row in read_rows(run, "prompts", ["split"])}))
        raise InputError(f"{run.path} has no prompts of split {split!r}, only of {known}; set evaluation.split")
    with (
        TableWriter(run, "evaluations", key=("which", "prompt_id")) as writer,
        short_writer(run) if questions else nullcontext() as short,
        progress_bar("answers", "prompt", len(policies) * num_prompts, len(writer.done)) as bar,
    ):
        for which, section in policies.items():
            rows = read_rows(run, "prompts", ["prompt_id", "image", "instruction"], filter={"split": split})
            todo = (row for row in rows if (which, row["prompt_id"]) not in writer.done)
            short_todo = iter(remaining(which, questions(), short) if questions and short else ())
            first, first_short = next(todo, None), next(short_todo, None)
            if first is None and first_short is None:
                continue  # before a model is loaded
            with closing(open_engine(section, config.engine, config.seed)) as engine:
                prompts = chain([first] if first else [], todo)
                while chunk := list(islice(prompts, PROMPTS_PER_CHUNK)):
                    writer.write(greedy_answers(run, which, chunk, engine, bar.update))
                    writer.flush()
                if first_short and short:
                    write_answers(run, which, chain([first_short], short_todo), engine, short)


def greedy_answers(
    run: Run, which: str, prompts: Sequence[dict[str, Any]], engine: Engine, advance: Advance
) -> Iterator[dict[str, Any]]:
    """Rows of `evaluations` for these prompts; one that the policy cannot take is dropped with its reason."""
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


def answer_statistics(run: Run, truth_of: TruthLookup = truth_of) -> tuple[dict[str, Figures], dict[str, Intervals]]:
    """`before`, `after` and `change`: their figures and intervals."""
    counts = {which: dict(counts_by_prompt(run, which, truth_of)) for which in SIDES}
    figures = {which: answer_figures(total(by_prompt.values())) for which, by_prompt in counts.items()}
    spread = {
        which: intervals(list(by_prompt.values()), answer_figures, run.config.seed)
        for which, by_prompt in counts.items()
    }
    both = [
        Counter({f"{which} {name}": count for which in SIDES for name, count in counts[which][prompt_id].items()})
        for prompt_id in counts["before"]
        if prompt_id in counts["after"]
    ]
    figures["change"] = change(figures["before"], figures["after"])
    spread["change"] = intervals(both, change_figures, run.config.seed)
    return figures, spread


def counts_by_prompt(run: Run, which: str, truth_of: TruthLookup) -> Iterator[tuple[str, Counts]]:
    """What a policy's answer to each prompt adds to the sums behind `answer_figures`, by prompt_id."""

    def rows_of(table: str, columns: Sequence[str]) -> Iterator[pa.Table]:
        return (part.filter(pc.equal(part["which"], which)) for part in read_parts(run, table, ["which", *columns]))

    tables = {"evaluations": rows_of("evaluations", ["prompt_id", "text"])}
    if run.config.evaluation.labeler:
        tables["labeled_answers"] = rows_of(
            "labeled_answers", ["prompt_id", "num_claims", "num_rejected", "num_unknown"]
        )
    for prompt, rows in join_by_prompt(read_parts(run, "prompts", ["prompt_id", "source", "reference"]), **tables):
        if rows["evaluations"]:
            (answer,) = rows["evaluations"]
            counts = answer_counts(answer["text"], truth_of(prompt["source"], prompt["reference"]))
            for row in rows.get("labeled_answers", []):
                counts.update(labeled_counts(row["num_claims"], row["num_rejected"], row["num_unknown"]))
            yield prompt["prompt_id"], counts


def answer_figures(totals: Counts) -> Figures:
    """Figures against the truth and, where the labeler has verified answers, those of its verdicts."""
    return hallucination_figures(totals) | (labeled_figures(totals) if totals["labeled_answers"] else {})


def change_figures(totals: Counts) -> Figures:
    """`metrics.change`, from sums whose names start with "before " and "after "."""
    sides = [
        Counter({name.removeprefix(f"{which} "): count for name, count in totals.items() if name.startswith(which)})
        for which in SIDES
    ]
    return change(*map(answer_figures, sides))


def figures_table(figures: dict[str, Figures], spread: dict[str, Intervals]) -> str:
    """Before, after and their difference, then the labeler, with intervals, as text for the terminal."""

    def cell(which: str, name: str) -> str:
        return format_with_interval(name, figures[which].get(name), spread[which].get(name))

    lines = [f"{'':24}{'before':>22}{'after':>22}{'change':>28}"]
    for name in figures["before"]:
        change_cell = ""
        if name in figures["change"]:  # the change of a mean is a share too
            change_cell = format_with_interval("change", figures["change"][name], spread["change"].get(name))
        lines.append(f"{name:24}{cell('before', name):>22}{cell('after', name):>22}{change_cell:>28}".rstrip())
    lines.append("change: relative to before, of recall in points; in brackets: 95% confidence intervals")
    if "labeler" in figures:
        lines.append(figures_list("labeler", figures["labeler"], spread["labeler"]))
    if figures["before"]["mention_rate"] is None:
        lines.append("no truth is known for these images (reference is null): figures that need it are missing")
    return "\n".join(lines)
