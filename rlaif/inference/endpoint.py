"""The other engine: a model behind an OpenAI-compatible chat API, `endpoint.url` beside `model` in the configuration.

- **p(word)** is summed over the `top_logprobs` most probable first tokens that read as the word. What lies beyond is
  not seen: a spelling there counts as 0 and goes to p_other, so p(yes) and p(no) can only come out too low. Whether the
  model has the word as one token cannot be asked. An API without log-probabilities is refused, never guessed at.
- **Text and pictures**: see `rlaif.inference.chat`, which writes the requests and reads the replies.
- **Trouble**: the openai client asks again after a time-out, a lost connection, 408, 409, 429 and 5xx, with waits that
  double (cut by chance; Retry-After is obeyed); we do so after a reply that is no chat completion. Then, and at once
  where asking again cannot help, a ModelError says what was got. Redirects are not followed.
- **The key** is read from the environment, goes into one header and nowhere else; what a server says is told without
  it.
- **Identity**: neither address nor speed is part of it, since the same model may be served elsewhere tomorrow. It is
  `revision` where that is set, taken at its word as for a hub model; else what the server's list of models says of the
  name: its root and its max_model_len. A server that swaps weights behind both cannot be noticed.
"""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from rlaif.config import EndpointSection
from rlaif.errors import ModelError
from rlaif.inference.chat import CONTENT_FILTER, chat_request, read_reply
from rlaif.inference.engine import PROMPT_TOO_LONG, Advance, Completion, Request, do_nothing

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
    """What we read of a list of models."""

    data: list[_Model]


class EndpointEngine:
    """Implements `rlaif.inference.engine.Engine`; `model` is its name at the endpoint."""

    def __init__(self, model: str, settings: EndpointSection) -> None:
        self._model = model
        self._settings = settings
        self._client = open_client(settings, settings.max_retries)

    def generate(self, requests: Sequence[Request], advance: Advance = do_nothing) -> list[list[Completion]]:
        """See Engine. Answer i of a request is asked for on its own, with seed + i. Errors: ModelError."""
        unanswered = [request.n for request in requests]
        with ThreadPoolExecutor(self._settings.concurrency) as pool:
            futures = {
                pool.submit(self._answer, request, index): number
                for number, request in enumerate(requests)
                for index in range(request.n)
            }
            try:
                for future in as_completed(futures):
                    future.result()
                    unanswered[futures[future]] -= 1
                    if not unanswered[futures[future]]:
                        advance()
            except BaseException:  # Ctrl-C too: what waits is not begun, what is under way is not tried again
                pool.shutdown(wait=False, cancel_futures=True)
                self.close()
                raise
        answers = iter(futures)
        results = [[next(answers).result() for _ in range(request.n)] for request in requests]
        return [row[:1] if row[0].finish_reason == PROMPT_TOO_LONG else row for row in results]

    def close(self) -> None:
        """See Engine."""
        self._client.close()

    def _answer(self, request: Request, index: int) -> Completion:
        from openai import APIError

        body = chat_request(request, index, self._model, self._settings.top_logprobs)
        tries = self._settings.max_retries + 1
        fault = ""
        for _ in range(tries):
            try:
                reply = self._client.chat.completions.with_raw_response.create(**body)
                return read_reply(reply.http_response.content, request, self._model)
            except APIError as error:
                if refusal := read_refusal(error):
                    return Completion("", 0, refusal)
                raise ModelError(explain(error, self._model, self._settings, tries)) from None
            except ValidationError as error:
                fault = _fault(error)
        raise ModelError(
            f"{self._settings.url} answered {tries} times, but with no chat completion ({fault}); correct "
            "endpoint.url, which ends in /v1 as a rule"
        )


