"""The readers on published files, and the counting on real answers, where they are at hand.

They lie in the folder that RLAIF_PUBLISHED_DATA names, by default ../shared/data beside the repository; their licenses
do not allow, or do not name, redistribution with this project.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evaluation.benchmarks.amber import Scene, YesNo, read_amber
from evaluation.benchmarks.chair import Chair, find_words, read_synonyms, with_rules
from evaluation.benchmarks.mmhal import read_mmhal
from evaluation.benchmarks.objects import Names
from evaluation.benchmarks.pope import read_pope
from evaluation.benchmarks.questions import Question, read_records
from evaluation.statistics import total
from rlaif.config import BenchmarkSection
from tests.support import PUBLISHED

pytestmark = pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"no published files in {PUBLISHED}")
DEFAULT = BenchmarkSection()


@pytest.mark.parametrize(
    ("file", "kind", "image"),
    [
        ("coco_pope_random.json", "random", "COCO_val2014_000000310196.jpg"),
        ("coco_pope_adversarial.json", "adversarial", "COCO_val2014_000000310196.jpg"),  # CR LF
        ("aokvqa_pope_seem_random.json", "random", "COCO_val2014_000000461751.jpg"),  # a JSON list
        ("gqa_pope_seem_popular.json", "popular", "2405722.jpg"),
    ],
)
def test_pope(tmp_path: Path, file: str, kind: str, image: str) -> None:
    (tmp_path / file).symlink_to(PUBLISHED / "pope" / file)
    pope = read_pope(tmp_path, DEFAULT)
    assert Counter(pope.labels.values()) == {(kind, True): 1500, (kind, False): 1500}
    assert pope.questions[0].image == image and len({question.image for question in pope.questions}) == 500


def test_amber(tmp_path: Path) -> None:
    """61 scenes have a word in both lists, 14 a word twice in truth."""
    (tmp_path / "data/query").mkdir(parents=True)
    for file in (PUBLISHED / "amber").iterdir():
        (tmp_path / "data" / ("query" if file.name.startswith("query") else "") / file.name).symlink_to(file)
    data = {
        name: read_amber(tmp_path, BenchmarkSection(questions=f"query_{name}.json"))
        for name in ("generative", "discriminative-existence", "discriminative-relation")
    }
    assert {name: len(amber.questions) for name, amber in data.items()} == {
        "generative": 1004,
        "discriminative-existence": 4924,
        "discriminative-relation": 1664,
    }
    relation = data["discriminative-relation"].annotations.values()
    assert all(isinstance(item, YesNo) and item.kinds == ("relation",) for item in relation)
    scenes = [item for item in data["generative"].annotations.values() if isinstance(item, Scene)]
    assert sum(bool(set(scene.truth) & set(scene.hallu)) for scene in scenes) == 61
    assert sum(len(set(scene.truth)) < len(scene.truth) for scene in scenes) == 14


def test_mmhal(tmp_path: Path) -> None:
    (tmp_path / "mmhal-bench_answer_template.json").symlink_to(PUBLISHED / "mmhal/mmhal-bench_answer_template.json")
    mmhal = read_mmhal(tmp_path, DEFAULT)
    assert Counter(known.kind for known in mmhal.known.values()) == dict.fromkeys(
        ("attribute", "adversarial", "comparison", "counting", "relation", "environment", "holistic", "other"), 12
    )
    assert all(str(question.image).endswith(".jpg") for question in mmhal.questions)


def descriptions(number: int) -> dict[str, str]:
    """Real descriptions by image. The long ones are JSON objects one after the other, over several lines each."""

    def records(text: str) -> Iterator[dict[str, Any]]:
        start = 0
        while start < len(text):
            record, start = json.JSONDecoder().raw_decode(text, start)
            yield record
            start += len(text[start:]) - len(text[start:].lstrip())

    text = (PUBLISHED / f"captions/cap_Instruction{number}_llava.json").read_text(encoding="utf-8")
    return {str(record["image_id"]): record["text"] for record in records(text)}


def test_chair_on_real_descriptions() -> None:
    """An answer repeats what is there more often than what is not: counted once a word, the rate is higher."""
    synonyms = read_synonyms(PUBLISHED / "chair/synonyms.txt")
    assert len(set(synonyms.values())) == 80
    names = Names(with_rules(synonyms))
    answers, short = list(descriptions(1).items())[:500], descriptions(2)
    truth = {image: {item.object for item in find_words(names, short[image].partition(".")[0])} for image, _ in answers}
    chair = Chair([], truth, names)
    figures = chair.figures(total(chair.count(Question(image, image, "", ""), text) for image, text in answers))
    by_mention, by_word = figures["mention_rate"], figures["object_halbench_mention_rate"]
    assert by_mention is not None and by_word is not None and by_word > 1.2 * by_mention
    assert not {"clock", "person"} & {item.object for item in find_words(names, "A first-person view, five o'clock")}


def test_records_of_real_json_lines() -> None:
    records = read_records(PUBLISHED / "captions/cap_Instruction2_llava.json")
    assert len(records) == 2000 and "image_id" in records[0]
