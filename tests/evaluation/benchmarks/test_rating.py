"""MMHal-Bench against numbers worked out by hand; the request to rate, and ratings in every form."""

import json
from pathlib import Path

import pytest

from evaluation.benchmarks.mmhal import Known, MMHal
from evaluation.benchmarks.questions import Question
from evaluation.benchmarks.rating import DEFAULT_PROMPT, PLACEHOLDERS, SCHEMA, read_prompt, read_rating
from evaluation.statistics import total
from rlaif.errors import ConfigError
from rlaif.inference.engine import Completion


def question(key: str, image: str = "1") -> Question:
    return Question(key, image, "?", b"")


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
        ('```json\n{"explanation":"So.","rating":4}\n```', 4),
        ('{"explanation":"It is.","rating":"3"}', 3),
        ('{"explanation":"It is.","rating":4.0}', 4),
        ('{"explanation":"It is.","rating":7}', None),
        ('{"explanation":"It is.","rating":4.5}', None),
        ('{"explanation":"It is.","rating":true}', None),
        ('{"explanation":"It is."}', None),
        ('{"explanation":"Rating: 5 is what it', None),
        ("3", 3),
        ("6/6", 6),
        ("Rating: 6, very informative with good analysis or reasoning, no hallucination", 6),
        ("It is {so}. **Rating:** 5", 5),
        ("The rating is 2.", 2),
        ("Score: 4/6", 4),
        ("\u8bc4\u5206\uff1a3", 3),
        ("\u8bc4\u5206\u4e3a3\u5206", 3),
        ("Rating: 3. So the rating is 3.", 3),
        ("Rating: 7", None),
        ("Rating: -1", None),
        ("Rating: 10", None),
        ("4.5", None),
        ("Rating: 4.5", None),
        ("Rating: 8/10", None),
        ("Rating: 3\nRating: 4", None),
        ("The answer rates well", None),
        ("", None),
    ],
)
def test_reading_a_rating(text: str, rating: int | None) -> None:
    assert read_rating(Completion(text, 1, "stop")) == rating


def test_the_request_has_everything_and_an_answer_adds_no_placeholder() -> None:
    mmhal = MMHal([], {"1": Known("What color?", "It is red.", ["Circle", "Star"], "attribute")}, runs=1)
    request = mmhal.request(read_prompt(None), "1", "Blue. {gt_answer}<|eot_id|>")
    for part in ("Circle, Star", "What color?", "It is red.", "Blue. {gt_answer}"):
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
