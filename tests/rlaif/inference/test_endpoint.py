"""The engine behind HTTP, against a server whose replies are written here; a real one is in test_served.py."""

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
from scenes.language import claim_of, find_mentions, question_of
from tests.support.chat_server import ChatServer, Reply, completion, refusal
from tests.support.synthetic_run import TRAIN_PROMPTS, write_prompts

KEY = "sk-a-secret-that-nobody-may-see"
ASK = Request("Is there a dog?", max_tokens=1, first_words=("yes", "no"))
SURE = completion(top={"yes": math.log(0.75), "no": math.log(0.25)})


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLAIF_API_KEY", raising=False)


def settings_of(server: ChatServer, **settings: Any) -> EndpointSection:
    return EndpointSection.model_validate({"url": server.url, "timeout": 20, "max_retries": 2, **settings})


def ask(server: ChatServer, *requests: Request, **settings: Any) -> list[list[Completion]]:
    with closing(EndpointEngine("labeler", settings_of(server, **settings))) as engine:
        return engine.generate(requests or [ASK])


def trouble(server: ChatServer, *requests: Request, **settings: Any) -> str:
    """The one line of the error."""
    with pytest.raises(ModelError) as caught:
        ask(server, *requests, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def in_turn(*replies: Reply) -> Callable[[dict[str, Any]], Reply]:
    """Each reply once, then the last again and again."""
    left: Iterator[Reply] = iter(replies)
    return lambda body: next(left, replies[-1])


def test_a_question_is_asked_and_answered() -> None:
    with ChatServer(lambda body: Reply(SURE)) as server:
        ((answer,),) = ask(server, top_logprobs=15)
    assert answer.first_words == pytest.approx({"yes": 0.75, "no": 0.25})
    (body,) = server.requests
    assert (body["model"], body["max_tokens"], body["logprobs"], body["top_logprobs"]) == ("labeler", 1, True, 15)
    assert server.paths == ["/v1/chat/completions"]


def test_answers_come_in_order_however_long_each_takes() -> None:
    def slow_at_first(body: dict[str, Any]) -> Reply:
        text = body["messages"][0]["content"][0]["text"]
        return Reply(completion(f"{text} {body.get('seed')}"), delay=0.3 if text == "0" else 0.0)

    with ChatServer(slow_at_first) as server:
        requests = [Request(str(index), n=2 if index == 3 else 1, seed=10) for index in range(8)]
        answers = ask(server, *requests, concurrency=3)
    assert [[answer.text for answer in row] for row in answers] == [
        [f"{index} 10", f"{index} 11"] if index == 3 else [f"{index} 10"] for index in range(8)
    ]
    assert 1 < server.most <= 3


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_passing_trouble_is_waited_out(status: int) -> None:
    with ChatServer(in_turn(refusal("busy", status), refusal("busy", status), Reply(SURE))) as server:
        ((answer,),) = ask(server)
    assert answer.first_words and len(server.requests) == 3


@pytest.mark.parametrize("status", [429, 500])
def test_lasting_trouble_is_one_clear_error(status: int) -> None:
    with ChatServer(lambda body: refusal("too\nbusy", status)) as server:
        error = trouble(server)
    assert error == (
        f"{server.url} failed 3 times (HTTP {status}: too busy); see the server's log, or lower endpoint.concurrency, "
        "and start again: finished work is kept"
    )
    assert len(server.requests) == 3


def test_after_an_error_the_rest_is_not_asked() -> None:
    with ChatServer(lambda body: refusal("no", 400)) as server:
        trouble(server, *[ASK] * 200, concurrency=2)
    assert len(server.requests) < 20


def test_a_slow_answer_is_asked_for_again_and_then_an_error() -> None:
    with ChatServer(in_turn(Reply(SURE, delay=3.0), Reply(SURE))) as server:
        assert ask(server, timeout=0.5)[0][0].first_words
    with ChatServer(lambda body: Reply(SURE, delay=3.0)) as server:
        error = trouble(server, timeout=0.3, max_retries=1)
    assert error == (
        f"{server.url} did not answer within 0.3 seconds, in 2 tries; raise endpoint.timeout, or lower "
        "endpoint.concurrency"
    )


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    settings = EndpointSection.model_validate({"url": url, "max_retries": 0})
    with closing(EndpointEngine("labeler", settings)) as engine, pytest.raises(ModelError) as caught:
        engine.generate([ASK])
    assert str(caught.value).startswith(f"{url} cannot be reached (")
    assert str(caught.value).endswith("); start the server, or correct endpoint.url")


@pytest.mark.parametrize("content", [b"<html>hello</html>", b'{"choices": []}', b'{"choices": [', b""])
def test_a_malformed_reply_is_asked_for_again_and_then_an_error(content: bytes) -> None:
    with ChatServer(in_turn(Reply(content), Reply(SURE))) as server:
        assert ask(server)[0][0].first_words
    with ChatServer(lambda body: Reply(content)) as server:
        error = trouble(server)
    assert error.startswith(f"{server.url} answered 3 times, but not with a chat completion (")
    assert error.endswith("); correct endpoint.url, which usually ends in /v1")
    assert len(server.requests) == 3


def test_missing_logprobs_are_refused_at_once() -> None:
    with ChatServer(lambda body: Reply(completion("yes"))) as server:
        assert "returned no log-probabilities for 'labeler'" in trouble(server)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "message, more",
    [
        ("This model's maximum context length is 300 tokens. However, your prompt contains 900 input tokens", {}),
        ("The decoder prompt (length 900) is longer than the maximum model length of 300.", {}),
        ("too big", {"code": "context_length_exceeded"}),
        ("the request exceeds the available context size", {}),
    ],
)
def test_a_prompt_that_is_too_long_is_named_and_the_others_answered(message: str, more: dict[str, Any]) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        long = len(body["messages"][0]["content"][0]["text"]) > 100
        return refusal(message, 400, **more) if long else Reply(completion("fine"))

    with ChatServer(reply) as server:
        answers = ask(server, Request("short"), Request("long" * 100, n=2), Request("short"))
    assert [answer.text for (answer,) in answers] == ["fine", "", "fine"]
    assert answers[1] == [Completion("", 0, PROMPT_TOO_LONG)]


