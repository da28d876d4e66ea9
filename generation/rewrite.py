"""Rewrite low-quality captions with a language model (MiniCPM-V, arXiv 2408.01800, section 4.1).

    python -m generation.rewrite --config configs/rewrite.yaml --run runs/rewrite

For each raw caption the rewriter writes a question about the picture and an answer, the new caption, as JSON that
follows `ANSWER_SCHEMA`. It gets the raw caption only, so it can correct language but not facts; `generation.quality`
filters the result. Reads a parquet table with an image and a caption column, and writes

    rewrites   one row per kept caption: caption_id (file and row), image, raw_caption, question, caption, fluency,
               repetition, invented, rewriter, rewriter_revision; `image` and `caption` make it a training table
    dropped    the other captions: a broken image, an empty raw caption, an unusable answer, or a failed quality rule

A stopped stage resumes from what is on disk.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generation.quality import Fault, find_fault, repetition, share_invented
from generation.sources import read_parquet
from generation.tables import Columns
from rlaif.command import run_stage
from rlaif.config import RewriteConfig
from rlaif.errors import ConfigError, InputError
from rlaif.inference.engine import PROMPT_TOO_LONG, Advance, Completion, Engine, OpenEngine, Request
from rlaif.inference.open import open_engine
from rlaif.inference.revision import pin_model
from rlaif.progress import progress_bar
from rlaif.sources.images import load_image
from rlaif.sources.picture import UnusableImageError
from rlaif.storage.files import files_digest, parquet_files
from rlaif.text import clean

if TYPE_CHECKING:
    from rlaif.storage.run import Run
    from rlaif.storage.writer import TableWriter

DEFAULT_PROMPT = Path(__file__).with_name("rewrite.txt")
PLACEHOLDER = "{caption}"
CAPTIONS_PER_CHUNK = 500  # captions per write: bounds memory, and the work that a kill loses
ANSWER_SCHEMA = {
    "type": "object",
    "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
    "required": ["question", "answer"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class RawCaption:
    """A caption of the source. caption_id: file and row. image: encoded, {bytes, path}."""

    caption_id: str
    image: dict[str, Any]
    text: str


@dataclass(frozen=True)
class Rewrite:
    """The rewriter's question and caption. fluency: mean log-probability of the caption's tokens."""

    question: str
    caption: str
    fluency: float


def rewrite(config: RewriteConfig, path: Path, open_engine: OpenEngine = open_engine) -> None:
    """Run the stage. Errors: RlaifError for anything that the user can fix."""
    from rlaif.storage.run import Run  # heavy imports are deferred so that `--help` stays fast
    from rlaif.storage.writer import TableWriter

    run = Run(path, config, "rewrite")
    prompt = read_prompt(config.rewrite.prompt)
    rewriter, revision = pin_model(config.rewriter)
    source = Path(config.captions.path)
    settings = {
        "seed": config.seed,
        "rewriter": {**config.rewriter.identity(), "revision": revision},
        "captions": {**config.captions.model_dump(), "files_digest": files_digest(source) if source.exists() else None},
        "rewrite": {**config.rewrite.model_dump(), "prompt": prompt},
        **config.engine.identity(),
    }
    if not run.begin(["rewrites"], settings, inputs=[]):
        return
    run.announce(
        f"rewrites the captions of {source} with {config.rewriter.model}, as question and answer",
        "keeps captions that are fluent and of suitable length, without repetition or invented content",
    )
    with TableWriter(run, "rewrites", key="caption_id") as writer:
        processed = writer.done | run.dropped().keys()
        total = count_captions(source, config.captions.limit)
        with progress_bar("captions", "caption", total, len(processed)) as bar:
            captions = raw_captions(run, processed, bar.update)
            if (first := next(captions, None)) is not None:
                with closing(open_engine(rewriter, config.engine, config.seed)) as engine:
                    rewrite_captions(run, engine, prompt, revision, chain([first], captions), writer, bar.update)
        if first is None and not processed:
            dropped = Counter(run.dropped().values())
            reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "it is empty"
            raise InputError(f"no usable caption in {source} ({reasons}); correct captions.path or its files")
    kept = writer.finish()
    following = f'make pretrain STAGE=1 SET="data=[{path / "rewrites.parquet"}]"'
    run.finish({"rewrites": kept}, following if kept else None)


def read_prompt(path: str | None) -> str:
    """The prompt of the rewriter, with its placeholder; None: generation/rewrite.txt. Errors: ConfigError."""
    file = Path(path) if path else DEFAULT_PROMPT
    if not file.is_file():
        raise ConfigError(f"{file} is missing; rewrite.prompt must name a text file that contains {PLACEHOLDER}")
    try:
        text = file.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text ({error.reason}); rewrite.prompt must name a text file") from error
    if PLACEHOLDER not in text:
        raise ConfigError(f"{file} lacks the placeholder {PLACEHOLDER}; add it where the raw caption belongs")
    return text


def count_captions(source: Path, limit: int | None) -> int | None:
    """Rows that will be read; None if a file is unreadable (`raw_captions` reports which)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: int = sum(pq.read_metadata(file).num_rows for file in parquet_files(source, "captions.path").values())
    except (pa.ArrowException, OSError):
        return None
    return rows if limit is None else min(rows, limit)