def open_client(settings: EndpointSection, max_retries: int) -> "OpenAI":
    """A client that sends the key of `api_key_env`, and not the key, organisation or project that are set for OpenAI.

    Headers that the user set for every server (OPENAI_CUSTOM_HEADERS) are sent.

    Errors: ModelError where that variable holds what cannot be a key.
    """
    import openai

    key = os.environ.get(settings.api_key_env, "").strip()
    if not key.isascii() or not key.isprintable():
        raise ModelError(f"{settings.api_key_env} holds no key: it has characters that no header can carry")
    # a proxy of the environment is for what is outside; it cannot reach this machine's loopback
    transport = openai.DefaultHttpxClient(
        follow_redirects=False, trust_env=urlsplit(settings.url).hostname not in LOOPBACK
    )
    client = openai.OpenAI(
        base_url=settings.url,
        api_key=key or "none",  # the client wants one; a server that needs no key does not look
        max_retries=max_retries,
        timeout=openai.Timeout(settings.timeout, connect=min(settings.timeout, CONNECT_SECONDS)),
        http_client=transport,
    )
    client.organization = client.project = None  # OPENAI_ORG_ID and OPENAI_PROJECT_ID are for OpenAI alone
    return client


def served_revision(model: str, revision: str | None, settings: EndpointSection) -> str:
    """What is served under the name `model`: the identity that the top of this file describes.

    Errors: ModelError where the endpoint cannot be asked, or does not serve the model.
    """
    if revision is not None:
        return f"endpoint: {revision}"
    from openai import APIError

    tries = 2  # nothing is lost yet: a wrong address should show soon
    try:
        with open_client(settings, tries - 1) as client:
            content = client.models.with_raw_response.list().http_response.content
        served = {item.id: item for item in _Models.model_validate_json(content).data}
    except APIError as error:
        raise ModelError(explain(error, model, settings, tries)) from None
    except ValidationError as error:
        raise ModelError(
            f"{settings.url}/models is no list of models ({_fault(error)}); correct endpoint.url, or, if there is no "
            f"such list, set the revision of {model} yourself"
        ) from None
    if model not in served:
        known = ", ".join(sorted(served)[:10]) or "none"
        raise ModelError(f"{settings.url} serves no model {model!r}; it serves: {known}; set model to one of them")
    found = served[model]
    return f"endpoint: root {found.root}, max_model_len {found.max_model_len}"


def read_refusal(error: "APIError") -> str | None:
    """The finish_reason of a request that the server refuses for what is in it; None for any other trouble."""
    if getattr(error, "status_code", None) not in (400, 413, 422):
        return None
    said = f"{error.code} {error.type} {_message(error)}"
    if _TOO_LONG.search(said):
        return PROMPT_TOO_LONG
    return CONTENT_FILTER if _FILTERED.search(said) else None


def explain(error: "APIError", model: str, settings: EndpointSection, tries: int) -> str:
    """One line: what the endpoint did the last of so many times, and what to do about it."""
    import openai

    url, key_name = settings.url, settings.api_key_env
    status = getattr(error, "status_code", None)
    said = _said(error, os.environ.get(key_name, "").strip())
    if isinstance(error, openai.APITimeoutError):
        return (
            f"{url} gave no answer within {settings.timeout:g} seconds, in {tries} tries; raise endpoint.timeout, or "
            "lower endpoint.concurrency"
        )
    if isinstance(error, openai.APIConnectionError):
        return f"{url} cannot be reached ({said}); start the server, or correct endpoint.url"
    if status in (401, 403):
        which = "refuses the key in" if os.environ.get(key_name) else "wants a key, and there is none in"
        return f"{url} {which} the environment variable {key_name} (HTTP {status}); put a key there that it takes"
    if status == 404:
        return f"{url} has no model {model!r}, or no chat completions (HTTP 404: {said}); correct model or endpoint.url"
    if status == 429 or (status is not None and status >= 500):
        return (
            f"{url} failed {tries} times (HTTP {status}: {said}); see the server's log, or lower endpoint.concurrency, "
            "and start again: what is done is kept"
        )
    if status is not None and status < 400:
        return f"{url} leads elsewhere (HTTP {status}), which is not followed; set endpoint.url to the last address"
    return f"{url} refuses a request (HTTP {status}: {said}); correct what it names, or use another endpoint"


def _said(error: "APIError", key: str) -> str:
    """What the server or the network gave as its reason, in one short line without the key."""
    text = _message(error)
    text = " ".join((text.replace(key, "***") if key else text).split())
    return text if len(text) <= 200 else f"{text[:200]}..."


def _message(error: "APIError") -> str:
    body = error.body.get("message", error.body) if isinstance(error.body, dict) else error.body
    return str(body or error.__cause__ or error.message)


def _fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the reply'}: {first['msg']}"
