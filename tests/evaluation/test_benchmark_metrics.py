"""CHAIR, AMBER, POPE and MMHal-Bench against numbers worked out by hand."""

import json
from collections import Counter
from pathlib import Path

import pytest

from evaluation.benchmarks.amber import KINDS, Amber, Scene, YesNo
from evaluation.benchmarks.chair import Chair, find_objects, with_rules
from evaluation.benchmarks.mmhal import Known, MMHal
from evaluation.benchmarks.objects import Names, plurals
from evaluation.benchmarks.pope import Pope
from evaluation.benchmarks.questions import Question
from evaluation.benchmarks.rating import DEFAULT_PROMPT, PLACEHOLDERS, SCHEMA, read_prompt, read_rating
from evaluation.benchmarks.yes_no import first_word, no_in_first_sentence
from evaluation.statistics import total
from rlaif.errors import ConfigError
from rlaif.inference.engine import Completion


def question(key: str, image: str = "1") -> Question:
    return Question(key, image, "?", b"")


# ----- names in a text


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("dog", {"dogs"}),
        ("bus", {"buses"}),
        ("bench", {"benches"}),
        ("puppy", {"puppies"}),
        ("toy", {"toys"}),
        ("knife", {"knives", "knifes"}),
        ("tomato", {"tomatoes", "tomatos"}),
        ("policewoman", {"policewomen"}),
        ("human", {"humans"}),
        ("grandchild", {"grandchildren"}),
        ("person", {"people", "persons"}),
        ("sheep", {"sheep"}),
        ("mouse", {"mice"}),
    ],
)
def test_plurals(noun: str, expected: set[str]) -> None:
    assert plurals(noun) == expected


def test_the_longest_name_wins_and_plurals_are_names() -> None:
    names = Names({"dog": "dog", "hot dog": "hot dog", "wine glass": "wine glass", "glass": "glass", "teddy bear": None,
                   "bear": "bear"})  # fmt: skip
    text = "Two hot dogs, a DOG; wine glasses, a glass. The teddy bear is no bear"
    assert names.find(text) == ["hot dog", "dog", "wine glass", "glass", "bear"]
    assert names.find("dogma, hotdog") == []


def test_a_name_that_is_a_function_word_is_found_in_the_plural_alone() -> None:
    assert Names({"can": "can"}).find("I can see two cans") == ["can"]


def test_no_names_find_nothing() -> None:
    assert Names({}).find("a dog") == []


# ----- CHAIR

SYNONYMS = {
    "person": "person", "man": "person", "baby": "person", "dog": "dog", "puppy": "dog", "bird": "bird",
    "hot dog": "hot dog", "toilet": "toilet", "chair": "chair", "seat": "chair", "train": "train",
}  # fmt: skip


@pytest.fixture
def chair() -> Chair:
    truth = {"1": {"person", "dog", "cat"}, "2": {"toilet"}}
    return Chair([], truth, Names(with_rules(SYNONYMS)))


def test_chair_by_hand(chair: Chair) -> None:
    answers = [
        # 15 words; person, dog, bird, bird, hot dog: three mentions are false; two of three objects found
        chair.count(question("a", "1"), "A man with two puppies and a bird. The bird sits on a hot dog."),
        chair.count(
            question("b", "2"), "The seat of the toilet."
        ),  # 5 words; a seat is no chair here; one of one found
        chair.count(question("c", "2"), "Nothing to see."),  # 3 words, no mention; none of one found
    ]
    assert chair.figures(total(answers)) == {
        "mention_rate": 3 / 6,
        "response_rate": 1 / 2,
        "chair_s": 1 / 3,
        "recall": 3 / 5,
        "mean_words": 23 / 3,
        "answers": 3,
    }


def test_silence_has_no_chair(chair: Chair) -> None:
    figures = chair.figures(chair.count(question("a"), "Nothing."))
    assert (figures["mention_rate"], figures["response_rate"], figures["chair_s"]) == (None, None, 0.0)


