"""The embedded scenes as public hallucination benchmarks, in the published file formats.

    write_files("pope", Path("runs/pope"), scenes=200)

| name  | files                                                     | questions                                     |
|-------|-----------------------------------------------------------|-----------------------------------------------|
| chair | synonyms.txt, instances_scenes.json,                      | a detailed description                        |
|       | captions_scenes.json, obj_halbench_scenes.jsonl           |                                               |
| amber | data/query/query_*.json, data/annotations.json,           | a description; whether an object exists, has  |
|       | data/relation.json, data/safe_words.txt                   | a size, is at a position                      |
| pope  | scenes_pope_{random,popular,adversarial}.json             | whether an object exists                      |
| mmhal | response_template.json                                    | what is at a position; a description          |

An object is its color and shape ("red circle"). Questions have the wording that the embedded models were trained on
(prompts.py). These models can neither count nor see how two objects touch, so there are no AMBER questions on numbers
and actions, and its relation is that of an object to its position. The scenes are sampled for this purpose and occur in
neither training tables nor runs. AMBER's `hallu` are objects that the world's habits suggest and the scene does not
have.

The embedded labeler was not trained to rate: as the rater of mmhal it only shows that the stage runs.
"""

import base64
import io
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scenes.language import (
    Mention,
    caption,
    honest_mentions,
    join,
    mention_is_true,
    mention_of,
    place_phrase,
    question_of,
)
from scenes.prompts import VERIFY_PROMPT
from scenes.world import (
    COLORS,
    COMPANIONS,
    PLACES,
    SHAPES,
    SIZES,
    USUAL_COLORS,
    Scene,
    SceneObject,
    render,
    sample_scene,
)

NAMES = tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES)
DESCRIBE = "Describe the image in detail."
POSITIVES = 3  # questions of POPE about objects of an image, and as many about absent ones
HALLU = 4  # objects in AMBER's `hallu`


def write_files(name: str, folder: Path, scenes: int) -> None:
    """Write the files and images of a benchmark into a new folder; the same content every time."""
    (folder / "images").mkdir(parents=True)
    writers: dict[str, Callable[[Path, int], None]] = {
        "chair": write_chair,
        "amber": write_amber,
        "pope": write_pope,
        "mmhal": write_mmhal,
    }
    writers[name](folder, scenes)


def sample_scenes(purpose: str, min_names: int = 1) -> Iterator[tuple[Scene, random.Random]]:
    """Endless scenes with at least this many distinct objects, each with a random generator for its questions."""
    index = 0
    while True:
        rng = random.Random(f"benchmark {purpose}/{index}")
        scene = sample_scene(rng)
        if len(names_in(scene)) >= min_names:
            yield scene, rng
        index += 1


def name_of(item: SceneObject) -> str:
    return f"{item.color} {item.shape}"


def names_in(scene: Scene) -> list[str]:
    """The distinct objects of a scene, in reading order."""
    return list(dict.fromkeys(map(name_of, scene.objects)))


def existence_question(name: str) -> str:
    return yes_no_prompt(question_of(Mention(*name.split())))


def yes_no_prompt(question: str) -> str:
    return VERIFY_PROMPT.replace("{question}", question)


def png(scene: Scene) -> bytes:
    buffer = io.BytesIO()
    render(scene).save(buffer, format="PNG")
    return buffer.getvalue()


# ----- POPE


def write_pope(folder: Path, count: int) -> None:
    scenes = [scene for scene, _ in _first(count, sample_scenes("pope", POSITIVES))]
    objects = {f"scene_{index:06d}.png": names_in(scene) for index, scene in enumerate(scenes)}
    for image, scene in zip(objects, scenes, strict=True):
        (folder / "images" / image).write_bytes(png(scene))
    for kind in ("random", "popular", "adversarial"):
        lines = [json.dumps(record) for record in pope_records(kind, objects)]
        (folder / f"scenes_pope_{kind}.json").write_text("\n".join(lines) + "\n", encoding="utf-8")


