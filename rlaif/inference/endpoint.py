"""An Engine for a model behind an OpenAI-compatible chat API: `endpoint.url` beside `model` in the configuration.

- **p(word)** is the sum over those of the `top_logprobs` most probable first tokens that are spellings of the word.
  Less probable spellings count as 0 and go to p_other, so p(yes) and p(no) can only be too low. The API cannot tell
  whether the word is a token of the model. An API without log-probabilities is an error; nothing is estimated.
- **Text and images**: see `rlaif.inference.chat`, which writes the requests and reads the replies.
- **Dialects**: `max_tokens` is sent, or `max_completion_tokens` to a server that asks for it. A reply may be text or a
  list of parts. Tokens that a server does not report are not counted, and their figures in metrics.json are null.
- **Retries**: the openai client retries after a time-out, a lost connection, 408, 409, 429 and 5xx with exponential
  backoff and jitter (Retry-After is obeyed); we retry after a reply that is not a chat completion. After the last
  retry, or at once where a retry cannot help, a ModelError says what was received. Redirects are not followed.
- **The key** is read from the environment and sent in one header; it is removed from server messages before they are
  shown.
- **Identity** excludes address and speed, since the same model may be served elsewhere tomorrow. It is `revision` where
  that is set, and otherwise root and max_model_len of the model in the server's list of models. A server that replaces
  the weights behind both goes unnoticed.
"""

import asyncio
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from rlaif.config import EndpointSection
from rlaif.errors import ModelError
from rlaif.inference.chat import CONTENT_FILTER, chat_request, read_reply
from rlaif.inference.engine import PROMPT_TOO_LONG, Completion, Engine, Request
from rlaif.inference.turns import Turns, take_place

if TYPE_CHECKING:
    from openai import APIError, OpenAI

CONNECT_SECONDS = 10.0
LOOPBACK = ("127.0.0.1", "::1", "localhost")

_TOO_LONG = re.compile(r"context.{0,10}(length|size|window)|maximum model length|prompt is too long", re.IGNORECASE)
_FILTERED = re.compile(r"content_filter|content_policy|content management policy", re.IGNORECASE)


class _Model(BaseModel):
    id: str
    root: str | None = None
    max_model_len: int | None = None


class _Models(BaseModel):
    """The fields of a list of models that we read."""

    data: list[_Model]


class EndpointEngine(Engine):
    """Implements `rlaif.inference.engine.Engine`; `model` is its name at the endpoint."""

    def __init__(
        self,
        model: str,
        settings: EndpointSection,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        max_pixels: int | None = None,
    ) -> None:
        self._model = model
        self._settings = settings
        self._max_pixels = max_pixels
        self._extra = {"chat_template_kwargs": dict(chat_template_kwargs)} if chat_template_kwargs else None
        self._length_name = "max_tokens"
        self._closing = False
        self._client = open_client(settings, settings.max_retries, self._stop_when_closing)
        self._turns = Turns(settings.concurrency)
        self._pool = ThreadPoolExecutor(settings.concurrency)

    async def answer(self, request: Request) -> list[Completion]:
        """See Engine. Each of the n answers is a request of its own, with seed + index. Errors: ModelError."""
        take_place()
        completions = await asyncio.gather(*(self._in_turn(request, index) for index in range(request.n)))
        return completions[:1] if completions[0].finish_reason == PROMPT_TOO_LONG else completions

    async def _in_turn(self, request: Request, index: int) -> Completion:
        async with self._turns.room(1):
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._answer, request, index)

    def close(self) -> None:
        """See Engine. Waits for requests that were sent; they are not retried."""
        self._closing = True
        # the client last: it forgets a connection that is being opened when it closes
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def _stop_when_closing(self, _: object) -> None:
        if self._closing:
            raise asyncio.CancelledError  # the openai client would retry after an Exception

    def _answer(self, request: Request, index: int) -> Completion:
        from openai import APIError

        body = chat_request(request, index, self._model, self._settings.top_logprobs, self._max_pixels)
        tries = self._settings.max_retries + 1
        fault = ""
        for _ in range(tries):
            try:
                return read_reply(self._send(body), request, self._model)
            except APIError as error:
                if refusal := read_refusal(error):
                    return Completion("", 0, refusal)
                raise ModelError(explain(error, self._model, self._settings, tries)) from None
            except ValidationError as error:
                fault = _fault(error)
        raise ModelError(
            f"{self._settings.url} answered {tries} times, but not with a chat completion ({fault}); correct "
            "endpoint.url, which usually ends in /v1"
        )

    def _send(self, body: dict[str, Any]) -> bytes:
        """The reply to a chat completion. The name of the length limit that the server takes is remembered."""
        from openai import BadRequestError

        def send(length_name: str) -> bytes:
            named = {length_name if name == "max_tokens" else name: value for name, value in body.items()}
            reply = self._client.chat.completions.with_raw_response.create(**named, extra_body=self._extra)
            return bytes(reply.http_response.content)

        length_name = self._length_name
        try:
            return send(length_name)
        except BadRequestError as error:
            if length_name == "max_completion_tokens" or "max_completion_tokens" not in _message(error):
                raise
        self._length_name = "max_completion_tokens"
        return send(self._length_name)


