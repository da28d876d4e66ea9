"""Rows of others -> `prompts`, with images and texts checked, and the answers to each prompt."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rlaif.config import Config, DataSection
from rlaif.errors import InputError
from rlaif.interchange.importer.answers import AnswerFile, Answers
from rlaif.interchange.importer.layouts import COLUMNS, Layout
from rlaif.interchange.importer.origin import Origin
from rlaif.interchange.importer.sample import Sample, UnusableRowError
from rlaif.interchange.importer.source import open_tables
from rlaif.progress import progress_bar
from rlaif.records.record import Record, RecordTable
from rlaif.sources.images import ImageFile, load_images
from rlaif.sources.picture import Drop, Picture, UnusableImageError, redacted
from rlaif.sources.splits import find_problem, in_part, split_of
from rlaif.storage.files import make_id
from rlaif.storage.run import Run
from rlaif.storage.writer import TableWriter
from rlaif.text import replace_surrogates


@dataclass(frozen=True)
class Offer(Picture):
    """A picture with one instruction and the answers to it."""

    answers: tuple[str, ...] = ()
    policy: str | None = None


def write_prompts(run: Run[Config], origin: Origin, layout: Layout, answers: AnswerFile) -> None:
    """Write `prompts` from the usable rows, and keep their answers. Errors: InputError if no row is usable."""
    data = run.config.data
    dropped: Counter[str] = Counter()
    details: list[str] = []

    def drop(row_id: str, reason: str, detail: str) -> None:
        dropped[reason] += 1
        if not details:
            details.append(f"; the first: {detail}")
        run.drop(row_id, reason, detail)

    known: set[str] = set()
    finished = (run.path / "prompts.parquet").is_file()  # before the import was stopped
    with (
        TableWriter(run, "prompts", key="prompt_id") as writer,
        progress_bar("rows", "row", total=None, done=0) as bar,
    ):
        for offer, image in load_images(offers(data, origin, layout, drop), data.image_hosts, data.max_pixels):
            bar.update()
            if isinstance(image, UnusableImageError):
                drop(offer.name, image.reason, str(image))
                continue
            split = split_of(image.sha256, data)
            if split == "train" and not in_part(image.sha256, data.train_parts, run.config.round):
                continue
            (instruction,) = offer.instructions
            assert isinstance(instruction, str)
            prompt_id = make_id(image.sha256, instruction)
            if finished and prompt_id not in writer.done:
                drop(offer.name, "image_changed", "its image was another one or missing before the import was stopped")
                continue
            if prompt_id not in known:
                if len(known) == data.limit:
                    break
                known.add(prompt_id)
                if prompt_id not in writer.done:
                    writer.write([prompt_row(prompt_id, offer, image, split, origin)])
            answers.add(prompt_id, Answers(offer.answers, offer.policy, replace_surrogates(offer.name)))
        if not known:
            reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "it is empty"
            raise InputError(
                f"no usable row in {data.path} ({reasons}{''.join(details)}); correct it, or give another DATA="
            )


def offers(data: DataSection, origin: Origin, layout: Layout, drop: Drop) -> Iterator[Offer]:
    """The usable rows of the source; the others are dropped."""
    for table in open_tables(data, origin):
        for record in table.rows(wanted_columns(table)):
            try:
                sample = read_sample(record, layout, data)
            except UnusableRowError as error:
                drop(record.name, error.reason, f"{record.where}: {error}")
                continue
            yield Offer(
                record.name,
                sample.image,
                [sample.instruction],
                redacted(sample.path or record.name),
                folders=table.folders,
                answers=sample.answers,
                policy=sample.policy,
            )


def read_sample(record: Record, layout: Layout, data: DataSection) -> Sample:
    """The sample of a row, its texts checked. Errors: UnusableRowError."""
    if record.fault:
        raise UnusableRowError("unfit_row", record.fault)
    sample = layout.read(record.values)
    if problem := find_problem(sample.instruction, data.max_instruction_chars):
        raise UnusableRowError(*problem)
    if layout.has_pairs:
        for text in sample.answers:
            check_answer(text, data)
        if len({" ".join(text.split()) for text in sample.answers}) < 2:
            raise UnusableRowError("equal_text", "chosen and rejected are equal")
    elif not sample.answers:
        raise UnusableRowError("empty_response", "the row has no responses")
    return sample


def prompt_row(prompt_id: str, offer: Offer, image: ImageFile, split: str, origin: Origin) -> dict[str, Any]:
    """A row of `prompts`."""
    return {
        "prompt_id": prompt_id,
        "image": {"bytes": image.content, "path": offer.path},
        "image_sha256": image.sha256,
        "instruction": offer.instructions[0],
        "source": origin.name,
        "split": split,
        "reference": None,
    }


def check_answer(text: str, data: DataSection) -> None:
    """Errors: UnusableRowError for a text that is empty or too long."""
    if not text.strip():
        raise UnusableRowError("empty_response", "an answer has no text")
    if len(text) > data.max_response_chars:
        raise UnusableRowError("response_too_long", f"{len(text):,} characters: {text[:80]}")


def wanted_columns(table: RecordTable) -> list[str] | None:
    """The columns that layouts know; None, for all, in JSON, where a later row may have others."""
    return None if table.schema is None else [name for name in table.columns if name in COLUMNS]
