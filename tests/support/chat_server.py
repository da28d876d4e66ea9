"""A chat-completions server on loopback whose replies a test writes: the double of an endpoint, over real HTTP."""

import json
import math
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import pytest

from rlaif.config import EndpointSection, ModelSection
from rlaif.errors import ModelError
from rlaif.inference.endpoint import EndpointEngine
from rlaif.inference.engine import Completion, Request


@dataclass(frozen=True)
class Reply:
    """What goes back: a JSON body (or raw bytes), after `delay` seconds."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


def completion(
    text: str = "yes", finish_reason: str = "stop", top: dict[str, float] | None = None, tokens: Any = None
) -> dict[str, Any]:
    """A chat completion. top: log-probabilities of the first token; tokens: (text, log-probability) of each."""
    logprobs = None
    if top is not None:
        best = max(top, key=lambda token: top[token])
        listed = [{"token": token, "logprob": value, "bytes": None} for token, value in top.items()]
        logprobs = {"content": [{"token": best, "logprob": top[best], "top_logprobs": listed}]}
    elif tokens is not None:
        logprobs = {"content": [{"token": token, "logprob": value, "top_logprobs": []} for token, value in tokens]}
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": logprobs}],
        "usage": {"prompt_tokens": 7, "completion_tokens": len(text.split()), "total_tokens": 7 + len(text.split())},
    }


def refusal(message: str, status: int = 400, **more: Any) -> Reply:
    """An error as vLLM and OpenAI write it; a client that retries does so at once."""
    return Reply({"error": {"message": message, "type": "x", **more}}, status, {"retry-after-ms": "1"})


class ChatServer:
    """Answers POSTs by `reply` (the request's JSON -> Reply) and GETs (the list of models) by `models`.

    `requests` keeps the JSON of every POST, `paths` and `headers` those of every request; `most` is the most that were
    answered at the same time.
    """

    def __init__(self, reply: Callable[[dict[str, Any]], Reply], models: Reply | None = None) -> None:
        self.reply = reply
        self.models = models
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.running = self.most = 0
        lock = threading.Lock()
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self.answer(lambda: double.reply(body), body)

            def do_GET(self) -> None:
                self.answer(lambda: double.models or Reply({"detail": "Not Found"}, 404), None)

            def answer(self, make: Callable[[], Reply], body: dict[str, Any] | None) -> None:
                with lock:
                    double.paths.append(self.path)
                    double.headers.append({name.lower(): value for name, value in self.headers.items()})
                    if body is not None:
                        double.requests.append(body)
                    double.running += 1
                    double.most = max(double.most, double.running)
                    reply = make()
                time.sleep(reply.delay)
                with lock:
                    double.running -= 1
                content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                try:
                    self.send_response(reply.status)
                    for name, value in {"content-type": "application/json", **reply.headers}.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the client did not wait

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


QUESTION = Request("Is there a dog?", max_tokens=1, first_words=("yes", "no"))
ANSWER = completion(top={"yes": math.log(0.75), "no": math.log(0.25)})


def settings_of(server: ChatServer, **settings: Any) -> EndpointSection:
    return EndpointSection.model_validate({"url": server.url, "timeout": 20, "max_retries": 2, **settings})


def generate(server: ChatServer, *requests: Request, **settings: Any) -> list[list[Completion]]:
    with closing(EndpointEngine("labeler", settings_of(server, **settings))) as engine:
        return engine.generate(requests or [QUESTION])


def error_message(server: ChatServer, *requests: Request, **settings: Any) -> str:
    """The message of the error, which is one line."""
    with pytest.raises(ModelError) as caught:
        generate(server, *requests, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def section_of(server: ChatServer, **settings: Any) -> ModelSection:
    return ModelSection.model_validate({"model": "labeler", "endpoint": {"url": server.url}, **settings})
