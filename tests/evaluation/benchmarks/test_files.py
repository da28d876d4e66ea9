"""Files of the benchmarks as they are published, good and bad."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.benchmarks.amber import Scene, YesNo, read_amber
from evaluation.benchmarks.chair import read_chair
from evaluation.benchmarks.mmhal import Known, read_mmhal
from evaluation.benchmarks.pope import read_pope
from evaluation.benchmarks.questions import Question, read_records, usable_image
from evaluation.benchmarks.stage import READERS
from rlaif.config import BenchmarkSection
from rlaif.errors import InputError

DEFAULT = BenchmarkSection()

POPE = [
    {"question_id": 0, "image": "COCO_1.jpg", "image_id": 1, "text": "Is there a dog in the image?", "label": "yes"},
    {"question_id": 1, "image": "COCO_1.jpg", "image_id": 1, "text": "Is there a tv in the image?", "label": "no"},
]
SYNONYMS = "person, man, woman\ndog, puppy \n\ncat, kitten\n"
INSTANCES = {
    "images": [{"id": 7, "file_name": "COCO_7.jpg"}, {"id": 8, "file_name": "COCO_8.jpg"}],
    "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
    "annotations": [{"id": 1, "image_id": 7, "category_id": 18}, {"id": 2, "image_id": 7, "category_id": 1}],
}
CAPTIONS = {"annotations": [{"id": 5, "image_id": 7, "caption": "A kitten looks at a puppy."}]}
HALBENCH = [{"org_idx": 4, "image_id": 8, "question": "What is there?", "image": base64.b64encode(b"jpeg").decode()}]
QUERIES = [
    {"id": 1, "image": "AMBER_1.jpg", "query": "Describe this image."},
    {"id": 2, "image": "AMBER_1.jpg", "query": "Is the sky sunny in this image?"},
    {"id": 3, "image": "AMBER_2.jpg", "query": "Is there direct contact between the dog and sea?"},
]
ANNOTATIONS = [
    {"id": 1, "type": "generative", "truth": ["sky", "dog"], "hallu": ["sea"]},
    {"id": 2, "type": "discriminative-attribute-state", "truth": "yes"},
    {"id": 3, "type": "relation", "truth": "no"},
]
RELATION = {"sky": [], "dog": [], "sea": ["water"]}
MMHAL = [
    {
        "question_type": "attribute", "question_topic": "outdoor", "image_id": "df62",
        "image_content": ["Fire hydrant"], "image_src": "https://example.org/8/7206072054_o.jpg",
        "question": "What color is the cap?", "gt_answer": "It is yellow.", "model_answer": "",
    }
]  # fmt: skip


def lines(records: list[dict[str, Any]]) -> str:
    return "\n".join(map(json.dumps, records)) + "\n"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder for each benchmark."""
    content = {
        "pope/coco_pope_random.json": lines(POPE),
        "pope/coco_pope_popular.json": lines(POPE[:1]),
        "chair/synonyms.txt": SYNONYMS,
        "chair/instances_val2014.json": json.dumps(INSTANCES),
        "chair/captions_val2014.json": json.dumps(CAPTIONS),
        "chair/obj_halbench_300_with_image.jsonl": lines(HALBENCH),
        "amber/data/query/query_all.json": json.dumps(QUERIES),
        "amber/data/query/query_generative.json": json.dumps(QUERIES[:1]),
        "amber/data/annotations.json": json.dumps(ANNOTATIONS),
        "amber/data/relation.json": json.dumps(RELATION),
        "amber/data/safe_words.txt": "orange\nlight",
        "mmhal/response_template.json": json.dumps(MMHAL),
    }
    for name, text in content.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_pope_files(files: Path) -> None:
    pope = read_pope(files / "pope", DEFAULT)
    assert pope.labels == {"random-0": ("random", True), "random-1": ("random", False), "popular-0": ("popular", True)}
    assert pope.questions[1] == Question("random-1", "COCO_1.jpg", "Is there a tv in the image?", "COCO_1.jpg")
    limited = read_pope(files / "pope", BenchmarkSection(limit=1, questions="coco_pope_random.json"))
    assert list(limited.labels) == ["random-0"]


