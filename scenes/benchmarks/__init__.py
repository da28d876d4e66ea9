"""The embedded scenes as public hallucination benchmarks, in the published file formats.

    write_files("pope", Path("runs/pope"), scenes=200)

| name  | files                                                     | questions                                     |
|-------|-----------------------------------------------------------|-----------------------------------------------|
| chair | synonyms.txt, instances_scenes.json,                      | a detailed description                        |
|       | captions_scenes.json, obj_halbench_scenes.jsonl           |                                               |
| amber | data/query/query_*.json, data/annotations.json,           | a description; whether a thing is there, has  |
|       | data/relation.json, data/safe_words.txt                   | a color, size or number, is at a place, next  |
|       |                                                           | to, on or behind another                      |
| pope  | scenes_pope_{random,popular,adversarial}.json             | whether a thing is there                      |
| mmhal | response_template.json                                    | color, number, place, kind of scene; things   |
|       |                                                           | that are not there; a description             |

Things have their names in COCO. Questions have the wording that the embedded models were trained on
(`scenes.short_questions`). The scenes are sampled for this purpose and occur in neither training tables nor runs.

The embedded labeler was not trained to rate: as the rater of mmhal it only shows that the stage runs.
"""

from collections.abc import Callable
from pathlib import Path

from scenes.benchmarks.amber import write_amber
from scenes.benchmarks.chair import write_chair
from scenes.benchmarks.mmhal import write_mmhal
from scenes.benchmarks.pope import write_pope

__all__ = ["write_files"]


def write_files(name: str, folder: Path, scenes: int) -> None:
    """Write the files and images of a benchmark into a new folder; the same content every time.

    Errors: KeyError for an unknown name; FileExistsError if the folder has images.
    """
    writers: dict[str, Callable[[Path, int], None]] = {
        "chair": write_chair,
        "amber": write_amber,
        "pope": write_pope,
        "mmhal": write_mmhal,
    }
    write = writers[name]
    (folder / "images").mkdir(parents=True)
    write(folder, scenes)
