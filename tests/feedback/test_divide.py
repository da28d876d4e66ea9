import json

import pytest

from feedback.divide import CLAIMS_SCHEMA, RETRY_TEMPERATURE, Claim, Refusal, Split, coverage, divide, read_split
from feedback.labeler_prompts import read_prompts
from rlaif.inference.engine import PROMPT_TOO_LONG, Completion, Request
from rlaif.text import content_words, words
from tests.support.doubles import ScriptedEngine

RESPONSE = "There is a small red circle at the top left. I can also see a blue square in the center. It is nice."
RED = {
    "claim": "There is a small red circle at the top left.",
    "question": "Is there a small red circle at the top left?",
}
BLUE = {"claim": "There is a blue square in the center.", "question": "Is there a blue square in the center?"}


def answer(*claims: dict[str, str], finish_reason: str = "stop") -> Completion:
    return Completion(json.dumps({"claims": list(claims)}), 7, finish_reason)


def test_words_are_lower_case_and_unspaced_scripts_are_counted_by_character() -> None:
    assert words("A red-brown Dog's 2 ears.") == ["a", "red", "brown", "dog", "s", "2", "ears"]
    assert words("一只dog在草地上") == ["一", "只", "dog", "在", "草", "地", "上"]
    assert content_words("There are two dogs, barking at the bus") == ["two", "dog", "bark", "bus"]
    assert content_words("stripe circle box tree bee") == content_words("striped circles boxes trees bees")


def test_read_split_returns_claims_in_order() -> None:
    assert read_split(RESPONSE, answer(RED, BLUE)) == Split((Claim(**RED), Claim(**BLUE)))


def test_read_split_merges_the_same_claim_and_the_same_question() -> None:
    again = {"claim": "there is a BLUE square in the center", "question": "Is a blue square in the center?"}
    same_question = {"claim": "A blue square is in the center.", "question": "Is there a blue square in the center"}
    split = read_split(RESPONSE, answer(RED, BLUE, again, same_question))
    assert split == Split((Claim(**RED), Claim(**BLUE)), (Claim(**again), Claim(**same_question)))


def test_read_split_breaks_markers_in_claims() -> None:
    marked = {"claim": "There is a blue<|eot_id|> square\nin the center.", "question": "<s>" + BLUE["question"]}
    split = read_split(RESPONSE, answer(marked))
    assert split == Split((Claim("There is a blue< |eot_id|> square in the center.", "< s>" + BLUE["question"]),))


def test_read_split_accepts_paraphrased_claims() -> None:
    # Content words: man, wear, blue, shirt; the response has man, blue and shirt (3 of 4).
    wearing = {"claim": "The man is wearing a blue shirt.", "question": "Is the man wearing a blue shirt?"}
    assert read_split("A man in a blue shirt sits on a bench.", answer(wearing)) == Split((Claim(**wearing),))
    person = {"claim": "The man wears a blue shirt.", "question": "Is the person in a blue shirt?"}
    assert read_split("A man in a blue shirt sits on a bench.", answer(person)) == Split((Claim(**person),))
    names_it = {"claim": "It is blue.", "question": "Is the shirt blue?"}  # adds a word without replacing one
    assert read_split("A man in a shirt. It is blue.", answer(names_it)) == Split((Claim(**names_it),))
    chinese = {"claim": "狗在草地上。", "question": "狗在草地上吗"}
    assert read_split("一只狗在草地上跑。", answer(chinese)) == Split((Claim(**chinese),))