def raw_captions(run: "Run[RewriteConfig]", processed: Container[str], advance: Advance) -> Iterator[RawCaption]:
    """The captions of the source that are not yet processed; unusable ones are dropped with their reason, and counted
    by `advance`.
    """
    section = run.config.captions
    columns = Columns(section.image_column, section.caption_column, section="captions", text="caption")
    pictures = read_parquet(Path(section.path), columns)
    for picture in islice(pictures, section.limit):
        if picture.name in processed:
            continue
        (text,) = picture.instructions
        if isinstance(text, bytes):
            run.drop(picture.name, "broken_text", f"the raw caption is not valid UTF-8: {text[:80]!r}")
        elif not clean(text or ""):
            run.drop(picture.name, "empty_caption", "the raw caption is empty")
        elif text:
            try:
                image = load_image(picture)
            except UnusableImageError as error:
                run.drop(picture.name, error.reason, str(error))
            else:
                yield RawCaption(picture.name, {"bytes": image.content, "path": picture.path}, text)
                continue
        advance()


def rewrite_captions(
    run: "Run[RewriteConfig]",
    engine: Engine,
    prompt: str,
    revision: str,
    captions: Iterator[RawCaption],
    writer: "TableWriter",
    advance: Advance,
) -> None:
    """Rewrite every caption. Results that pass the quality rules are written, the others dropped with their reason."""
    config = run.config
    while chunk := list(islice(captions, CAPTIONS_PER_CHUNK)):
        requests = [rewrite_request(raw.text, prompt, config) for raw in chunk]
        answers = engine.generate(requests, advance)
        for raw, (completion,) in zip(chunk, answers, strict=True):
            result = read_answer(completion)
            if isinstance(result, Rewrite):
                result = find_fault(raw.text, result.caption, result.fluency, config.rewrite) or result
            if isinstance(result, Fault):
                run.drop(raw.caption_id, result.reason, result.detail)
            else:
                writer.write([rewrite_row(raw, result, config, revision)])
        writer.flush()


def rewrite_request(raw: str, prompt: str, config: RewriteConfig) -> Request:
    """The request for one caption. Markers and control characters are removed, as captions come from the web."""
    return Request(
        text=prompt.replace(PLACEHOLDER, clean(raw)),
        max_tokens=config.rewrite.max_tokens,
        json_schema=ANSWER_SCHEMA,
        token_logprobs=True,
    )


def read_answer(completion: Completion) -> Rewrite | Fault:
    """The question and the new caption, or a Fault for an unusable answer."""
    if completion.finish_reason == PROMPT_TOO_LONG:
        return Fault(PROMPT_TOO_LONG, "the raw caption does not fit the rewriter; see engine.max_model_len")
    if completion.finish_reason != "stop":
        return Fault("answer_truncated", f"{completion.num_tokens} tokens, finish_reason {completion.finish_reason}")
    try:
        answer = json.loads(completion.text, strict=False)
        question, caption = (" ".join(clean(answer[key]).split()) for key in ("question", "answer"))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        return Fault("answer_invalid", f"{type(error).__name__}: {error}; answer begins {completion.text[:80]!r}")
    if not question:
        return Fault("answer_invalid", "the question is empty")
    assert completion.tokens is not None, "the request has token_logprobs"
    return Rewrite(question, caption, fluency(completion.text, completion.tokens))


def fluency(text: str, tokens: Sequence[tuple[str, float]]) -> float:
    """Mean log-probability of the tokens of the new caption in an answer `text`; 0.0 where the caption is empty.

    tokens: (its part of the text, log-probability) of each token.
    """
    head = re.search(r'"answer"\s*:\s*"', text)
    assert head is not None, "the answer was read as JSON"
    start, end = head.end(), text.rindex('"')
    position, logprobs = 0, []
    for added, logprob in tokens:
        if position < end and position + len(added) > start:
            logprobs.append(logprob)
        position += len(added)
    return sum(logprobs) / len(logprobs) if start < end and logprobs else 0.0


def rewrite_row(raw: RawCaption, new: Rewrite, config: RewriteConfig, revision: str) -> dict[str, Any]:
    """A row of `rewrites`."""
    return {
        "caption_id": raw.caption_id,
        "image": raw.image,
        "raw_caption": raw.text,
        "question": new.question,
        "caption": new.caption,
        "fluency": new.fluency,
        "repetition": repetition(new.caption),
        "invented": share_invented(new.caption, raw.text, config.rewrite.max_edits_per_character),
        "rewriter": config.rewriter.model,
        "rewriter_revision": revision,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_stage(
        RewriteConfig, "generation.rewrite", "Rewrite low-quality captions with a language model.", rewrite, argv
    )


if __name__ == "__main__":
    sys.exit(main())