def test_what_the_filter_of_an_endpoint_refuses_stops_nothing() -> None:
    with ChatServer(lambda body: refusal("The response was filtered", 400, code="content_filter")) as server:
        assert ask(server) == [[Completion("", 0, "content_filter")]]


def test_another_refusal_says_what_the_server_says() -> None:
    with ChatServer(lambda body: refusal("logprobs of 50, greater than max allowed: 20")) as server:
        error = trouble(server)
    assert (
        "rejects a request (HTTP 400: logprobs of 50, greater than max allowed: 20); correct the setting that it names"
        in error
    )
    with ChatServer(lambda body: refusal("The model `labeler` does not exist.", 404)) as server:
        assert "has no model 'labeler', or no chat completions (HTTP 404: The model" in trouble(server)
    assert len(server.requests) == 1


def test_a_redirect_is_not_followed() -> None:
    with ChatServer(lambda body: Reply(SURE)) as elsewhere:
        away = {"location": f"{elsewhere.url}/chat/completions"}
        with ChatServer(lambda body: Reply({}, 307, away)) as server:
            assert "redirects to another address (HTTP 307), which is not followed" in trouble(server)
    assert not elsewhere.requests


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAIF_API_KEY", f"{KEY}\n")
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    monkeypatch.setenv("OPENAI_ORG_ID", "organisation")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project")
    with ChatServer(lambda body: Reply(SURE)) as server:
        ask(server)
        monkeypatch.setenv("OTHER_KEY", "other")
        ask(server, api_key_env="OTHER_KEY")
        ask(server, api_key_env="NOT_SET")
    assert [headers["authorization"] for headers in server.headers] == [f"Bearer {KEY}", "Bearer other", "Bearer none"]
    assert not any("organisation" in value or "project" in value for it in server.headers for value in it.values())


