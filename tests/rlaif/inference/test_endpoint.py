"""The engine over HTTP, against a server with scripted replies; test_served.py uses a real one."""

import gc
import json
import math
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import feedback.stage as stage
from rlaif.config import Config, EndpointSection, EngineSection, ModelSection
from rlaif.errors import ModelError
from rlaif.inference.endpoint import EndpointEngine, served_revision
from rlaif.inference.engine import PROMPT_TOO_LONG, Completion, Request
from rlaif.inference.open import open_engine
from rlaif.inference.revision import model_revision
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
from scenes.language import find_mentions
from tests.support.chat_server import (
    ANSWER,
    QUESTION,
    ChatServer,
    Reply,
    completion,
    error_message,
    generate,
    refusal,
    section_of,
    settings_of,
)
from tests.support.synthetic_run import TRAIN_PROMPTS, write_prompts

KEY = "sk-a-secret-that-nobody-may-see"


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLAIF_API_KEY", raising=False)


def in_turn(*replies: Reply) -> Callable[[dict[str, Any]], Reply]:
    """Each reply once, then the last one repeatedly."""
    remaining: Iterator[Reply] = iter(replies)
    return lambda body: next(remaining, replies[-1])


def test_a_question_and_its_answer() -> None:
    with ChatServer(lambda body: Reply(ANSWER)) as server:
        ((answer,),) = generate(server, top_logprobs=15)
    assert answer.first_words == pytest.approx({"yes": 0.75, "no": 0.25})
    (body,) = server.requests
    assert (body["model"], body["max_tokens"], body["logprobs"], body["top_logprobs"]) == ("labeler", 1, True, 15)
    assert server.paths == ["/v1/chat/completions"]


def test_answers_are_in_the_order_of_the_requests() -> None:
    def delay_first(body: dict[str, Any]) -> Reply:
        text = body["messages"][0]["content"][0]["text"]
        return Reply(completion(f"{text} {body.get('seed')}"), delay=0.3 if text == "0" else 0.0)

    with ChatServer(delay_first) as server:
        requests = [Request(str(index), n=2 if index == 3 else 1, seed=10) for index in range(8)]
        answers = generate(server, *requests, concurrency=3)
    assert [[answer.text for answer in row] for row in answers] == [
        [f"{index} 10", f"{index} 11"] if index == 3 else [f"{index} 10"] for index in range(8)
    ]
    assert 1 < server.most <= 3


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_temporary_errors_are_retried(status: int) -> None:
    with ChatServer(in_turn(refusal("busy", status), refusal("busy", status), Reply(ANSWER))) as server:
        ((answer,),) = generate(server)
    assert answer.first_words and len(server.requests) == 3


@pytest.mark.parametrize("status", [429, 500])
def test_a_permanent_error_is_one_clear_message(status: int) -> None:
    with ChatServer(lambda body: refusal("too\nbusy", status)) as server:
        error = error_message(server)
    assert error == (
        f"{server.url} failed 3 times (HTTP {status}: too busy); see the server's log, or lower endpoint.concurrency, "
        "and start again: finished work is kept"
    )
    assert len(server.requests) == 3


def test_after_an_error_the_remaining_requests_are_not_sent() -> None:
    with ChatServer(lambda body: refusal("no", 400)) as server:
        error_message(server, *[QUESTION] * 200, concurrency=2)
    assert len(server.requests) < 20


def test_after_an_error_requests_that_were_sent_are_not_retried_and_no_connection_stays_open() -> None:
    def reply(body: dict[str, Any]) -> Reply:
        first = body["messages"][0]["content"][0]["text"] == "0"
        return refusal("no", 400) if first else refusal("busy", 503)

    for _ in range(5):
        with ChatServer(reply) as server:
            error_message(server, *[Request(str(index)) for index in range(16)], concurrency=16, max_retries=1000)
        assert len(server.requests) < 5000  # of 15,016; a busy machine sends hundreds before the first reply
    gc.collect()  # an open connection is a ResourceWarning here, which fails the test


@pytest.mark.slow
def test_a_timeout_is_retried_and_then_an_error() -> None:
    with ChatServer(in_turn(Reply(ANSWER, delay=3.0), Reply(ANSWER))) as server:
        assert generate(server, timeout=0.5)[0][0].first_words
    with ChatServer(lambda body: Reply(ANSWER, delay=3.0)) as server:
        error = error_message(server, timeout=0.3, max_retries=1)
    assert error == (
        f"{server.url} did not answer within 0.3 seconds, in 2 tries; raise endpoint.timeout, or lower "
        "endpoint.concurrency"
    )


def test_an_unreachable_server_is_an_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    settings = EndpointSection.model_validate({"url": url, "max_retries": 0})
    with closing(EndpointEngine("labeler", settings)) as engine, pytest.raises(ModelError) as caught:
        engine.generate([QUESTION])
    assert str(caught.value).startswith(f"{url} cannot be reached (")
    assert str(caught.value).endswith("); start the server, or correct endpoint.url")


