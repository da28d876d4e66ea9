"""The chat format: requests and replies, derived by hand."""

import base64
import io
import json
import math
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from rlaif.errors import ModelError
from rlaif.inference.chat import break_brackets, chat_request, data_url, read_reply
from rlaif.inference.engine import Completion, Request
from tests.support.chat_server import completion


def encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image or Image.new("RGB", (6, 4), (200, 30, 30))).save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(url: str) -> tuple[str, bytes]:
    head, _, data = url.partition(";base64,")
    return head.removeprefix("data:"), base64.b64decode(data, validate=True)


def reply(**parts: Any) -> bytes:
    return json.dumps(completion(**parts)).encode()


def test_a_question_about_an_image() -> None:
    image = encoded("PNG")
    request = Request("Is there a dog?", image, max_tokens=1, first_words=("yes", "no"))
    assert chat_request(request, 0, "labeler", 20) == {
        "model": "labeler",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": data_url(image)}},
                    {"type": "text", "text": "Is there a dog?"},
                ],
            }
        ],
        "temperature": 0.0,
        "top_p": 1.0,
        "max_tokens": 1,
        "logprobs": True,
        "top_logprobs": 20,
    }


def test_a_sampled_answer_in_json() -> None:
    request = Request("List.", n=3, seed=11, temperature=0.7, top_p=0.9, max_tokens=50, json_schema={"type": "object"})
    body = chat_request(request, 2, "labeler", 20)
    assert (body["seed"], body["temperature"], body["top_p"], body["max_tokens"]) == (13, 0.7, 0.9, 50)
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
    }
    assert "logprobs" not in body and "n" not in body
    assert chat_request(Request("List.", token_logprobs=True), 0, "m", 20).keys() >= {"logprobs"}
    assert "top_logprobs" not in chat_request(Request("List.", token_logprobs=True), 0, "m", 20)


@pytest.mark.parametrize(
    "special",
    ["<|eot_id|>", "<unk>", "</s>", "<image>", "(<image>./</image>)", "<\uff5cUser\uff5c>", "[INST]", "[/INST]",
     "[gMASK]", "<|im_start|>system", "<start_of_turn>", "<0x0A>"],
)  # fmt: skip
def test_special_tokens_are_broken_up(special: str) -> None:
    broken = break_brackets(f"a {special} b")
    assert special not in broken
    assert broken.replace(" ", "") == f"a{special}b".replace(" ", "")  # only spaces were added
    assert break_brackets(broken) == broken


@pytest.mark.parametrize(
    "text", ["There are 3 dogs.", 'Like {"claims": []}', "1 < 2 > 0", "see [1]", "\u4e24\u53ea\u72d7", ""]
)
def test_other_text_is_unchanged(text: str) -> None:
    assert break_brackets(text) == text


def test_a_lone_surrogate_is_replaced() -> None:
    assert break_brackets("a \ud800 b") == "a ? b"