# Content words of the claim: yellow, dog, run; of the response: none of them.
INVENTED = {"claim": "There is a yellow dog running.", "question": "Is there a yellow dog running?"}
# Content words of the question: small, red, circle, top, left; of the claim blue, square, center.
MISMATCHED = {"claim": BLUE["claim"], "question": RED["question"]}
# A word of the claim is replaced by another of the response, which has a red circle.
SWAPPED = {"claim": BLUE["claim"], "question": BLUE["question"].replace("square", "circle")}


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        (answer(RED, finish_reason="length"), "split_truncated"),
        (Completion("", 0, PROMPT_TOO_LONG), PROMPT_TOO_LONG),
        (Completion('{"claims":[', 3, "stop"), "split_invalid"),
        (Completion('["claim"]', 3, "stop"), "split_invalid"),
        (Completion('{"facts":[]}', 3, "stop"), "split_invalid"),
        (Completion('{"claims":[{"claim":"A red circle."}]}', 3, "stop"), "split_invalid"),
        (Completion('{"claims":[{"claim":"A red circle.","question":5}]}', 3, "stop"), "split_invalid"),
        (answer(RED, {"claim": BLUE["claim"], "question": " ?"}), "split_invalid"),
        (answer(RED, {"claim": "", "question": BLUE["question"]}), "split_invalid"),
        (answer(), "no_claims"),
        (answer(RED, INVENTED), "invented_claim"),
        (answer(RED, MISMATCHED), "mismatched_question"),
        (answer(RED, SWAPPED), "mismatched_question"),
    ],
)
def test_read_split_refuses_with_a_reason(completion: Completion, reason: str) -> None:
    result = read_split(RESPONSE, completion)
    assert isinstance(result, Refusal) and result.reason == reason


def test_read_split_refuses_more_claims_than_words() -> None:
    claims = [{"claim": f"{word} circle", "question": f"{word} circle?"} for word in ("A red", "Some red", "Red", "A")]
    result = read_split("red circle circle", answer(*claims))
    assert result == Refusal("too_many_claims", "4 claims from 3 words")


def test_coverage_counts_content_words() -> None:
    # Content words of the response: small red circle top left, blue square center, nice. The claims have eight of them.
    assert coverage(RESPONSE, [RED["claim"], BLUE["claim"]]) == pytest.approx(8 / 9)
    assert coverage(RESPONSE, [BLUE["claim"]]) == pytest.approx(3 / 9)


def test_divide_requests_each_text_once_and_retries_failures_only() -> None:
    invented, opinion = "A small red circle.", "It is nice."
    attempts: dict[str, int] = {}

    def labeler(request: Request) -> list[str]:
        text = request.text.partition("Text: ")[2]
        attempts[text] = attempts.get(text, 0) + 1
        if text == invented and attempts[text] == 1:
            return [answer(INVENTED).text]
        if text == invented:
            return [answer({"claim": "A small red circle.", "question": "Is there a small red circle?"}).text]
        return [answer().text if text == opinion else answer(RED, BLUE).text]

    engine = ScriptedEngine(labeler)
    texts = [RESPONSE, invented, opinion, RESPONSE]
    results = divide(engine, texts, read_prompts(None), max_tokens=50, max_retries=2, seed=0)
    assert attempts == {RESPONSE: 1, invented: 2, opinion: 1}
    assert engine.calls == [3, 1]
    assert results[RESPONSE] == Split((Claim(**RED), Claim(**BLUE)))
    assert results[invented] == Split((Claim("A small red circle.", "Is there a small red circle?"),))
    assert results[opinion] == Refusal("no_claims", "the labeler found no factual claim")
    first, retry = (request for request in engine.requests if request.text.endswith(invented))
    assert first.text == (
        "Split the text into atomic claims, each with a yes/no question. Leave out opinions.\n\n"
        "Text: A small red circle."
    )
    assert first.image is None and first.json_schema == CLAIMS_SCHEMA and first.max_tokens == 50
    assert (first.temperature, retry.temperature) == (0.0, RETRY_TEMPERATURE)
    assert first.seed != retry.seed


def test_divide_returns_the_reason_of_the_last_attempt() -> None:
    engine = ScriptedEngine(lambda request: ["..."])  # the double returns such texts as cut off
    results = divide(engine, ["A dog."], read_prompts(None), max_tokens=1, max_retries=2, seed=0)
    assert results == {"A dog.": Refusal("split_truncated", "1 tokens, finish_reason length")}
    assert len(engine.requests) == 3 and len({request.seed for request in engine.requests}) == 3
