"""Short answers before and after alignment: what counts as correct, the figures by hand, and the stage with doubles."""

import csv
import json
import random
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.short_answers import is_correct, normalized, short_figures, short_statistics, short_table
from evaluation.stage import evaluate
from rlaif.config import Config, EngineSection, ModelSection
from rlaif.errors import InputError, RunMismatchError
from rlaif.inference.engine import Request
from rlaif.report.page import report
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
from scenes.language.mentions import counted, mention_of_truth, true_relations
from scenes.short_questions import QUESTION_KINDS, short_questions
from tests.support.captions.scene_truth import REFERENCE
from tests.support.doubles import ScriptedEngine
from tests.support.pair_rows import png
from tests.support.synthetic_run import TEST_PROMPTS, make_run


@pytest.mark.parametrize(
    ("text", "expected", "correct"),
    [
        ("Red.", "red", True),
        ("a small red car", "A small red car.", True),
        ("The bus is red.", "red", False),  # a sentence where a word is expected
        ("it is red", "It is red.", True),
        ("Red.", "It is red.", False),
        ("two", "2", True),
        ("1,000", "1000", True),
        ("3.5", "35", False),
        ("10:30", "1030", False),
        ("3.", "3", True),
        ("Yes", "no", False),
        ("yes, it is", "yes", False),
        ("红色。", "红色", True),
        ("红色", "蓝色", False),
        ("Ja", "ja", True),
        ("", "", True),
        ("", "red", False),
        ("A", "B", False),  # the letter of a choice, not an article
        ("a", "A", True),
        ("+", "-", False),
    ],
)
def test_an_answer_is_correct_if_it_equals_the_expected_one(text: str, expected: str, correct: bool) -> None:
    assert is_correct(text, [expected]) == correct
    assert is_correct(text, ["something else", expected]) == correct


def test_normalized_texts() -> None:
    assert [normalized(text) for text in ("A Red-brown  car!", "Ten", "\uff32ed", "...")] == [
        "red brown car",
        "10",
        "red",
        "...",
    ]


def test_figures_by_hand() -> None:
    one = Counter({" questions": 2, " before": 2, " after": 1, " words before": 2, " words after": 6})
    one.update({"color questions": 1, "color before": 1, "color after": 1})
    other = Counter({" questions": 2, " before": 1, " after": 1, " words before": 2, " words after": 2})
    assert short_figures(one + other) == {
        "before": 0.75,
        "after": 0.5,
        "change": -0.25,
        "mean_words_before": 1.0,
        "mean_words_after": 2.0,
        "questions": 4,
    }
    figures, spread = short_statistics([one, other], seed=0)
    assert figures["change"] == -0.25 and figures["kinds"]["color"]["change"] == 0.0
    assert list(figures["kinds"]) == ["color"]
    assert spread["change"] == [-0.5, 0.0]  # resampled by image: one of them lost an answer, the other none
    assert "75.0%" in short_table(figures, spread) and "-25.0% [-50.0, 0.0]" in short_table(figures, spread)
    assert short_statistics([], seed=0) == ({}, {})


def test_questions_about_scenes_follow_from_their_truth() -> None:
    truth = json.loads(REFERENCE)
    seen = {question for index in range(400) for question in short_questions(truth, random.Random(index))}
    answers = {question: answer for _, question, answer in seen}
    assert len(answers) == len(seen)  # one answer to a question
    assert answers["What is at the top?"] == "a large cat"
    assert answers["What is on the left?"] == "two red apples"
    assert answers["What is on the right?"] == "nothing"
    assert answers["What color is the couch?"] == "It is blue."
    assert answers["How many apples are there?"] == "There are two."
    assert answers["Where is the cat?"] == "It is at the top."
    assert answers["What kind of place is this?"] == "It is a room."
    assert answers["What does the sign say?"] == "It says STOP."
    assert answers["Is there a cat? Answer yes or no."] == "Yes"
    assert answers["Is there a small blue couch in the center? Answer yes or no."] == "Yes"
    assert answers["Is there a large blue couch in the center? Answer yes or no."] == "No"
    assert answers["Is the cat on the couch? Answer yes or no."] == "Yes"
    assert answers["Is the cat behind the couch? Answer yes or no."] == "No"
    assert {kind for kind, _, _ in seen} == set(QUESTION_KINDS)
    for kind in ("exists", "claim", "relation"):
        drawn = [QUESTION_KINDS[kind](truth, random.Random(index)) for index in range(400)]
        assert 160 < sum(question is not None and question.answer == "Yes" for question in drawn) < 240


