"""Pictures of a source -> rows of `prompts`: load and check each image, check each instruction, assign a split.

Columns written: prompt_id, image (a plain file: see rlaif.sources.images; and its path), image_sha256 (of the file as
it came), instruction, source, split, reference.
Only embedded scenes have a `reference`. Images of other sources are divided into splits by their hash, with
`data.validation_share` and `data.test_share`. With `data.train_parts` each round has different training images.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator
from typing import Any

from rlaif.config import DataSection
from rlaif.records.conversation import take_marks
from rlaif.sources.images import load_images
from rlaif.sources.picture import Drop, Picture, UnusableImageError
from rlaif.sources.splits import find_problem, in_part, split_of
from rlaif.storage.files import make_id


def build_prompts(
    pictures: Iterable[Picture],
    data: DataSection,
    done: Container[str],
    drop: Drop,
    round: int = 1,
    tally: Counter[str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of `prompts`, at most `data.limit`, without those whose id is in `done` (written before a stop).

    Every image is loaded once. Whatever cannot be used is passed to `drop` with its reason, and the rest continues. A
    prompt that is repeated is dropped once, after all rows, with the number of its repetitions. Image marks are taken
    out of an instruction; otherwise it is stored as it is: text never becomes a special token (see
    rlaif.inference.engine). tally: receives the numbers `marked`, of instructions that had marks, and `repeated`, of
    rows that repeat an earlier one.
    """
    tally = Counter() if tally is None else tally
    known: set[str] = set()
    repeated: dict[str, tuple[int, str]] = {}  # prompt_id -> number of repetitions, name of the first one
    counts: Counter[str | None] = Counter()  # prompts by the split that the source gives
    for picture, image in load_images(pictures, data.image_hosts, data.max_pixels):
        if counts[picture.split] == data.limit:
            break  # scenes, the only source with predefined splits, apply the limit themselves
        if isinstance(image, UnusableImageError):
            drop(picture.name, image.reason, str(image))
            continue
        digest = image.sha256
        split = picture.split or split_of(digest, data)
        if picture.split is None and split == "train" and not in_part(digest, data.train_parts, round):
            continue
        for instruction in picture.instructions:
            if counts[picture.split] == data.limit:
                break
            marks = picture.marks
            if isinstance(instruction, str):
                instruction, found = take_marks(instruction)
                marks += found
            if problem := find_problem(instruction, data.max_instruction_chars):
                drop(picture.name, *problem)
                continue
            assert isinstance(instruction, str)
            tally["marked"] += marks > 0
            prompt_id = make_id(digest, instruction)
            if prompt_id in known:
                count, first = repeated.get(prompt_id, (0, picture.name))
                repeated[prompt_id] = count + 1, first
                continue
            known.add(prompt_id)
            counts[picture.split] += 1
            if prompt_id not in done:
                yield {
                    "prompt_id": prompt_id,
                    "image": {"bytes": image.content, "path": picture.path},
                    "image_sha256": digest,
                    "instruction": instruction,
                    "source": data.source,
                    "split": split,
                    "reference": picture.reference,
                }
    for prompt_id, (count, first) in repeated.items():
        more = f", and so do {count - 1:,} later rows" if count > 1 else ""
        drop(prompt_id, "duplicate_prompt", f"{first}: repeats an earlier image and instruction{more}")
    tally["repeated"] += sum(count for count, _ in repeated.values())
