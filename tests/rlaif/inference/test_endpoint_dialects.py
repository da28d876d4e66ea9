"""Servers that differ from vLLM's: what they lack, and other names for the same things."""

import base64
import io
from contextlib import closing
from typing import Any

import pytest
from PIL import Image

from rlaif.config import EngineSection
from rlaif.inference.endpoint import EndpointEngine
from rlaif.inference.engine import Request
from rlaif.inference.metering import MeteredEngine
from rlaif.inference.open import open_engine
from tests.support.chat_server import (
    ANSWER,
    QUESTION,
    ChatServer,
    Reply,
    error_message,
    generate,
    refusal,
    section_of,
    settings_of,
)
from tests.support.pair_rows import png


@pytest.mark.parametrize(
    "message", ["top_logprobs must be between 0 and 5.", "logprobs of 20, greater than max allowed: 5"]
)
def test_a_server_with_fewer_top_logprobs_names_the_setting(message: str) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        return refusal(message) if body.get("top_logprobs", 0) > 5 else Reply(ANSWER)

    with ChatServer(reply) as server:
        assert error_message(server) == (
            f"{server.url} rejects the request for log-probabilities, from which verdicts are read (HTTP 400: "
            f"{message}); set endpoint.top_logprobs (now 20) to a number that it allows, or use another endpoint"
        )
        ((answer,),) = generate(server, top_logprobs=5)
    assert answer.first_words == pytest.approx({"yes": 0.75, "no": 0.25})


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("Invalid parameter: 'response_format' of type 'json_schema' is not supported", "rejects the JSON schema that"),
        ("Unrecognized request argument supplied: chat_template_kwargs", "rejects chat_template_kwargs"),
    ],
)
def test_a_server_without_a_feature_names_it(message: str, advice: str) -> None:
    with ChatServer(lambda body: refusal(message)) as server:
        assert advice in error_message(server, Request("Split.", json_schema={"type": "object"}))


def test_a_server_that_wants_max_completion_tokens_gets_them() -> None:
    message = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."

    def reply(body: dict[str, Any]) -> Reply:
        return refusal(message, code="unsupported_parameter") if "max_tokens" in body else Reply(ANSWER)

    with ChatServer(reply) as server:
        answers = generate(server, *[QUESTION] * 5, concurrency=1)
    assert all(answer.first_words for (answer,) in answers)
    limits = [(body.get("max_tokens"), body.get("max_completion_tokens")) for body in server.requests]
    assert limits == [(1, None), *[(None, 1)] * 5], "asked the wrong way once"


def test_a_server_that_wants_neither_name_is_an_error() -> None:
    with ChatServer(lambda body: refusal("max_completion_tokens is too small")) as server:
        assert "HTTP 400: max_completion_tokens is too small" in error_message(server)
    assert len(server.requests) == 2


def test_variables_of_the_chat_template_are_sent() -> None:
    with ChatServer(lambda body: Reply(ANSWER)) as server:
        section = section_of(server, chat_template_kwargs={"enable_thinking": False})
        with closing(open_engine(section, EngineSection(), seed=0)) as engine:
            engine.generate([QUESTION])
        generate(server)
    first, second = server.requests
    assert first["chat_template_kwargs"] == {"enable_thinking": False}
    assert "chat_template_kwargs" not in second


def test_large_images_are_sent_scaled_down() -> None:
    with ChatServer(lambda body: Reply(ANSWER)) as server:
        section = section_of(server, max_pixels=500)
        with closing(open_engine(section, EngineSection(), seed=0)) as engine:
            engine.generate([Request("Is there a dog?", png((40, 30)), max_tokens=1, first_words=("yes", "no"))])
    url = server.requests[0]["messages"][0]["content"][0]["image_url"]["url"]
    assert Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size == (25, 19)  # 40:30, at most 500


def test_a_server_that_does_not_count_tokens() -> None:
    body = {name: value for name, value in ANSWER.items() if name != "usage"}
    with (
        ChatServer(lambda _: Reply(body)) as server,
        closing(EndpointEngine("labeler", settings_of(server))) as engine,
    ):
        metered = MeteredEngine(engine)
        ((answer,),) = metered.generate([QUESTION])
    assert answer.first_words == pytest.approx({"yes": 0.75, "no": 0.25})
    assert (answer.num_tokens, answer.prompt_tokens, answer.counted) == (1, 0, False)
    figures = metered.cost(claims=1).figures()
    assert (figures["claims"], figures["prompt_tokens"], figures["answer_tokens"]) == (1, None, None)
