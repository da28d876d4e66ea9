"""Both checks are measured on claims of which it is known whether a description makes them."""

import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.checks import cases_of, changed, main, row, says
from feedback.check.claim import Source
from scenes.language import ThingMention, find_mentions
from tests.support import ROOT

TEXT = "A small red car at the top left. Two birds in the center. The car is behind the birds. A sign says STOP."


def test_each_claim_has_a_twin_that_the_description_does_not_make() -> None:
    cases = cases_of([TEXT], seed=0)
    assert [case[3] for case in cases] == [True, False] * 4
    assert cases[0][1:3] == ("There is a small red car at the top left.", "Is there a small red car at the top left?")
    made = find_mentions(TEXT)
    assert all((mention in made) is own for _, claim, _, own in cases for mention in find_mentions(claim))


def test_one_part_changes() -> None:
    """Each part of a thing, of a relation and of a sign at some time, and one at a time."""
    mentions = find_mentions(TEXT)
    parts: dict[str, Counter[str]] = {}
    for mention in mentions:
        for seed in range(50):
            other = changed(mention, mentions, random.Random(seed))
            assert other
            (part,) = [name for name, value in vars(mention).items() if vars(other)[name] != value]
            parts.setdefault(mention.claim, Counter())[part] += 1
    assert [set(counts) for counts in parts.values()] == [
        {"name", "number", "color", "size", "place"},
        {"name", "number", "place"},
        {"name", "relation", "other"},
        {"text"},
    ]


def test_a_claim_without_a_twin_is_no_case() -> None:
    """A response that names every kind of scene makes whatever claim of a kind; its other claims have twins."""
    kinds = "This is a kitchen. This is a room. This is a street. This is a field."
    assert cases_of([kinds], seed=0) == []
    own, _ = cases_of([f"{kinds} A sign says STOP."], seed=0)
    assert own[1] == "A sign says STOP."


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No responses, and none about scenes; both before the labeler is opened."""
    command = ["--config", str(ROOT / "configs" / "demo.yaml"), "--run", str(tmp_path)]
    assert main(command) == 2
    assert "responses.parquet is missing; run `make generate` first" in capsys.readouterr().err
    pq.write_table(pa.table({"text": ["It is a nice day.", "A castle."]}), tmp_path / "responses.parquet")
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: no response in ") and line.endswith(
        "name a run of data.source=scenes with RUN= (--run)"
    )


def test_a_mention_says_what_leaves_something_out() -> None:
    """Of two red cars there also is a car, but of a car there are not two."""
    cars = ThingMention("car", 2, "red", None, "top")
    assert says(cars, cars) and says(cars, ThingMention("car")) and says(cars, ThingMention("car", 2, place="top"))
    assert not says(ThingMention("car"), cars) and not says(cars, ThingMention("car", 2, "blue"))


def test_a_row_counts_both_kinds() -> None:
    cases = [(Source("", ""), "", "", own) for own in (True, True, False, False)]
    assert row("words", cases, [True, False, False, True], 0.002) == "| words | 50.0% of 2 | 50.0% of 2 | 0.50 |"
