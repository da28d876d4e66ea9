"""Stock llama.cpp with mmproj, asked over HTTP as any program would: the picture as it is, cut by llama.cpp itself."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.check.distance import Comparison, comparable_tokens, listed_divergence
from edge.check.measure import Answer
from edge.check.reference import Reference, load_reference
from edge.memory import peak_memory
from edge.serve import serving
from edge.settings import Settings
from rlaif.inference.chat import break_brackets, data_url
from rlaif.progress import progress_bar

if TYPE_CHECKING:
    from openai import OpenAI

MOST_LISTED = 2048  # next tokens that are asked for; the embedded models have fewer


@dataclass(frozen=True)
class StockAnswer(Answer):
    """same_slices: its prompt has as many tokens as the policy's, hence as many slices."""

    same_slices: bool


def ask_pictures(
    language: Path,
    mmproj: Path,
    settings: Settings,
    references: Sequence[Path],
    asked: Sequence[tuple[bytes, str]],
    max_tokens: int,
) -> tuple[list[StockAnswer], int]:
    """The server's answers to pictures (encoded files) with instructions, and its peak memory in bytes.

    Errors: as `serving`.
    """
    from openai import OpenAI

    with ExitStack() as stack:
        url, pid = stack.enter_context(serving(language, mmproj, settings, "check"))
        client = stack.enter_context(OpenAI(base_url=url, api_key="none", max_retries=0))
        bar = stack.enter_context(progress_bar("mmproj", "picture", len(asked), 0))
        answers = []
        for file, (image, text) in zip(references, asked, strict=True):
            answers.append(_ask(client, image, text, load_reference(file), max_tokens))
            bar.update()
        return answers, peak_memory(pid)


def _ask(client: "OpenAI", image: bytes, text: str, reference: Reference, max_tokens: int) -> StockAnswer:
    content: list[Any] = [
        {"type": "image_url", "image_url": {"url": data_url(image)}},
        {"type": "text", "text": break_brackets(text)},
    ]
    response = client.chat.completions.create(
        model="check",
        messages=[{"role": "user", "content": content}],
        temperature=0,
        max_tokens=max_tokens,
        logprobs=True,
        top_logprobs=min(MOST_LISTED, reference.logits.shape[1]),
        extra_body={"cache_prompt": False},
    ).model_dump()
    return read_response(response, reference)


def read_response(response: dict[str, Any], reference: Reference) -> StockAnswer:
    """A response of the server, compared with the policy's answer to the same picture."""
    (choice,) = response["choices"]
    steps = choice["logprobs"]["content"]
    ids = [step["id"] for step in steps]
    tokens = comparable_tokens(reference.ids, ids)
    kl = [
        listed_divergence(row, {entry["id"]: entry["logprob"] for entry in step["top_logprobs"]})
        for row, step in zip(reference.logits[:tokens], steps[:tokens], strict=True)
    ]
    text = choice["message"]["content"]
    timings = response["timings"]
    return StockAnswer(
        text=text,
        comparison=Comparison(text == reference.text, kl, None),
        tokens=timings["predicted_n"],
        seconds=timings["predicted_ms"] / 1000,
        same_slices=response["usage"]["prompt_tokens"] == len(reference.prompt.ids),
    )