def test_pope_files_of_other_data_sets(files: Path) -> None:
    """A-OKVQA and GQA: a JSON list, another name; lines of COCO's popular and adversarial files end in CR LF."""
    for file in (files / "pope").iterdir():
        file.unlink()
    (files / "pope/gqa_pope_seem_random.json").write_text(json.dumps(POPE, indent=4))
    (files / "pope/coco_pope_adversarial.json").write_bytes(lines(POPE).replace("\n", "\r\n").encode())
    labels = read_pope(files / "pope", DEFAULT).labels
    assert list(labels) == ["random-0", "random-1", "adversarial-0", "adversarial-1"]


def test_a_line_may_hold_any_separator_but_a_line_feed(files: Path) -> None:
    text = json.dumps(POPE[0] | {"text": "Is there a\u2028dog?"}, ensure_ascii=False)
    (files / "pope/coco_pope_random.json").write_text(text + "\n")
    assert read_pope(files / "pope", DEFAULT).questions[0].text == "Is there a\u2028dog?"


def test_chair_files(files: Path) -> None:
    chair = read_chair(files / "chair", DEFAULT)
    assert chair.truth == {"7": {"dog", "person", "cat"}, "8": set()}  # annotated, or named by a reference caption
    assert chair.questions == [Question("1", "8", "What is there?", b"jpeg")]
    assert [item.object for item in chair.names.find("two puppies and a woman")] == ["dog", "person"]


def test_chair_without_questions_has_one_for_every_annotated_image(files: Path) -> None:
    (files / "chair/obj_halbench_300_with_image.jsonl").unlink()
    chair = read_chair(files / "chair", BenchmarkSection(instruction="Describe it."))
    assert chair.questions == [
        Question("7", "7", "Describe it.", "COCO_7.jpg"),
        Question("8", "8", "Describe it.", "COCO_8.jpg"),
    ]


def test_amber_files(files: Path) -> None:
    amber = read_amber(files / "amber", DEFAULT)
    assert amber.annotations == {
        "1": Scene(["sky", "dog"], ["sea"]),
        "2": YesNo(("attribute", "state"), True),
        "3": YesNo(("relation",), False),
    }
    assert amber.safe == {"orange", "light"}
    assert amber.names.find("Waters and dogs") == ["water", "dog"]
    assert amber.questions[2].image == "AMBER_2.jpg" and amber.questions[1].image_id == "AMBER_1.jpg"
    assert len(read_amber(files / "amber", BenchmarkSection(questions="query_generative.json")).questions) == 1


def test_mmhal_files(files: Path) -> None:
    section = BenchmarkSection(rater={"runs": 4})
    mmhal = read_mmhal(files / "mmhal", section)
    assert mmhal.known == {"1": Known("What color is the cap?", "It is yellow.", ["Fire hydrant"], "attribute")}
    assert (mmhal.runs, mmhal.questions[0].image, mmhal.questions[0].image_id) == (4, "7206072054_o.jpg", "df62")
    (files / "mmhal/images").mkdir()
    (files / "mmhal/images/df62.png").write_bytes(b"")
    assert read_mmhal(files / "mmhal", section).questions[0].image == "df62.png"


