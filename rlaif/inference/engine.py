"""The one interface to inference: stages call an Engine, which is vLLM (`rlaif.inference.vllm_engine`), an endpoint
(`rlaif.inference.endpoint`) or, in tests, `tests.support.doubles.ScriptedEngine`.

Prompts of our own architecture are built from token ids (`TurnEncoder`), for two reasons. The policy must get exactly
the tokens in vLLM that it is trained on. And a user's text that looks like a special token (`<unk>`, `<image>`,
`<|eot_id|>`, the image marker) must stay text. vLLM's chat entry point, which serves every other architecture,
tokenizes the rendered template as one string and cannot tell the two apart, so such texts are broken up by a space
before they are sent (`rlaif.text.break_special_tokens`, `rlaif.inference.chat.break_brackets`).
vLLM inserts an image's placeholders at the first occurrence of the tokenized marker. The image comes first in a turn,
so that this is the real marker.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from rlaif.config import EngineSection, ModelSection
from rlaif.inference.turns import Steps

# the end of a block of thoughts; some templates write its beginning, so that the answer has none
_THOUGHTS = re.compile(r"\A(?!\s*[\[{`]).*?</think>", re.DOTALL)
_FENCE = re.compile(r"\A(?:[^{}\[\]]*\n)?\s*```(?:json)?\s*(?P<json>[{\[].*[}\]])\s*```", re.DOTALL | re.IGNORECASE)

PROMPT_TOO_LONG, IMAGE_REFUSED = "prompt_too_long", "image_refused"
REFUSALS = {
    PROMPT_TOO_LONG: "does not fit the model with its image; see engine.max_model_len and, for a labeler, max_pixels",
    IMAGE_REFUSED: "the model's own processor does not take an image of this shape",
}


@dataclass(frozen=True)
class Request:
    """One user turn, the image first, to be answered `n` times.

    image: encoded file bytes. seed: answer i is sampled with seed + i. json_schema: the answer is JSON of this schema.
    first_words: return the probability, over the full vocabulary, that the first token of the answer is a spelling of
    each of these words (see `is_spelling_of`; at most 128 spellings in all).
    token_logprobs: return the log-probability of each token of the answer. Only one of the two can be set.
    """

    text: str
    image: bytes | None = None
    n: int = 1
    seed: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512
    json_schema: dict[str, Any] | None = None
    first_words: tuple[str, ...] = ()
    token_logprobs: bool = False


@dataclass(frozen=True)
class Completion:
    """One answer. finish_reason: "stop", "length" (cut by max_tokens or the model's length), one of REFUSALS, or
    another reason of an endpoint, such as "content_filter".

    first_words: the probability of each word of `Request.first_words`; None also where there is no answer.
    tokens: with `Request.token_logprobs`, (text that it adds, log-probability) of each token in order; an end token
    adds nothing.
    prompt_tokens: length of the prompt with its image; 0 where it did not fit.
    counted: whether the tokens were counted. False where an endpoint does not report them: prompt_tokens is 0 then, and
    num_tokens the number of log-probabilities, if there are any.
    """

    text: str
    num_tokens: int
    finish_reason: str
    first_words: dict[str, float] | None = None
    tokens: tuple[tuple[str, float], ...] | None = None
    prompt_tokens: int = 0
    counted: bool = True


Advance = Callable[[], object]
Value = TypeVar("Value")


def do_nothing() -> None:
    """The `advance` of a caller that shows no progress."""


class Engine(Protocol):
    """A served model, as the stages use it. Implementations inherit `generate`, `run` and `check`."""

    steps: Steps | None = None
    """How full its steps were; None where they are not known, as at an endpoint."""

    async def answer(self, request: Request) -> list[Completion]:
        """Answer one request `n` times.

        Whoever makes many requests makes them at once (`asyncio.gather`): the engine takes as many as it has room for,
        in the order of `rlaif.inference.turns`. Requests with the same image should be made one after the other: its
        encoding and its part of the KV cache are reused.
        A request that the model cannot take gets one empty Completion whose finish_reason is one of REFUSALS.
        Errors: ModelError where a word of `first_words` is known not to be a token of the model, or the model fails.
        """

    async def check(self) -> None:
        """Call it before the first answers are written. Errors: ModelError where they show that the model cannot do
        its work (`rlaif.inference.first_answers`).
        """
        return None

    def close(self) -> None:
        """Free the memory; the engine cannot be used afterwards."""

    def run(self, work: Coroutine[Any, Any, Value]) -> Value:
        """The result of a coroutine that makes requests, for a caller that is not one. Errors: as of `check` too."""

        async def checked() -> Value:
            value = await work
            await self.check()
            return value

        return asyncio.run(checked())

    def generate(self, requests: Sequence[Request], advance: Advance = do_nothing) -> list[list[Completion]]:
        """The answers to one batch of requests, in their order.

        advance: called once for each request as it is finished, such as the `update` of a progress bar.
        """

        async def answer(request: Request) -> list[Completion]:
            completions = await self.answer(request)
            advance()
            return completions

        async def answer_all() -> list[list[Completion]]:
            return await asyncio.gather(*map(answer, requests))

        return self.run(answer_all())


OpenEngine = Callable[[ModelSection, EngineSection, int], Engine]  # with the seed


class TurnEncoder(Protocol):
    """Encodes a user turn so that its text never becomes a special token; `model.processing` implements it."""

    end_of_turn: int
    """Id of the token that ends an answer."""

    def encode_turn(self, text: str, has_image: bool) -> list[int]:
        """Token ids of a user turn, image marker first, up to where the answer begins."""


def is_spelling_of(token: str, word: str) -> bool:
    """Whether a token equals a word but for case and surrounding space: "yes", "Yes", " YES"."""
    return token.strip().lower() == word.lower()


def json_text(answer: str) -> str:
    """The JSON of an answer: without a closed block of thoughts before it, and out of a fence of Markdown.

    A model that is held to a schema writes JSON only; an endpoint may not hold it to one. Other text is unchanged.
    """
    text = _THOUGHTS.sub("", answer).strip()
    match = _FENCE.search(text)
    return match["json"] if match else text


def text_by_token(text: str, tokens: Sequence[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """(text that it adds to `text`, log-probability) of each token; tokens beyond the text (an end token) add ""."""
    left = len(text)
    added = []
    for token, logprob in tokens:
        added.append((token[:left], logprob))
        left -= len(added[-1][0])
    return tuple(added)