class Policies:
    """Opens a double: before alignment all short answers are right, after it those to lookups are sentences."""

    def __init__(self, config: Config, path: Path, refused: str = "") -> None:
        run = Run(path, config, "test")
        self.truth: dict[bytes, dict[str, Any]] = {
            row["image"]["bytes"]: json.loads(row["reference"])
            for row in read_rows(run, "prompts", ["image", "reference"], {"split": "test"})
        }
        self.aligned, self.refused = str(path / "policy"), refused
        self.requests: dict[str, list[Request]] = {"before": [], "after": []}

    def __call__(self, section: ModelSection, engine: EngineSection, seed: int) -> ScriptedEngine:
        which = "after" if section.model == self.aligned else "before"
        return ScriptedEngine(lambda request: [self.answer(request, which)])

    def answer(self, request: Request, which: str) -> str:
        assert request.image is not None
        self.requests[which].append(request)
        objects = self.truth[request.image]["objects"]
        if request.text.startswith("What is ") and request.text.endswith("?") and "image" not in request.text:
            place = request.text.removeprefix("What is ").rstrip("?").partition(" the ")[2]
            found = [mention_of_truth(item, with_place=False).phrase for item in objects if item["place"] == place]
            answer = found[0] if found else "Nothing"
            return f"There is {answer}" if which == "after" else answer
        if request.text.startswith("What color "):
            names = {counted(item["name"], item["number"]): item for item in objects}
            item = names[request.text.rpartition(" the ")[2].rstrip("?")]
            return f"{'It is' if item['number'] == 1 else 'They are'} {item['color']}"
        return "no" if request.text.endswith("Answer yes or no.") else "I can see a red car."

    def count_questions(self) -> int:
        """Of all images: six of each, and one each of colors, of a sign and of relations where there are any."""
        return sum(
            6 + any(item["color"] for item in truth["objects"]) + bool(truth["sign"]) + bool(true_relations(truth))
            for truth in self.truth.values()
        )


def test_before_and_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, path = make_run(tmp_path, evaluation={"short_answers": {"suffix": "", "max_tokens": 9}})
    policies = Policies(config, path)
    evaluate(config, path, policies)
    metrics: dict[str, Any] = json.loads((path / "metrics.json").read_text())
    short, spread = metrics["short_answers"], metrics["intervals"]["short_answers"]
    count = policies.count_questions()
    assert short["questions"] == count
    assert short["kinds"]["lookup"] == {
        "before": 1.0,
        "after": 0.0,
        "change": -1.0,
        "mean_words_before": pytest.approx(short["kinds"]["lookup"]["mean_words_after"] - 2),
        "mean_words_after": short["kinds"]["lookup"]["mean_words_after"],
        "questions": TEST_PROMPTS,
    }
    assert (short["kinds"]["color"]["before"], short["kinds"]["color"]["after"]) == (1.0, 1.0)
    assert 0 < short["kinds"]["claim"]["before"] < 1 and short["kinds"]["claim"]["change"] == 0.0
    change = -TEST_PROMPTS / count  # one lookup an image
    assert short["change"] == pytest.approx(change) and spread["change"][0] < change < spread["change"][1]
    rows = list(read_rows(Run(path, config, "test"), "short_answers"))
    assert len(rows) == metrics["stages"]["evaluate"]["kept"]["short_answers"] == 2 * count
    assert all(row["correct"] == is_correct(row["text"], row["expected"]) for row in rows)
    for requests in policies.requests.values():  # first the prompts, then the questions, those of an image together
        assert [request.max_tokens for request in requests] == [512] * TEST_PROMPTS + [9] * count
        images = [request.image for request in requests]
        assert [image for image, _ in groupby(images[TEST_PROMPTS:])] == images[:TEST_PROMPTS]
    assert "short answers" in capsys.readouterr().out
    page = report(config, path).read_text()
    assert "<h2>Short answers</h2>" in page and f"\N{MINUS SIGN}{-100 * change:.1f} points" in page


def test_a_killed_evaluation_resumes_with_the_questions_that_are_left(tmp_path: Path) -> None:
    config, path = make_run(tmp_path, evaluation={"short_answers": {"limit": 10}})

    class Killed(Policies):
        def answer(self, request: Request, which: str) -> str:
            if which == "after" and len(self.requests["after"]) == TEST_PROMPTS + 5:
                raise KeyboardInterrupt
            return super().answer(request, which)

    with pytest.raises(KeyboardInterrupt):
        evaluate(config, path, Killed(config, path))
    again = Policies(config, path)
    evaluate(config, path, again)
    assert (len(again.requests["before"]), len(again.requests["after"])) == (0, 10)  # only the short ones are left
    assert json.loads((path / "metrics.json").read_text())["short_answers"]["questions"] == 10
    third = Policies(config, path)
    evaluate(config, path, third)
    assert third.requests == {"before": [], "after": []}