def pope_records(kind: str, objects: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Questions about images with these objects, alternately about a present and about an absent object.

    The absent object, without repetition, is random, or the most frequent one in all images (popular), or the one that
    most often occurs together with the present object (adversarial); random if there is no such object.
    """
    rng = random.Random(f"pope {kind}")
    frequency = Counter(name for names in objects.values() for name in names)
    together = {
        name: Counter(other for names in objects.values() if name in names for other in names) for name in NAMES
    }
    records: list[dict[str, Any]] = []
    for image, present in objects.items():
        unused = [name for name in NAMES if name not in present]
        for name in rng.sample(list(present), POSITIVES):
            counts = {"random": Counter[str](), "popular": frequency, "adversarial": together[name]}[kind]
            absent = max(unused, key=counts.__getitem__) if any(counts[it] for it in unused) else rng.choice(unused)
            unused.remove(absent)
            for queried, label in ((name, "yes"), (absent, "no")):
                text = existence_question(queried)
                records.append({"question_id": len(records) + 1, "image": image, "text": text, "label": label})
    return records


# ----- CHAIR and Object HalBench


def write_chair(folder: Path, count: int) -> None:
    images: list[dict[str, Any]] = []
    instances: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    questions: list[dict[str, Any]] = []
    for image_id, (scene, rng) in enumerate(_first(count, sample_scenes("chair")), start=1):
        file_name, data = f"scene_{image_id:06d}.png", png(scene)
        (folder / "images" / file_name).write_bytes(data)
        images.append({"id": image_id, "file_name": file_name, "width": scene.width, "height": scene.height})
        for item in scene.objects:
            category = NAMES.index(name_of(item)) + 1
            instances.append({"id": len(instances) + 1, "image_id": image_id, "category_id": category})
        text = caption(honest_mentions(scene, DESCRIBE), rng)
        captions.append({"id": image_id, "image_id": image_id, "caption": text})
        encoded = base64.b64encode(data).decode()
        questions.append({"org_idx": image_id, "image_id": image_id, "question": DESCRIBE, "image": encoded})
    categories = [{"id": index, "name": name} for index, name in enumerate(NAMES, start=1)]
    (folder / "synonyms.txt").write_text("".join(f"{name}\n" for name in NAMES), encoding="utf-8")
    _write(folder / "instances_scenes.json", {"images": images, "categories": categories, "annotations": instances})
    _write(folder / "captions_scenes.json", {"images": images, "annotations": captions})
    lines = [json.dumps(question) for question in questions]
    (folder / "obj_halbench_scenes.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


# ----- AMBER


def write_amber(folder: Path, count: int) -> None:
    (folder / "data" / "query").mkdir(parents=True)
    generative: list[tuple[str, str, dict[str, Any]]] = []  # image, query, annotation
    discriminative: list[tuple[str, str, dict[str, Any]]] = []
    for index, (scene, rng) in enumerate(_first(count, sample_scenes("amber")), start=1):
        image = f"AMBER_{index}.png"
        (folder / "images" / image).write_bytes(png(scene))
        hallu = suggested_objects(scene, rng)
        generative.append((image, DESCRIBE, {"type": "generative", "truth": names_in(scene), "hallu": hallu}))
        for name in hallu:
            annotation = {"type": "discriminative-hallucination", "truth": "no"}
            discriminative.append((image, existence_question(name), annotation))
        for question, annotation in attribute_questions(scene, rng):
            discriminative.append((image, yes_no_prompt(question), annotation))
    rows = [
        ({"id": index, "image": image, "query": query}, {"id": index, **annotation})
        for index, (image, query, annotation) in enumerate([*generative, *discriminative], start=1)
    ]
    queries = [query for query, _ in rows]
    _write(folder / "data" / "query" / "query_all.json", queries)
    _write(folder / "data" / "query" / "query_generative.json", queries[: len(generative)])
    _write(folder / "data" / "query" / "query_discriminative.json", queries[len(generative) :])
    _write(folder / "data" / "annotations.json", [annotation for _, annotation in rows])
    _write(folder / "data" / "relation.json", {name: [] for name in NAMES})
    (folder / "data" / "safe_words.txt").write_text("", encoding="utf-8")


def suggested_objects(scene: Scene, rng: random.Random) -> list[str]:
    """HALLU absent objects: those that the world's habits suggest for this scene, then random ones."""
    present = names_in(scene)
    habits = []
    for item in scene.objects:
        if companion := COMPANIONS.get((item.color, item.shape)):
            habits.append(f"{companion[0]} {companion[1]}")
        if usual := USUAL_COLORS.get((item.color, item.shape)):
            habits.append(f"{usual} {item.shape}")
    candidates = [*habits, *rng.sample(NAMES, len(NAMES))]
    return [name for name in dict.fromkeys(candidates) if name not in present][:HALLU]


def attribute_questions(scene: Scene, rng: random.Random) -> list[tuple[str, dict[str, str]]]:
    """About one object: its size and the other size (state), its place and another place (relation).

    A question whose answer is no is false of every object of the scene. Types are named as in the published files.
    """
    item = rng.choice(scene.objects)
    placed = mention_of(item, with_size=False)
    sized = mention_of(item, with_size=True)
    other_size = next(size for size in SIZES if size != item.size)
    elsewhere = [replace(placed, place=place) for place in PLACES]
    wrong = rng.choice([mention for mention in elsewhere if not mention_is_true(mention, scene.truth["objects"])])
    return [
        (question_of(sized), {"type": "discriminative-attribute-state", "truth": "yes"}),
        (question_of(replace(sized, size=other_size)), {"type": "discriminative-attribute-state", "truth": "no"}),
        (question_of(placed), {"type": "discriminative-relation", "truth": "yes"}),
        (question_of(wrong), {"type": "relation", "truth": "no"}),
    ]


# ----- MMHal-Bench


def write_mmhal(folder: Path, count: int) -> None:
    records = []
    for index, (scene, rng) in enumerate(_first(count, sample_scenes("mmhal")), start=1):
        image_id = f"{index:016x}"
        (folder / "images" / f"{image_id}.png").write_bytes(png(scene))
        kind, question, answer = open_question(("attribute", "adversarial", "holistic")[index % 3], scene, rng)
        records.append(
            {
                "question_type": kind,
                "question_topic": "scene",
                "image_id": image_id,
                "image_src": f"{image_id}.png",
                "image_content": names_in(scene),
                "question": question,
                "gt_answer": answer,
                "model_answer": "",
            }
        )
    _write(folder / "response_template.json", records)


def open_question(kind: str, scene: Scene, rng: random.Random) -> tuple[str, str, str]:
    """(question_type, question, answer of a person)."""
    if kind == "holistic":
        return (
            kind,
            DESCRIBE,
            f"The picture shows {join([mention.phrase for mention in honest_mentions(scene, DESCRIBE)])}.",
        )
    mentions = {item.place: replace(mention_of(item, with_size=True), place=None) for item in scene.objects}
    place = rng.choice([place for place in PLACES if (place in mentions) == (kind == "attribute")])
    answer = f"It is {mentions[place].phrase}." if place in mentions else f"There is nothing {place_phrase(place)}."
    return kind, f"What is {place_phrase(place)}?", answer


def _first(count: int, scenes: Iterator[tuple[Scene, random.Random]]) -> list[tuple[Scene, random.Random]]:
    return [next(scenes) for _ in range(count)]


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