QUESTIONS = "obj_halbench_300_with_image.jsonl"
TRUTH = "data/annotations.json"
BAD = [
    ("pope", "coco_pope_popular.json", "{", r"coco_pope_popular.json, line 1 is not valid JSON"),
    ("pope", "coco_pope_popular.json", "\n", r"coco_pope_popular.json is empty"),
    ("pope", "coco_pope_popular.json", "[1]", r"record 1 is a whole number, expected an object"),
    ("pope", "coco_pope_random.json", lines([*POPE, POPE[0]]), r"record 3: duplicate question_id 0"),
    ("pope", "coco_pope_random.json", lines([POPE[0] | {"label": "maybe"}]), r"label 'maybe'; allowed: yes, no"),
    ("pope", "coco_pope_random.json", lines([{"question_id": 1}]), r"no field 'image', only: question_id"),
    ("pope", "gqa_pope_random.json", lines(POPE), r"several files \*pope\*random.json: coco_.*, gqa_"),
    ("chair", "synonyms.txt", "\n", r"synonyms.txt has no names"),
    ("chair", "synonyms.txt", "cat", r"category 'dog' is missing from the synonyms file"),
    ("chair", "synonyms.txt", None, r"has no file synonyms\*.txt"),
    ("chair", "captions_val2014.json", None, r"has no file captions_\*.json"),
    ("chair", "captions_val2014.json", "[]", r"captions_val2014.json holds a list, expected an object"),
    ("chair", "instances_val2014.json", json.dumps(INSTANCES | {"categories": []}), r"category_id 18 is not in ca"),
    ("chair", "instances_val2014.json", json.dumps({"images": []}), r"has no field 'categories', only: images"),
    ("chair", QUESTIONS, lines([HALBENCH[0] | {"image_id": 9}]), r"image_id 9 is missing from instances"),
    ("chair", QUESTIONS, lines([HALBENCH[0] | {"image": "%"}]), r"field 'image' is not base64"),
    ("amber", TRUTH, json.dumps(ANNOTATIONS[:2]), r"id 3 is not in .*annotations.json"),
    ("amber", TRUTH, json.dumps([{"id": 1, "type": "new"}]), r"type 'new'; allowed: generative, disc"),
    ("amber", TRUTH, json.dumps([ANNOTATIONS[0] | {"truth": ["fog"]}]), r"'fog' is not in relation.json"),
    ("amber", TRUTH, json.dumps([ANNOTATIONS[0] | {"truth": "yes"}]), r"'truth' holds text, expected a list"),
    ("amber", TRUTH, json.dumps([ANNOTATIONS[0] | {"hallu": [1]}]), r"hallu is \[1\], expected a list of te"),
    ("amber", "data/relation.json", json.dumps({"sky": "blue"}), r"'sky' is \"blue\", expected a list of texts"),
    ("amber", "data/relation.json", "{", r"relation.json is not valid JSON"),
    ("amber", "data/query/query_all.json", None, r"query has no file query_all.json"),
    ("mmhal", "response_template.json", json.dumps([MMHAL[0] | {"gt_answer": None}]), r"'gt_answer' holds nothing"),
    ("mmhal", "response_template.json", None, r"has no file response_template.json or \*answer_template.json"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "content", "message"), BAD, ids=lambda value: str(value)[:30])
def test_bad_files_are_one_clear_error(files: Path, name: str, file: str, content: str | None, message: str) -> None:
    path = files / name / file
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        READERS[name](files / name, DEFAULT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", READERS)
def test_no_such_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"no folder .*none.*; set benchmark.path to the folder"):
        READERS[name](tmp_path / "none", DEFAULT)


def test_a_name_without_a_kind(files: Path) -> None:
    (files / "pope/mine.json").write_text(lines(POPE))
    with pytest.raises(InputError, match=r"the name must end with the kind of its questions; allowed: random, popular"):
        read_pope(files / "pope", BenchmarkSection(questions="mine.json"))


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"x.json is not UTF-8 text"):
        read_records(tmp_path / "x.json")


def test_images_stay_inside_their_folder(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "secret.png").write_bytes(b"png")
    (images / "link.png").symlink_to(tmp_path / "secret.png")
    (images / "broken.png").write_bytes(b"png")
    drops = []
    for name in ("../secret.png", str(tmp_path / "secret.png"), "link.png", "none.png", "broken.png"):
        assert usable_image(Question(name, name, "?", name), images, lambda *drop: drops.append(drop)) is None
    assert [reason for _, reason, _ in drops] == ["image_outside_folder"] * 3 + ["missing_image", "unusable_image"]