@pytest.mark.parametrize("status", [401, 403, 400, 500])
def test_the_key_is_in_no_error(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAIF_API_KEY", KEY)
    with ChatServer(lambda body: refusal(f"Incorrect API key provided: {KEY}", status)) as server:
        error = trouble(server)
        assert KEY not in error
    if status in (401, 403):
        assert error == (
            f"{server.url} rejects the key in the environment variable RLAIF_API_KEY (HTTP {status}); "
            "set it to a valid key"
        )


def test_a_key_that_is_wanted_and_not_set() -> None:
    with ChatServer(lambda body: Reply({"error": "Unauthorized"}, 401)) as server:
        assert "requires a key, but none is set in the environment variable RLAIF_API_KEY" in trouble(server)
    assert len(server.requests) == 1


def test_what_cannot_be_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAIF_API_KEY", "schl\u00fcssel")
    with pytest.raises(ModelError, match="RLAIF_API_KEY has characters that a header cannot carry") as caught:
        EndpointEngine("labeler", EndpointSection.model_validate({"url": "http://127.0.0.1:1/v1"}))
    assert "schl" not in str(caught.value)


def served(*models: dict[str, Any]) -> Reply:
    return Reply({"object": "list", "data": [{"object": "model", "created": 1, **model} for model in models]})


def section_of(server: ChatServer, **more: Any) -> ModelSection:
    return ModelSection.model_validate({"model": "labeler", "endpoint": {"url": server.url}, **more})


def test_identity_is_what_the_endpoint_says_that_it_serves() -> None:
    models = served({"id": "other"}, {"id": "labeler", "root": "org/labeler", "max_model_len": 2048})
    with ChatServer(lambda body: Reply(SURE), models) as server, ChatServer(lambda body: Reply(SURE), models) as twin:
        assert model_revision(section_of(server)) == "endpoint: root org/labeler, max_model_len 2048"
        assert model_revision(section_of(server)) == model_revision(section_of(twin)), "the address is no part of it"
        assert server.paths == ["/v1/models"] * 2
        assert model_revision(section_of(server, revision="2024-08-06")) == "endpoint: 2024-08-06"
        assert len(server.paths) == 2, "what is set is taken at its word"


def test_no_such_model_there() -> None:
    with ChatServer(lambda body: Reply(SURE), served({"id": "a"}, {"id": "b"})) as server:
        with pytest.raises(ModelError, match=r"does not serve 'labeler', only: a, b; set model to one of them"):
            model_revision(section_of(server))
        server.models = Reply(b"<html>", 200)
        with pytest.raises(ModelError, match=r"/models is not a list of models .* set the revision of labeler if"):
            served_revision("labeler", None, settings_of(server))


def test_open_engine_turns_to_the_endpoint() -> None:
    with (
        ChatServer(lambda body: Reply(SURE)) as server,
        closing(open_engine(section_of(server), EngineSection(), seed=0)) as engine,
    ):
        ((answer,),) = engine.generate([ASK])
    assert answer.first_words is not None


def test_settings_that_a_table_is_bound_to_hold_no_address_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAIF_API_KEY", KEY)
    section = ModelSection.model_validate({"model": "labeler", "endpoint": {"url": "http://gpu-1:8000/v1"}})
    assert section.identity() == {
        "model": "labeler",
        "revision": None,
        "dtype": "auto",
        "endpoint": {"top_logprobs": 20},
    }
    assert ModelSection(model="x").identity() == {"model": "x", "revision": None, "dtype": "auto"}


def labeler(body: dict[str, Any]) -> Reply:
    """Splits scene captions into their mentions, and sees red things only."""
    *_, part = body["messages"][0]["content"]
    if "response_format" in body:
        said = dict.fromkeys(find_mentions(part["text"]))
        claims = [{"claim": claim_of(mention), "question": question_of(mention)} for mention in said]
        return Reply(completion(json.dumps({"claims": claims})))
    p_yes = 0.9 if "red" in part["text"] else 0.2
    return Reply(completion(top={"yes": math.log(p_yes), "no": math.log(1 - p_yes)}))


def test_a_labeler_by_endpoint_makes_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole stage over HTTP, ended once by a server that fails; the key is in nothing that it leaves."""
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
        done = len(list((path / "scores.parts").glob("part-*.parquet")))
        assert done, "what was finished stays"
        server.reply = labeler
        stage.feedback(config, path)
    claims = list(read_rows(Run(path, config, "test"), "claims"))
    assert len({row["prompt_id"] for row in claims}) == TRAIN_PROMPTS
    assert {row["labeler_revision"] for row in claims} == {"endpoint: root org/labeler, max_model_len 2048"}
    assert all(row["verdict"] == ("red" in row["claim"]) for row in claims)
    cost = Run(path, config, "test").metrics()["labeling"]
    assert 0 < cost["claims"] < len(claims), "of the second try alone"
    left = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
    assert b"labeler" in left and KEY.encode() not in left and server.url.encode() not in left
