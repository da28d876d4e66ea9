"""The one seam over inference: stages ask an Engine; `rlaif.inference.open` gives vLLM or an endpoint,
`tests.support.doubles` a double.

Why prompts of our own architecture are built from token ids: the policy must see in vLLM exactly the tokens that it is
trained on, and text of a user that looks like a special token (`<unk>`, `<image>`, `<|eot_id|>`, the image marker) must
stay text. vLLM's chat entry point, which serves every other architecture, tokenises the rendered template as one string
and cannot tell the two apart: there a space breaks such texts up before they go in
(`rlaif.text.break_special_tokens`; `rlaif.inference.endpoint` says what it does about them).
vLLM puts an image's placeholders where it first finds the tokenised marker; the image stands first, so it is ours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rlaif.config import EngineSection, ModelSection

PROMPT_TOO_LONG, IMAGE_REFUSED = "prompt_too_long", "image_refused"


REFUSALS = {
    PROMPT_TOO_LONG: "does not fit the model; see engine.max_model_len",
    IMAGE_REFUSED: "the model's own processor does not take an image of this shape",
}


@dataclass(frozen=True)
class Request:
    """One user turn, the image first, to be answered `n` times.

    image: encoded file bytes. seed: answer i is drawn with seed + i. json_schema: the answer is JSON of this schema.
    first_words: the probability, over the full vocabulary, that the answer's first token is any spelling of each of
    these words (a token that reads as the word when stripped and lower-cased; at most 128 spellings in all).
    token_logprobs: the log-probability of each token of the answer. One of the two can be asked for.
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
    """One answer. finish_reason: "stop", "length" (cut by max_tokens or the model's length), one of REFUSALS, or what
    else an endpoint gives, such as "content_filter".

    first_words: by word, the probabilities that `first_words` asked for; None also where there is no answer.
    tokens: where `token_logprobs` asked for them, (what it adds to the text, log-probability) of each token in order;
    an end token adds nothing.
    prompt_tokens: length of the prompt with its image; 0 where it did not fit.
    """

    text: str
    num_tokens: int
    finish_reason: str
    first_words: dict[str, float] | None = None
    tokens: tuple[tuple[str, float], ...] | None = None
    prompt_tokens: int = 0


Advance = Callable[[], object]


def do_nothing() -> None:
    """The `advance` of a caller that shows no progress."""


class Engine(Protocol):
    """What a stage may ask of a served model."""

    def generate(self, requests: Sequence[Request], advance: Advance = do_nothing) -> list[list[Completion]]:
        """Answer each request `n` times, in the order of the requests.

        advance: called once for each request as it is finished, such as the `update` of a progress bar.
        A request that the model cannot take gets one empty Completion whose finish_reason is one of REFUSALS.
        Requests with the same image should stand together: its encoding and its part of the KV cache are reused.
        Errors: ModelError where a word of `first_words` is known to be no token of the model, or the model fails.
        """

    def close(self) -> None:
        """Give back the memory; the engine cannot be used afterwards."""


OpenEngine = Callable[[ModelSection, EngineSection, int], Engine]  # with the seed


def is_spelling_of(token: str, word: str) -> bool:
    """Whether a token is a spelling of a word: "yes", "Yes", " YES"."""
    return token.strip().lower() == word.lower()


def text_by_token(text: str, tokens: Sequence[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """(what it adds to `text`, log-probability) of each token; what goes beyond the text (an end token) is cut."""
    left = len(text)
    added = []
    for token, logprob in tokens:
        added.append((token[:left], logprob))
        left -= len(added[-1][0])
    return tuple(added)