@pytest.mark.parametrize(
    ("text", "objects"),
    [
        ("a baby bird beside a baby", ["bird", "person"]),  # a young animal is no person
        ("a passenger train", ["train"]),
        ("train tracks and home plate", []),
        ("a baby animal", []),
        ("a seat", ["chair"]),
        ("toilet seats", ["toilet"]),
    ],
)
def test_rules_for_mscoco(text: str, objects: list[str]) -> None:
    assert find_objects(Names(with_rules(SYNONYMS)), text) == objects


# ----- AMBER

RELATIONS = {
    "sky": [], "forest": ["tree"], "tree": ["forest"], "person": ["man", "people"], "sea": ["water"], "dog": [],
    "orange": [],
}  # fmt: skip


@pytest.fixture
def amber() -> Amber:
    scene = Scene(["forest", "tree", "person", "sky"], ["dog", "sea"])
    kinds = list(KINDS)
    annotations: dict[str, Scene | YesNo] = {"1": scene, "2": scene}
    for key, kind, truth in (
        ("state no", 1, False),
        ("state yes", 1, True),
        ("number yes", 2, True),
        ("action no", 3, False),
        ("existence no", 0, False),
        ("relation yes", 4, True),
        ("relation no", 5, False),
    ):
        annotations[key] = YesNo(KINDS[kinds[kind]], truth)
    words = [*RELATIONS, *(word for others in RELATIONS.values() for word in others)]
    return Amber([], annotations, RELATIONS, frozenset({"orange"}), Names({word: word for word in words}))


def test_amber_descriptions_by_hand(amber: Amber) -> None:
    """Six words: man and people are the person, trees the forest, orange is safe; dog and water are imagined."""
    first = amber.count(question("1"), "A man and people by the trees; a dog, an orange, water and light.")
    second = amber.count(question("2"), "The sky.")
    figures = amber.figures(total([first, second]))
    assert {name: figures[name] for name in ("chair", "cover", "hal", "cog", "mean_words", "descriptions")} == {
        "chair": 2 / 7,
        "cover": (2 + 1) / 8,
        "hal": 1 / 2,
        "cog": 2 / 4,
        "mean_words": (14 + 2) / 2,
        "descriptions": 2,
    }


def test_amber_questions_by_hand(amber: Amber) -> None:
    """The positive class is no, four in all: predicted for state no, existence no (correct) and state yes (wrong)."""
    answers = {
        "state no": "No.",
        "state yes": "No",
        "number yes": "Yes, three.",
        "action no": "Yes",
        "existence no": "no",
        "relation yes": "Yes",
        "relation no": "It is not clear.",
    }
    figures = amber.figures(total(amber.count(question(key), answer) for key, answer in answers.items()))
    expected = {
        "": (4 / 7, 2 / 3, 2 / 4, 4 / 7, 7),
        "existence_": (1.0, 1.0, 1.0, 1.0, 1),
        "attribute_": (2 / 4, 1 / 2, 1 / 2, 1 / 2, 4),
        "state_": (1 / 2, 1 / 2, 1.0, 2 / 3, 2),
        "number_": (1.0, None, None, None, 1),
        "action_": (0.0, None, 0.0, None, 1),
        "relation_": (1 / 2, None, 0.0, None, 2),
    }
    for kind, values in expected.items():
        computed = [figures[f"{kind}{name}"] for name in ("accuracy", "precision", "recall", "f1", "questions")]
        assert computed == [None if value is None else pytest.approx(value) for value in values], kind
    assert figures["unread_answers"] == 1


def test_amber_shows_what_was_asked(amber: Amber) -> None:
    questions_alone = Amber([], {"1": amber.annotations["state no"]}, RELATIONS, frozenset(), Names({}))
    shown = questions_alone.figures(Counter())
    assert "chair" not in shown and "relation_accuracy" not in shown and "state_accuracy" in shown


# ----- POPE