@pytest.mark.parametrize("content", [b"<html>hello</html>", b'{"choices": []}', b'{"choices": [', b""])
def test_a_malformed_reply_is_retried_and_then_an_error(content: bytes) -> None:
    with ChatServer(in_turn(Reply(content), Reply(ANSWER))) as server:
        assert generate(server)[0][0].first_words
    with ChatServer(lambda body: Reply(content)) as server:
        error = error_message(server)
    assert error.startswith(f"{server.url} answered 3 times, but not with a chat completion (")
    assert error.endswith("); correct endpoint.url, which usually ends in /v1")
    assert len(server.requests) == 3


def test_missing_logprobs_are_an_error_without_retries() -> None:
    with ChatServer(lambda body: Reply(completion("yes"))) as server:
        assert "returned no log-probabilities for 'labeler'" in error_message(server)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "message, fields",
    [
        ("This model's maximum context length is 300 tokens. However, your prompt contains 900 input tokens", {}),
        ("The decoder prompt (length 900) is longer than the maximum model length of 300.", {}),
        ("too big", {"code": "context_length_exceeded"}),
        ("the request exceeds the available context size", {}),
    ],
)
def test_a_prompt_that_is_too_long_does_not_affect_the_others(message: str, fields: dict[str, Any]) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        too_long = len(body["messages"][0]["content"][0]["text"]) > 100
        return refusal(message, 400, **fields) if too_long else Reply(completion("fine"))

    with ChatServer(reply) as server:
        answers = generate(server, Request("short"), Request("long" * 100, n=2), Request("short"))
    assert [answer.text for (answer,) in answers] == ["fine", "", "fine"]
    assert answers[1] == [Completion("", 0, PROMPT_TOO_LONG)]


def test_a_filtered_request_is_a_completion_without_text() -> None:
    with ChatServer(lambda body: refusal("The response was filtered", 400, code="content_filter")) as server:
        assert generate(server) == [[Completion("", 0, "content_filter")]]


def test_other_rejections_have_the_message_of_the_server() -> None:
    with ChatServer(lambda body: refusal("seed must be below 100")) as server:
        error = error_message(server)
    assert "rejects a request (HTTP 400: seed must be below 100); correct the setting that it names" in error
    with ChatServer(lambda body: refusal("The model `labeler` does not exist.", 404)) as server:
        assert "has no model 'labeler', or no chat completions (HTTP 404: The model" in error_message(server)
    assert len(server.requests) == 1


def test_a_redirect_is_not_followed() -> None:
    with ChatServer(lambda body: Reply(ANSWER)) as target:
        headers = {"location": f"{target.url}/chat/completions"}
        with ChatServer(lambda body: Reply({}, 307, headers)) as server:
            assert "redirects to another address (HTTP 307), which is not followed" in error_message(server)
    assert not target.requests


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAIF_API_KEY", f"{KEY}\n")
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    monkeypatch.setenv("OPENAI_ORG_ID", "organization")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project")
    with ChatServer(lambda body: Reply(ANSWER)) as server:
        generate(server)
        monkeypatch.setenv("OTHER_KEY", "other")
        generate(server, api_key_env="OTHER_KEY")
        generate(server, api_key_env="NOT_SET")
    assert [headers["authorization"] for headers in server.headers] == [f"Bearer {KEY}", "Bearer other", "Bearer none"]
    assert not any(
        "organization" in value or "project" in value for headers in server.headers for value in headers.values()
    )


