"""The labeler's verdicts on the greedy answers in `evaluations`: hallucination figures where no truth is known.

Answers are divided and verified as responses are in training. The number of claims per answer is reported beside the
share of rejected claims, so that a policy cannot do well by saying nothing.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from contextlib import closing
from functools import partial
from itertools import groupby, islice
from typing import Any

from evaluation.statistics import Counts, Figures, ratio
from feedback.divide import Split
from feedback.labeler import Labeler, Prompt, record_drops, split_responses
from feedback.labeler_prompts import read_prompts
from rlaif.config import ModelSection
from rlaif.inference.engine import OpenEngine
from rlaif.inference.first_answers import open_checked
from rlaif.progress import progress_bar
from rlaif.storage.files import make_id
from rlaif.storage.run import Run
from rlaif.storage.tables import count_rows, read_rows
from rlaif.storage.writer import TableWriter

PROMPTS_PER_CHUNK = 64
Row = dict[str, Any]


def label_answers(
    run: Run, model: ModelSection, revision: str, splitter: ModelSection | None, open_engine: OpenEngine
) -> None:
    """Write `labeled_answers`: claims, rejected and unknown ones of every answer that could be divided.

    A splitter divides all answers before the labeler verifies any; its splits are held in memory.
    """
    config = run.config
    wording = read_prompts(config.feedback.prompts)
    with TableWriter(run, "labeled_answers", key=("which", "prompt_id")) as writer:
        if writer.path.is_file():
            return
        num_answers = count_rows(run, "evaluations")
        min_mass = 0.0 if writer.done else config.feedback.min_yes_no_mass  # the labeler of written rows could judge
        open_splitter, open_labeler = (
            partial(open_checked, open_engine, role, min_mass) for role in ("splitter", "labeler")
        )
        splits: dict[str, Split] | None = None
        if splitter:
            splits = {}
            with (
                closing(open_splitter(splitter, config.engine, config.seed)) as engine,
                progress_bar("splits", "answer", num_answers, len(writer.done)) as bar,
            ):
                for _, prompts in _chunks(run, writer.done):
                    answers = [(prompt.instruction, answer) for prompt in prompts for answer in prompt.responses]
                    chunk_splits, drops = engine.run(
                        split_responses(engine, answers, wording, config.feedback, config.seed)
                    )
                    splits |= chunk_splits
                    record_drops(run, drops)
                    bar.update(len(prompts))
        with (
            closing(open_labeler(model, config.engine, config.seed)) as engine,
            progress_bar("labels", "answer", num_answers, len(writer.done)) as bar,
        ):
            labeler = Labeler(engine, wording, config.feedback, config.seed, model.model, revision)
            for which, prompts in _chunks(run, writer.done):
                labels = engine.run(labeler.label(prompts, splits))
                record_drops(run, labels.drops)
                for row in labels.scores:
                    columns = {name: row[name] for name in ("prompt_id", "num_claims", "num_rejected", "num_unknown")}
                    writer.write([{"which": which, **columns}])
                writer.flush()
                bar.update(len(prompts))


def labeled_counts(claims: int, rejected: int, unknown: int) -> Counts:
    """What one answer adds to the sums behind `labeled_figures`."""
    return Counter(
        labeled_answers=1,
        labeled_claims=claims - unknown,
        unknown_claims=unknown,
        rejected_claims=rejected,
        answers_with_rejected_claims=int(rejected > 0),
        undecided_answers=int(unknown > 0 and not rejected),
    )


def labeled_figures(totals: Counts) -> Figures:
    """The labeler's verdicts on a set of answers, from the sums of their `labeled_counts`.

    - rejected_share: rejected claims / verified claims;
    - rejected_response_share: answers with a rejected claim / labeled answers;
    - undecided_response_share: answers without a rejected claim, but with an unknown one / labeled answers: so much
      higher the share above may be;
    - mean_claims: verified claims / labeled answers;
    - unknown_share: claims that could not be verified / all claims;
    - labeled_answers: answers counted.
    """
    return {
        "rejected_share": ratio(totals["rejected_claims"], totals["labeled_claims"]),
        "rejected_response_share": ratio(totals["answers_with_rejected_claims"], totals["labeled_answers"]),
        "undecided_response_share": ratio(totals["undecided_answers"], totals["labeled_answers"]),
        "mean_claims": ratio(totals["labeled_claims"], totals["labeled_answers"]),
        "unknown_share": ratio(totals["unknown_claims"], totals["labeled_claims"] + totals["unknown_claims"]),
        "labeled_answers": totals["labeled_answers"],
    }


def _chunks(run: Run, done: Set[tuple[str, str]]) -> Iterator[tuple[str, list[Prompt]]]:
    """Chunks of prompts with the policy ("before" or "after") that answered them; finished answers are skipped."""
    for which, answers in groupby(read_rows(run, "evaluations"), key=lambda row: row["which"]):
        by_prompt = {row["prompt_id"]: row for row in answers if (which, row["prompt_id"]) not in done}
        prompts = _prompts(run, which, by_prompt)
        while chunk := list(islice(prompts, PROMPTS_PER_CHUNK)):
            yield which, chunk


def _prompts(run: Run, which: str, by_prompt: Mapping[str, Row]) -> Iterator[Prompt]:
    """The answered prompts, each with its answer as its only response."""
    columns = ["prompt_id", "instruction", "image", "image_sha256"]
    for prompt in read_rows(run, "prompts", columns, {"split": run.config.evaluation.split}):
        if answer := by_prompt.get(prompt["prompt_id"]):
            response = {"response_id": make_id(which, prompt["prompt_id"]), **answer}
            image = prompt["image"]["bytes"]
            yield Prompt(prompt["prompt_id"], prompt["instruction"], image, prompt["image_sha256"], [response])