def test_pope_by_hand() -> None:
    """Answers 1, 3, 5 and 6 are yes; the objects of 1, 2 and 5 are there."""
    labels = [True, True, False, False, True, False]
    answers = ["Yes", "There is no dog.", "Yes. No dog is seen.", "No", "", "Certainly, a dog"]
    pope = Pope([], {str(index): ("popular", label) for index, label in enumerate(labels)})
    figures = pope.figures(total(pope.count(question(str(index)), answer) for index, answer in enumerate(answers)))
    assert figures == {
        "popular_accuracy": 3 / 6,
        "popular_precision": 2 / 4,
        "popular_recall": pytest.approx(2 / 3),
        "popular_f1": pytest.approx(4 / 7),
        "popular_yes_ratio": pytest.approx(4 / 6),
        "popular_questions": 6,
    }


@pytest.mark.parametrize(
    ("answer", "first", "pope"),
    [
        ("Yes", True, True),
        ("yes, there is", True, True),
        ("No", False, False),
        ("NO!", False, False),
        ("no\nnothing", False, False),
        ("There is not", None, False),
        ("I know it. No.", None, True),
        ("", None, True),
    ],
)
def test_reading_yes_and_no(answer: str, first: bool | None, pope: bool | None) -> None:
    assert (first_word(answer), no_in_first_sentence(answer)) == (first, pope)


# ----- MMHal-Bench


def test_mmhal_by_hand() -> None:
    """Ratings 6 and 2 of one answer, 3 and none of the other."""
    known = {"1": Known("q", "a", ["o"], "attribute"), "2": Known("q", "a", ["o"], "holistic")}
    mmhal = MMHal([], known, runs=2)
    counts = [mmhal.count(question("1"), {0: 6, 1: 2}), mmhal.count(question("2"), {0: 3})]
    assert mmhal.figures(total(counts)) == {
        "score": 11 / 3,
        "hallucination_rate": 1 / 3,
        "score_attribute": 4.0,
        "score_holistic": 3.0,
        "score_run_1": 4.5,
        "score_run_2": 2.0,
        "ratings": 3,
        "unrated": 1,
    }
    assert mmhal.figures(mmhal.count(question("1"), {}))["score"] is None


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ('{"explanation":"It is.","rating":0}', 0),
        ('{"explanation":"a\nb","rating":6}', 6),
        ('{"explanation":"It is.","rating":7}', None),
        ('{"explanation":"It is.","rating":"3"}', None),
        ('{"explanation":"It is.","rating":true}', None),
        ('{"explanation":"It goes on and', None),
        ("[3]", None),
        ("3", None),
    ],
)
def test_reading_a_rating(text: str, rating: int | None) -> None:
    assert read_rating(Completion(text, 1, "stop")) == rating


def test_the_request_has_everything_and_an_answer_adds_no_placeholder() -> None:
    mmhal = MMHal([], {"1": Known("What color?", "It is red.", ["Circle", "Star"], "attribute")}, runs=1)
    request = mmhal.request(read_prompt(None), "1", "Blue. {gt_answer}<|eot_id|>")
    for part in ("Circle, Star", "What color?", "It is red.", "Blue. {gt_answer}\n"):
        assert part in request
    assert "<|eot_id|>" not in request


def test_the_schema_explains_first_and_allows_the_ratings_that_are_read() -> None:
    """JSON Schema keeps the order of properties, and so does structured output: the rating follows the explanation."""
    schema = json.loads(json.dumps(SCHEMA))
    assert list(schema["properties"]) == schema["required"] == ["explanation", "rating"]
    allowed = schema["properties"]["rating"]["enum"]
    assert allowed == [0, 1, 2, 3, 4, 5, 6]
    for rating in allowed:
        assert read_rating(Completion(json.dumps({"explanation": "So.", "rating": rating}), 1, "stop")) == rating


def test_a_prompt_without_a_placeholder_is_refused(tmp_path: Path) -> None:
    text = DEFAULT_PROMPT.read_text()
    (tmp_path / "rate.txt").write_text(text.replace(PLACEHOLDERS[2], ""))
    with pytest.raises(ConfigError, match=r"rater.prompt: .*rate.txt has no \{gt_answer\}"):
        read_prompt(str(tmp_path / "rate.txt"))
    with pytest.raises(ConfigError, match=r"rater.prompt: no file .*none.txt"):
        read_prompt(str(tmp_path / "none.txt"))
