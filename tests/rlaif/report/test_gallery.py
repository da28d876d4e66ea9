"""The gallery of the smallest and the largest margins: which pairs it has, and what a card says of them."""

import re
from pathlib import Path
from typing import Any

import pytest

from rlaif.config import Config
from rlaif.report.gallery import LENGTH, SHOWN, SIDE, first_words, gallery
from rlaif.storage.run import Run
from rlaif.storage.writer import TableWriter
from tests.support.pair_rows import pair_row


def run_of(path: Path, rows: list[dict[str, Any]], seed: int = 0) -> Run[Config]:
    config = Config.model_validate({"policy": {"model": "p"}, "labeler": {"model": "l"}, "seed": seed})
    run = Run(path, config, "feedback")
    run.begin(["pairs"], {}, inputs=[])
    with TableWriter(run, "pairs", key="prompt_id", part_rows=7) as writer:
        writer.write(rows)
    run.finish({}, None)
    return run


def scored(number: int, margin: float | None, prompt: str | None = None) -> dict[str, Any]:
    row = pair_row(f"pair {number}", "What is it?", f"Chosen {number}.", f"Rejected {number}.")
    scores = (None, None) if margin is None else (0.0, -margin)
    return row | {"prompt_id": prompt or f"p{number}", "chosen_score": scores[0], "rejected_score": scores[1]}


def claim(text: str, verdict: bool | None, p_yes: float | None) -> dict[str, Any]:
    p_no = None if p_yes is None else 1 - p_yes
    return {"claim": text, "question": "Is it?", "outcome": "asked", "p_yes": p_yes, "p_no": p_no, "verdict": verdict}


def shown(cards: list[dict[str, Any]]) -> list[int]:
    return [int(re.findall(r"\d+", card["sides"][0][1])[0]) for card in cards]


def test_both_ends_outermost_first(tmp_path: Path) -> None:
    margins = [5, 1, 9, 3, 7, 2, 8, 4, 6, 0.5, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]
    cards = gallery(run_of(tmp_path, [scored(number, margin) for number, margin in enumerate(margins)]))
    assert cards is not None
    by_margin = sorted(range(len(margins)), key=margins.__getitem__)
    assert shown(cards["smallest"]) == by_margin[:SHOWN] and shown(cards["largest"]) == by_margin[::-1][:SHOWN]
    assert [card["margin"] for card in cards["smallest"][:3]] == ["0.5", "1", "2"]


def test_equal_margins_are_drawn_and_a_prompt_has_one_card_at_each_end(tmp_path: Path) -> None:
    rows = [scored(number, 1.0, f"p{number // 3}") for number in range(90)]
    first, again, other = (
        gallery(run_of(tmp_path / str(index), rows, seed)) or {} for index, seed in enumerate((0, 0, 1))
    )
    assert first == again and shown(first["smallest"]) != shown(other["smallest"])
    assert shown(first["smallest"]) != list(range(SHOWN))
    for cards in first.values():
        assert len({card["address"] for card in cards}) == SHOWN


def test_a_few_pairs_are_not_shown_twice(tmp_path: Path) -> None:
    cards = gallery(run_of(tmp_path, [scored(number, number) for number in (1, 2, 3, 4)])) or {}
    assert [shown(cards[end]) for end in ("smallest", "largest")] == [[1, 2], [4, 3]]


def test_without_scores_or_pairs_there_is_none(tmp_path: Path) -> None:
    assert gallery(run_of(tmp_path / "imported", [scored(1, None)])) is None
    assert gallery(run_of(tmp_path / "none", [])) is None
    assert gallery(Run(tmp_path / "new", Config(**run_of(tmp_path / "x", []).config.model_dump()), "report")) is None


def test_a_card_has_a_small_picture_and_the_surest_rejected_claim(tmp_path: Path) -> None:
    row = scored(1, 2.0, "a/b c")
    row["chosen_claims"] = [claim("A cat.", False, 0.0)]
    row["rejected_claims"] = [
        claim("A dog.", False, 0.4),
        claim("A bird.", False, 0.1),
        claim("A lamp.", True, 0.9),
    ]
    (card,) = (gallery(run_of(tmp_path / "one", [row])) or {})["smallest"]
    assert (card["claim"]["claim"], card["claim"]["side"]) == ("A bird.", "rejected")
    assert card["address"] == "prompt/a%2Fb%20c"
    assert card["picture"].startswith("data:image/webp;base64,") and SIDE < 200
    row["rejected_claims"] = [claim("A lamp.", True, 0.9), claim("A tree.", None, None)]
    (card,) = (gallery(run_of(tmp_path / "two", [row])) or {})["smallest"]
    assert (card["claim"]["claim"], card["claim"]["side"]) == ("A cat.", "chosen")
    row["chosen_claims"] = []
    assert (gallery(run_of(tmp_path / "three", [row])) or {})["smallest"][0]["claim"] is None


ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
LONG = "The picture shows a red car in front of a white house, "


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (("A cat.", "A dog."), ["A cat.", "A dog."]),
        ((LONG + "and a cat.", LONG + "and\na dog."), [f"{ELLIPSIS} cat.", f"{ELLIPSIS} dog."]),
        (("x " * 200, "y"), ["x " * (LENGTH // 2 - 1) + f"x {ELLIPSIS}", "y"]),
        (("\u732b" * 200, "\u72d7"), ["\u732b" * LENGTH + f" {ELLIPSIS}", "\u72d7"]),
        ((LONG + "a.", (LONG + "a.") + " More."), [f"{ELLIPSIS} a.", f"{ELLIPSIS} a. More."]),
    ],
)
def test_answers_begin_where_they_differ(texts: tuple[str, str], said: list[str]) -> None:
    assert first_words(*texts) == said
