"""The pictures and instructions of a run, for measuring and calibrating exports."""

import hashlib
import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rlaif.config import Config
from rlaif.errors import InputError
from rlaif.storage.files import make_id
from rlaif.storage.run import Run
from rlaif.storage.tables import has_table, read_rows
from scenes.source import scene_rows


@dataclass(frozen=True)
class Picture:
    """A row of `prompts`. image: encoded file bytes; reference: JSON of its truth, None where it is not known."""

    prompt_id: str
    image: bytes
    instruction: str
    source: str
    reference: str | None


def read_pictures(
    config: Config, path: Path, split: str, count: int, advice: str = "set evaluation.split to one that it has"
) -> list[Picture]:
    """The first `count` prompts of a split of the run in `path`, or all of them if it has fewer.

    A run without prompts whose data source is `scenes` gets the scenes that `make generate` would write (round 1).
    Errors: InputError: there are no prompts, or none of that split; advice: what to do then.
    """
    run = Run(path, config, "edge")
    if not has_table(run, "prompts") and config.data.source == "scenes":
        pictures = _scenes(config, split, count, advice)
    else:
        columns = ["prompt_id", "image", "instruction", "source", "reference"]
        rows = islice(read_rows(run, "prompts", columns, filter={"split": split}), count)
        pictures = [Picture(**{**row, "image": row["image"]["bytes"]}) for row in rows]
    if not pictures:
        raise InputError(f"{path} has no prompts of split {split!r}, expected one or more; {advice}")
    return pictures


def _scenes(config: Config, split: str, count: int, advice: str) -> list[Picture]:
    data = config.data
    sizes = {"train": data.train_prompts, "validation": data.validation_prompts, "test": data.test_prompts}
    if split not in sizes:
        raise InputError(f"the scenes have no split {split!r}, only {', '.join(sizes)}; {advice}")
    most = min(sizes[split], count, data.limit or count)
    return [
        Picture(
            prompt_id=make_id(hashlib.sha256(scene.png).hexdigest(), scene.instruction),
            image=scene.png,
            instruction=scene.instruction,
            source="scenes",
            reference=json.dumps(scene.reference),
        )
        for scene in scene_rows(split, most, config.seed)
    ]