@pytest.mark.parametrize("status", [401, 403, 400, 500])
def test_the_key_is_in_no_error(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAIF_API_KEY", KEY)
    with ChatServer(lambda body: refusal(f"Incorrect API key provided: {KEY}", status)) as server:
        error = error_message(server)
        assert KEY not in error
    if status in (401, 403):
        assert error == (
            f"{server.url} rejects the key in the environment variable RLAIF_API_KEY (HTTP {status}); "
            "set it to a valid key"
        )


def test_a_required_key_that_is_not_set() -> None:
    with ChatServer(lambda body: Reply({"error": "Unauthorized"}, 401)) as server:
        assert "requires a key, but none is set in the environment variable RLAIF_API_KEY" in error_message(server)
    assert len(server.requests) == 1


def test_a_key_that_a_header_cannot_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAIF_API_KEY", "schl\u00fcssel")
    with pytest.raises(ModelError, match="RLAIF_API_KEY has characters that a header cannot carry") as caught:
        EndpointEngine("labeler", EndpointSection.model_validate({"url": "http://127.0.0.1:1/v1"}))
    assert "schl" not in str(caught.value)


def served(*models: dict[str, Any]) -> Reply:
    return Reply({"object": "list", "data": [{"object": "model", "created": 1, **model} for model in models]})


def test_revision_of_an_endpoint_is_what_it_serves() -> None:
    models = served({"id": "other"}, {"id": "labeler", "root": "org/labeler", "max_model_len": 2048})
    with (
        ChatServer(lambda body: Reply(ANSWER), models) as server,
        ChatServer(lambda body: Reply(ANSWER), models) as twin,
    ):
        assert model_revision(section_of(server)) == "endpoint: root org/labeler, max_model_len 2048"
        assert model_revision(section_of(server)) == model_revision(section_of(twin)), "the address is not part of it"
        assert server.paths == ["/v1/models"] * 2
        assert model_revision(section_of(server, revision="2024-08-06")) == "endpoint: 2024-08-06"
        assert len(server.paths) == 2, "a revision in the configuration is not checked"


def test_a_model_that_the_endpoint_does_not_serve() -> None:
    with ChatServer(lambda body: Reply(ANSWER), served({"id": "a"}, {"id": "b"})) as server:
        with pytest.raises(ModelError, match=r"does not serve 'labeler', only: a, b; set model to one of them"):
            model_revision(section_of(server))
        server.models = Reply(b"<html>", 200)
        with pytest.raises(ModelError, match=r"/models is not a list of models .* set the revision of labeler if"):
            served_revision("labeler", None, settings_of(server))


def test_open_engine_opens_the_endpoint() -> None:
    with (
        ChatServer(lambda body: Reply(ANSWER)) as server,
        closing(open_engine(section_of(server), EngineSection(), seed=0)) as engine,
    ):
        ((answer,),) = engine.generate([QUESTION])
    assert answer.first_words is not None


def test_the_identity_of_a_model_has_neither_address_nor_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAIF_API_KEY", KEY)
    section = ModelSection.model_validate({"model": "labeler", "endpoint": {"url": "http://gpu-1:8000/v1"}})
    assert section.identity() == {
        "model": "labeler",
        "revision": None,
        "dtype": "auto",
        "endpoint": {"top_logprobs": 20},
    }
    assert ModelSection(model="x").identity() == {"model": "x", "revision": None, "dtype": "auto"}
    changed = ModelSection(model="x", max_pixels=9, chat_template_kwargs={"enable_thinking": False})
    assert changed.identity() == {
        **ModelSection(model="x").identity(),
        "max_pixels": 9,
        "chat_template_kwargs": {"enable_thinking": False},
    }


def labeler(body: dict[str, Any]) -> Reply:
    """Splits scene captions into their mentions, and accepts claims about red things only."""
    *_, part = body["messages"][0]["content"]
    if "response_format" in body:
        mentions = dict.fromkeys(find_mentions(part["text"].rpartition("Answer: ")[2]))
        claims = [{"claim": mention.claim, "question": mention.question} for mention in mentions]
        return Reply(completion(json.dumps({"claims": claims})))
    p_yes = 0.9 if "red" in part["text"] else 0.2
    return Reply(completion(top={"yes": math.log(p_yes), "no": math.log(1 - p_yes)}))


@pytest.mark.slow
def test_feedback_with_a_labeler_behind_an_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole stage over HTTP, resumed after an error of the server; the key is not in any file of the run."""
    monkeypatch.setenv("RLAIF_API_KEY", KEY)
    monkeypatch.setattr(stage, "PROMPTS_PER_CHUNK", 4)
    models = served({"id": "labeler", "root": "org/labeler", "max_model_len": 2048})
    path = tmp_path / "run"
    with ChatServer(labeler, models) as server:
        endpoint = {"url": server.url, "max_retries": 0}
        config = Config.model_validate(
            {"policy": {"model": "x"}, "labeler": {"model": "labeler", "endpoint": endpoint}}
        )
        write_prompts(Run(path, config, "generation"), truth=True)
        server.reply = lambda body: refusal("broken", 500) if len(server.requests) > 250 else labeler(body)
        with pytest.raises(ModelError, match="HTTP 500: broken"):
            stage.feedback(config, path)
        finished = len(list((path / "scores.parts").glob("part-*.parquet")))
        assert finished, "finished parts are kept"
        server.reply = labeler
        stage.feedback(config, path)
    claims = list(read_rows(Run(path, config, "test"), "claims"))
    assert len({row["prompt_id"] for row in claims}) == TRAIN_PROMPTS
    assert {row["labeler_revision"] for row in claims} == {"endpoint: root org/labeler, max_model_len 2048"}
    assert all(row["verdict"] == ("red" in row["claim"]) for row in claims)
    cost = Run(path, config, "test").metrics()["labeling"]
    assert 0 < cost["claims"] < len(claims), "of the resumed run only"
    content = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
    assert b"labeler" in content and KEY.encode() not in content and server.url.encode() not in content