def open_client(
    settings: EndpointSection, max_retries: int, before_request: Callable[[object], None] | None = None
) -> "OpenAI":
    """A client that sends the key of `api_key_env`, but not the key, organization or project that are set for OpenAI.

    Headers that the user set for every server (OPENAI_CUSTOM_HEADERS) are sent. before_request is called with every
    request that is about to be sent, and may raise.

    Errors: ModelError where that variable cannot be a key.
    """
    import openai

    key = os.environ.get(settings.api_key_env, "").strip()
    if not key.isascii() or not key.isprintable():
        raise ModelError(
            f"{settings.api_key_env} has characters that a header cannot carry, expected printable ASCII; set it to "
            "the key of the endpoint"
        )
    # a proxy from the environment cannot reach this machine's loopback
    transport = openai.DefaultHttpxClient(
        follow_redirects=False,
        trust_env=urlsplit(settings.url).hostname not in LOOPBACK,
        event_hooks={"request": [before_request] if before_request else []},
    )
    client = openai.OpenAI(
        base_url=settings.url,
        api_key=key or "none",  # the client requires one; a server without keys ignores it
        max_retries=max_retries,
        timeout=openai.Timeout(settings.timeout, connect=min(settings.timeout, CONNECT_SECONDS)),
        http_client=transport,
    )
    client.organization = client.project = None  # OPENAI_ORG_ID and OPENAI_PROJECT_ID are for OpenAI alone
    return client


def served_revision(model: str, revision: str | None, settings: EndpointSection) -> str:
    """The identity (see the module docstring) of what is served as `model`.

    Errors: ModelError where the endpoint cannot be reached or does not serve the model.
    """
    if revision is not None:
        return f"endpoint: {revision}"
    from openai import APIError

    tries = 2  # nothing is lost yet, so a wrong address should be reported soon
    try:
        with open_client(settings, tries - 1) as client:
            content = client.models.with_raw_response.list().http_response.content
        served = {item.id: item for item in _Models.model_validate_json(content).data}
    except APIError as error:
        raise ModelError(explain(error, model, settings, tries)) from None
    except ValidationError as error:
        raise ModelError(
            f"{settings.url}/models is not a list of models ({_fault(error)}); correct endpoint.url, or set the "
            f"revision of {model} if the server has no such list"
        ) from None
    if model not in served:
        known = ", ".join(sorted(served)[:10]) or "none"
        raise ModelError(f"{settings.url} does not serve {model!r}, only: {known}; set model to one of them")
    return f"endpoint: root {served[model].root}, max_model_len {served[model].max_model_len}"


def read_refusal(error: "APIError") -> str | None:
    """The finish_reason where the server rejects a request for its content; None for any other error."""
    if getattr(error, "status_code", None) not in (400, 413, 422):
        return None
    message = f"{error.code} {error.type} {_message(error)}"
    if _TOO_LONG.search(message):
        return PROMPT_TOO_LONG
    return CONTENT_FILTER if _FILTERED.search(message) else None


def explain(error: "APIError", model: str, settings: EndpointSection, tries: int) -> str:
    """One line: what the endpoint did in the last try, and what to do about it; `tries`: their number."""
    import openai

    url, key_name = settings.url, settings.api_key_env
    status = getattr(error, "status_code", None)
    reason = _reason(error, os.environ.get(key_name, "").strip())
    if isinstance(error, openai.APITimeoutError):
        return (
            f"{url} did not answer within {settings.timeout:g} seconds, in {tries} tries; raise endpoint.timeout, or "
            "lower endpoint.concurrency"
        )
    if isinstance(error, openai.APIConnectionError):
        return f"{url} cannot be reached ({reason}); start the server, or correct endpoint.url"
    if status in (401, 403):
        problem = "rejects the key in" if os.environ.get(key_name) else "requires a key, but none is set in"
        return f"{url} {problem} the environment variable {key_name} (HTTP {status}); set it to a valid key"
    if status == 404:
        return (
            f"{url} has no model {model!r}, or no chat completions (HTTP 404: {reason}); correct model or endpoint.url"
        )
    if status == 429 or (status is not None and status >= 500):
        return (
            f"{url} failed {tries} times (HTTP {status}: {reason}); see the server's log, or lower "
            "endpoint.concurrency, and start again: finished work is kept"
        )
    if status in (400, 422) and "logprobs" in reason:
        return (
            f"{url} rejects the request for log-probabilities, from which verdicts are read (HTTP {status}: {reason}); "
            f"set endpoint.top_logprobs (now {settings.top_logprobs}) to a number that it allows, or use another "
            "endpoint"
        )
    if status in (400, 422) and re.search("response_format|json_schema|guided|grammar", reason):
        return (
            f"{url} rejects the JSON schema that claims are written in (HTTP {status}: {reason}); use a server that "
            "supports response_format of type json_schema, as vLLM does, or set splitter to another model"
        )
    if status in (400, 422) and "chat_template_kwargs" in reason:
        return (
            f"{url} rejects chat_template_kwargs (HTTP {status}: {reason}); remove them from the model's section, and "
            "set them where the model is served"
        )
    if status is not None and status < 400:
        return (
            f"{url} redirects to another address (HTTP {status}), which is not followed; set endpoint.url to that "
            "address"
        )
    return (
        f"{url} rejects a request (HTTP {status}: {reason}); correct the setting that it names, or use another endpoint"
    )


def _reason(error: "APIError", key: str) -> str:
    """The reason that the server or the network gave, in one short line without the key."""
    text = _message(error)
    text = " ".join((text.replace(key, "***") if key else text).split())
    return text if len(text) <= 200 else f"{text[:200]}..."


def _message(error: "APIError") -> str:
    body = error.body.get("message", error.body) if isinstance(error.body, dict) else error.body
    return str(body or error.__cause__ or error.message)


def _fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the reply'}: {first['msg']}"
