"""MMHal-Bench's file: open questions with reference answers, from the truth.

| question_type | question                      | gt_answer                 |
|---------------|-------------------------------|---------------------------|
| attribute     | What color is the car?        | It is red.                |
| adversarial   | How many dogs are there?      | There are none.           |
| counting      | How many apples are there?    | There are two.            |
| relation      | Where is the car?             | It is at the top left.    |
| environment   | What kind of place is this?   | It is a kitchen.          |
| holistic      | Describe the image in detail. | an honest description     |

The absent things of adversarial questions are, half of the time, those that usually are beside a thing of the scene.
"""

import random
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

from scenes.benchmarks.sampling import DESCRIBE, names_in, sample_scenes, write_image, write_json
from scenes.language import honest_mentions
from scenes.short_questions import (
    NONE,
    ShortQuestion,
    color_question,
    kind_question,
    number_question,
    place_question,
)
from scenes.world import Scene


def counting(scene: Scene, rng: random.Random) -> ShortQuestion | None:
    question = number_question(scene.truth, rng)
    return question if question.answer != NONE else None


def adversarial(scene: Scene, rng: random.Random) -> ShortQuestion | None:
    question = number_question(scene.truth, rng)
    return question if question.answer == NONE else None


def holistic(scene: Scene, rng: random.Random) -> ShortQuestion:
    claims = [mention.claim for mention in honest_mentions(scene, detailed=True)]
    return ShortQuestion("description", DESCRIBE, " ".join(claims))


# question_type -> a question about the scene; None: the scene has none
TYPES: dict[str, Callable[[Scene, random.Random], ShortQuestion | None]] = {
    "attribute": lambda scene, rng: color_question(scene.truth, rng),
    "adversarial": adversarial,
    "counting": counting,
    "relation": lambda scene, rng: place_question(scene.truth, rng),
    "environment": lambda scene, rng: kind_question(scene.truth, rng),
    "holistic": holistic,
}


def write_mmhal(folder: Path, count: int) -> None:
    """One question an image, of each type in turn; a scene that has none of the type is skipped."""
    records = []
    scenes = sample_scenes("mmhal")
    for index, kind in enumerate(islice(cycle(TYPES), count), start=1):
        scene, question = next((scene, it) for scene, rng in scenes if (it := TYPES[kind](scene, rng)))
        image_id = f"{index:016x}"
        write_image(folder / "images" / f"{image_id}.png", scene)
        records.append(
            {
                "question_type": kind,
                "question_topic": "scene",
                "image_id": image_id,
                "image_src": f"{image_id}.png",
                "image_content": names_in(scene),
                "question": question.question,
                "gt_answer": question.answer,
                "model_answer": "",
            }
        )
    write_json(folder / "response_template.json", records)
