"""Chat completions of the OpenAI API: the part of the format that we write and read. Pure functions.

The server tokenizes the rendered conversation as one string, so a text that looks like a special token would become
one. The server's tokens are not known here. Nearly all are written as `<...>` or `[...]`, so `break_brackets` inserts a
space after each such bracket; other text is sent unchanged.

Images are sent inside the request, never as a URL to fetch: a file as of `model.images.plain_file`; a PNG where
`max_pixels` scales an image down.
"""

import base64
import functools
import io
import math
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from rlaif.errors import ModelError
from rlaif.inference.engine import Completion, Request, is_spelling_of, text_by_token
from rlaif.inference.image_size import scale_down

CONTENT_FILTER = "content_filter"

# the opening bracket of <|eot_id|>, </s>, <image>, [INST], and of the same with U+FF5C for the bar
_OPENING = re.compile(r"<(?=[|\uff5c/\w])|\[(?=/?[A-Za-z_]\w*\])")


class _TopToken(BaseModel):
    token: str
    logprob: float


class _Token(_TopToken):
    top_logprobs: list[_TopToken] | None = None


class _Logprobs(BaseModel):
    content: list[_Token] | None = None


class _Part(BaseModel):
    text: str | None = None  # parts of other kinds (thoughts, a refusal) have other fields
    refusal: str | None = None


class _Message(BaseModel):
    content: str | list[_Part] | None = None
    refusal: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content)
        return self.content or ""

    @property
    def refused(self) -> bool:
        parts = self.content if isinstance(self.content, list) else []
        return not self.text and bool(self.refusal or any(part.refusal for part in parts))


class _Choice(BaseModel):
    message: _Message
    finish_reason: str
    logprobs: _Logprobs | None = None


class _Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int


class _Reply(BaseModel):
    """The fields of a chat completion that we read."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


def chat_request(
    request: Request, index: int, model: str, top_logprobs: int, max_pixels: int | None = None
) -> dict[str, Any]:
    """The body of one chat completion: answer `index` of a request."""
    content: list[dict[str, Any]] = [{"type": "text", "text": break_brackets(request.text)}]
    if request.image is not None:
        content.insert(0, {"type": "image_url", "image_url": {"url": data_url(request.image, max_pixels)}})
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_tokens,
    }
    if request.seed is not None:
        body["seed"] = request.seed + index
    if request.json_schema is not None:
        schema = {"name": "answer", "schema": request.json_schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if request.first_words or request.token_logprobs:
        body["logprobs"] = True
    if request.first_words:
        body["top_logprobs"] = top_logprobs
    return body


def break_brackets(text: str) -> str:
    """Text in which nothing looks like a special token (see the module docstring) and that JSON can encode."""
    text = text.encode("utf-8", "replace").decode()  # a lone surrogate becomes "?"
    return _OPENING.sub(lambda match: match.group() + " ", text)


@functools.lru_cache(maxsize=64)  # questions about one image are consecutive
def data_url(data: bytes, max_pixels: int | None = None) -> str:
    """An encoded image, with at most `max_pixels` pixels, as a data URL. Errors: as `model.images.open_image`."""
    from model.images import open_image, plain_file

    content, kind = plain_file(data)
    if max_pixels is not None:
        picture = open_image(content)
        smaller = scale_down(picture, max_pixels)
        if smaller is not picture:
            buffer = io.BytesIO()
            smaller.save(buffer, "PNG")
            content, kind = buffer.getvalue(), "PNG"
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content).decode()}"


def read_reply(content: bytes, request: Request, model: str) -> Completion:
    """Parse a chat completion.

    Errors: pydantic's ValidationError where it is not one; ModelError where requested log-probabilities are missing.
    """
    reply = _Reply.model_validate_json(content)
    choice = reply.choices[0]
    text, finish_reason = choice.message.text, CONTENT_FILTER if choice.message.refused else choice.finish_reason
    tokens = (choice.logprobs.content if choice.logprobs is not None else None) or []
    first_words = None
    if request.first_words and finish_reason != CONTENT_FILTER:
        first_words = word_probabilities(tokens[0].top_logprobs if tokens else None, request.first_words, model)
    token_logprobs = None
    if request.token_logprobs:
        if text and not tokens:
            raise _no_logprobs(model)
        token_logprobs = text_by_token(text, [(token.token, token.logprob) for token in tokens])
    usage = reply.usage
    return Completion(
        text,
        usage.completion_tokens if usage else len(tokens),
        finish_reason,
        first_words,
        token_logprobs,
        prompt_tokens=usage.prompt_tokens if usage else 0,
        counted=usage is not None,
    )


def word_probabilities(top: Sequence[_TopToken] | None, words: Sequence[str], model: str) -> dict[str, float]:
    """The summed probability of each word's spellings among the most probable first tokens. Errors: ModelError."""
    if not top:
        raise _no_logprobs(model)
    if math.fsum(math.exp(min(item.logprob, 1.0)) for item in top) > 1.01:  # NaN is handled with the verdict
        raise ModelError(
            f"the endpoint's first-token probabilities for {model!r} add up to more than 1, expected at most 1; use "
            "another endpoint"
        )
    return {word: sum(math.exp(item.logprob) for item in top if is_spelling_of(item.token, word)) for word in words}


def _no_logprobs(model: str) -> ModelError:
    return ModelError(
        f"the endpoint returned no log-probabilities for {model!r}, which verdicts are read from; use an endpoint that "
        "supports `logprobs` and `top_logprobs`, as vLLM does"
    )