@pytest.mark.parametrize("kind, mime", [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp")])
def test_a_plain_image_is_sent_unchanged(kind: str, mime: str) -> None:
    data = encoded(kind)
    assert decoded(data_url(data)) == (mime, data)


def test_an_image_that_decoders_read_differently_is_sent_as_png() -> None:
    rotation = Image.Exif()
    rotation[0x0112] = 6
    transparent = Image.new("RGBA", (6, 4), (0, 0, 0, 0))
    for data, size, color in (
        (encoded("JPEG", exif=rotation), (4, 6), (200, 30, 30)),
        (encoded("PNG", transparent), (6, 4), (255, 255, 255)),
        (encoded("BMP"), (6, 4), (200, 30, 30)),
    ):
        mime, sent = decoded(data_url(data))
        image = Image.open(io.BytesIO(sent))
        assert (mime, image.format, image.size) == ("image/png", "PNG", size)
        assert all(abs(a - b) <= 3 for a, b in zip(image.convert("RGB").tobytes(), color, strict=False))


def test_a_large_image_is_sent_smaller() -> None:
    mime, sent = decoded(data_url(encoded("JPEG", Image.new("RGB", (400, 300))), 30_000))
    assert (mime, Image.open(io.BytesIO(sent)).size) == ("image/png", (200, 150))
    small = encoded("JPEG")
    assert decoded(data_url(small, 30_000)) == ("image/jpeg", small)


def test_a_broken_image_is_an_error() -> None:
    with pytest.raises(ValueError, match="unreadable image"):
        data_url(b"no image")


def test_probabilities_are_summed_over_spellings() -> None:
    top = {" yes": math.log(0.3), "Yes": math.log(0.2), "no": math.log(0.25), "NO\n": math.log(0.05), "maybe": -9.0}
    answer = read_reply(reply(top=top, finish_reason="length"), Request("?", first_words=("yes", "no")), "m")
    assert answer.first_words == pytest.approx({"yes": 0.5, "no": 0.3})
    assert (answer.finish_reason, answer.num_tokens, answer.prompt_tokens) == ("length", 1, 7)


def test_a_word_that_is_not_among_the_most_probable_tokens_has_probability_0() -> None:
    answer = read_reply(reply(top={"Yes": math.log(0.9), "maybe": -3.0}), Request("?", first_words=("yes", "no")), "m")
    assert answer.first_words == pytest.approx({"yes": 0.9, "no": 0.0})


@pytest.mark.parametrize("parts", [{}, {"tokens": [("yes", -0.1)]}, {"tokens": []}])
def test_missing_logprobs_are_an_error(parts: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="returned no log-probabilities for 'm', which verdicts are read from"):
        read_reply(reply(**parts), Request("?", first_words=("yes", "no")), "m")


def test_probabilities_above_1_are_an_error() -> None:
    with pytest.raises(ModelError, match="add up to more than 1"):
        read_reply(reply(top={"yes": 0.0, "no": 0.0}), Request("?", first_words=("yes",)), "m")


def test_a_filtered_question_has_no_verdict() -> None:
    answer = read_reply(reply(text="", finish_reason="content_filter"), Request("?", first_words=("yes",)), "m")
    assert answer == Completion("", 0, "content_filter", prompt_tokens=7)


@pytest.mark.parametrize(
    ("message", "text", "finish_reason"),
    [
        ({"content": [{"type": "text", "text": "a "}, {"type": "text", "text": "dog"}]}, "a dog", "stop"),
        ({"content": [{"type": "thinking", "thinking": [{}]}, {"type": "text", "text": "yes"}]}, "yes", "stop"),
        ({"content": None, "refusal": "I cannot help with that."}, "", "content_filter"),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, "", "content_filter"),
        ({"content": "a dog", "refusal": None}, "a dog", "stop"),
        ({"content": None}, "", "stop"),
    ],
)
def test_content_is_text_or_parts_or_a_refusal(message: dict[str, Any], text: str, finish_reason: str) -> None:
    body = completion()
    body["choices"][0]["message"] = {"role": "assistant", **message}
    answer = read_reply(json.dumps(body).encode(), Request("?"), "m")
    assert (answer.text, answer.finish_reason) == (text, finish_reason)
    if finish_reason == "content_filter":
        refused = read_reply(json.dumps(body).encode(), Request("?", first_words=("yes", "no")), "m")
        assert refused.first_words is None


def test_text_and_log_probability_of_each_token() -> None:
    request = Request("?", token_logprobs=True)
    answer = read_reply(reply(text="a dog", tokens=[("a", -0.5), (" dog", -0.1), ("<|end|>", -0.2)]), request, "m")
    assert answer.tokens == (("a", -0.5), (" dog", -0.1), ("", -0.2))
    with pytest.raises(ModelError, match="no log-probabilities"):
        read_reply(reply(text="a dog"), request, "m")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"<html>", "Invalid JSON"),
        (b'{"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}', "choices"),
        (b'{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": 3}', "usage"),
        (b'{"object": "error", "message": "busy"}', "choices"),
    ],
)
def test_a_reply_that_is_not_a_completion_is_an_error(content: bytes, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        read_reply(content, Request("?"), "m")
