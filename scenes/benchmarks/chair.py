"""CHAIR's files, which are COCO's annotations, and those of Object HalBench: a detailed description of each image."""

import base64
from itertools import islice
from pathlib import Path
from typing import Any

from scenes.benchmarks.sampling import DESCRIBE, sample_scenes, write_image, write_json, write_lines
from scenes.benchmarks.synonyms import WORDS
from scenes.language import caption, honest_mentions
from scenes.world.things import THINGS


def write_chair(folder: Path, count: int) -> None:
    """The scenes have no signs: CHAIR would take their words ("PIZZA") for things."""
    images: list[dict[str, Any]] = []
    instances: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    questions: list[dict[str, Any]] = []
    category_ids = {name: index for index, name in enumerate(THINGS, start=1)}
    for image_id, (scene, rng) in enumerate(islice(sample_scenes("chair", signs=0), count), start=1):
        file_name = f"scene_{image_id:06d}.png"
        data = write_image(folder / "images" / file_name, scene)
        images.append({"id": image_id, "file_name": file_name, "width": scene.width, "height": scene.height})
        for item in scene.objects:
            for _ in range(item.number):
                instance = {"image_id": image_id, "category_id": category_ids[item.name]}
                instances.append({"id": len(instances) + 1, **instance})
        text = caption(honest_mentions(scene, detailed=True), rng)
        captions.append({"id": image_id, "image_id": image_id, "caption": text})
        encoded = base64.b64encode(data).decode()
        questions.append({"org_idx": image_id, "image_id": image_id, "question": DESCRIBE, "image": encoded})
    categories = [{"id": index, "name": name} for name, index in category_ids.items()]
    synonyms = "".join(f"{', '.join(words)}\n" for words in WORDS.values())
    (folder / "synonyms.txt").write_text(synonyms, encoding="utf-8")
    write_json(folder / "instances_scenes.json", {"images": images, "categories": categories, "annotations": instances})
    write_json(folder / "captions_scenes.json", {"images": images, "annotations": captions})
    write_lines(folder / "obj_halbench_scenes.jsonl", questions)