def test_without_questions_there_is_no_table(tmp_path: Path) -> None:
    config, path = make_run(tmp_path)
    evaluate(config, path, Policies(config, path))
    assert not (path / "short_answers.parquet").exists()
    assert "short_answers" not in json.loads((path / "metrics.json").read_text())
    assert "Short answers" not in report(config, path).read_text()
    config, path = make_run(tmp_path / "photographs", truth=False, evaluation={"short_answers": {}})
    evaluate(config, path, lambda *_: ScriptedEngine(lambda request: ["A dog."]))
    assert "short_answers" not in json.loads((path / "metrics.json").read_text())


def answer_red(section: ModelSection, engine: EngineSection, seed: int) -> ScriptedEngine:
    return ScriptedEngine(lambda request: ["Red." if request.text.endswith("One word.") else "I can see a car."])


def write_table(folder: Path, kind: str) -> Path:
    """Five usable rows and seven others, images by path."""
    (folder / "images").mkdir(parents=True)
    for name in "ab":
        (folder / "images" / f"{name}.png").write_bytes(png((56, 56), (ord(name), 0, 0)))
    (folder / "images" / "broken.png").write_bytes(b"no image")
    rows: list[dict[str, Any]] = [
        {"image": "images/a.png", "question": "<image>\nWhat color?", "answer": "red"},
        {"image": "images/b.png", "question": "What color?", "answer": "blue"},
        {"image": "images/a.png", "question": "Hue?", "answer": ["crimson", "red"]},
        {"image": "images/a.png", "question": "Shade?", "answer": [{"answer": "Red"}, {"answer": "wine"}]},
        {"image": "images/b.png", "question": "How many?", "answer": 2},
        {"image": "images/b.png", "question": "What color?", "answer": "red"},  # asked before
        {"image": "images/none.png", "question": "What color?", "answer": "red"},
        {"image": "images/broken.png", "question": "What color?", "answer": "red"},
        {"image": None, "question": "What color?", "answer": "red"},
        {"image": "images/a.png", "question": "", "answer": "red"},
        {"image": "images/a.png", "question": "What?", "answer": ""},
        {"image": "../outside.png", "question": "What?", "answer": "red"},
    ]
    file = folder / f"vqa.{kind}"
    if kind == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "csv":
        with file.open("w", newline="") as opened:
            writer = csv.DictWriter(opened, ["image", "question", "answer"])
            writer.writeheader()
            cells = ({**row, "answer": "red" if isinstance(row["answer"], list) else row["answer"]} for row in rows)
            writer.writerows(cells)
    else:
        texts = [{**row, "answer": json.dumps(row["answer"]).strip('"')} for row in rows]
        pq.write_table(pa.Table.from_pylist(texts[:2] + texts[4:]), file)
    return file


@pytest.mark.parametrize(("kind", "expected"), [("jsonl", 3 / 5), ("csv", 3 / 5), ("parquet", 1 / 3)])
def test_questions_of_a_table(tmp_path: Path, kind: str, expected: float) -> None:
    file = write_table(tmp_path / "vqa", kind)
    config, path = make_run(
        tmp_path, truth=False, evaluation={"short_answers": {"path": str(file), "suffix": " One word."}}
    )
    evaluate(config, path, answer_red)
    metrics = json.loads((path / "metrics.json").read_text())
    assert metrics["short_answers"]["before"] == metrics["short_answers"]["after"] == expected
    assert metrics["short_answers"]["kinds"] == {} and metrics["short_answers"]["change"] == 0
    rows = list(read_rows(Run(path, config, "test"), "short_answers"))
    assert rows[0]["question"] == "What color? One word."
    dropped = [row for row in read_rows(Run(path, config, "test"), "dropped") if row["stage"] == "evaluate"]
    assert Counter(row["reason"] for row in dropped) == {
        "duplicate_question": 1,
        "missing_image": 1,
        "no_image": 1,
        "unreadable_image": 1,
        "missing_instruction": 1,
        "missing_answer": 1,
        "image_outside_folder": 1,
    }
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(RunMismatchError, match="short_answers_files"):
        evaluate(config, path, answer_red)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"path": "none.json"},
            r"no table file at none\.json; set evaluation\.short_answers\.path to a file",
        ),
        (
            {"answer_column": "solution"},
            r"has no column 'solution'; it has: .*; set evaluation",
        ),
        (
            {"answer_column": "empty"},
            r"has no usable question \(1 missing_answer\); expected an image, a question and an",
        ),
    ],
)
def test_a_table_without_questions_stops_before_a_model_is_loaded(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    (tmp_path / "a.png").write_bytes(png((8, 8)))
    row = {"image": "a.png", "question": "What?", "answer": "red", "empty": None}
    (tmp_path / "vqa.json").write_text(json.dumps([row]))
    section = {"path": str(tmp_path / "vqa.json"), **settings}
    config, path = make_run(tmp_path, evaluation={"short_answers": section})
    with pytest.raises(InputError, match=message):
        evaluate(config, path, lambda *_: pytest.fail("a model was loaded"))
    assert not (path / "evaluations.parquet").exists()
