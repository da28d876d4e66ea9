"""Claims verified per second: our labeler against the RLAIF-V code, and the effect of vLLM's prefix cache.

    make bench NAME=claims_small         # or claims_large, prefix_cache

Each image has 60 questions, as from 10 responses of 6 claims. The reference (github RLHF-V/RLAIF-V) does one Hugging
Face forward pass per claim, and decodes, slices and encodes the image each time. Ours is `feedback.verify`: the
questions of an image are consecutive, and its prefix is computed once. Without the cache they are also shuffled,
because the cache only helps consecutive requests about the same image. Loading and a first answer are not timed. All
implementations must agree in their verdicts, and in p_yes within 2e-3.
"""

import io
import random
import time
from contextlib import closing, redirect_stderr, redirect_stdout
from itertools import product
from typing import Any

from bench.isolated import run_isolated
from bench.models import Load, model_folder, pictures
from bench.result import Result, compare_rates

TOLERANCE = 2e-3
KINDS = product(
    ("small ", "large ", ""), ("red", "blue", "green", "yellow", "purple"), ("car", "bird", "book", "chair")
)
QUESTIONS = [f"Is there a {size}{color} {thing}?" for size, color, thing in KINDS]  # 60


SMALL, LARGE = Load(), Load(images=1, width=768, layers=12, side=800)
Probabilities = dict[tuple[str, str], float]  # image, question -> p_yes / (p_yes + p_no)


def questions_of(load: Load) -> list[tuple[str, str]]:
    return [(image, f"{question} Answer yes or no.") for image in pictures(load) for question in QUESTIONS]


def by_vllm(model: str, load: Load, cached: bool) -> tuple[float, Probabilities]:
    """Claims per second, and p(yes). cached: with the prefix cache and consecutive questions of an image."""
    from feedback.verify import read_verdict, verify
    from rlaif.config import EngineSection, ModelSection
    from rlaif.inference.engine import Request
    from rlaif.inference.vllm_engine import VllmEngine

    section = ModelSection(model=model, dtype="float32")
    images, questions = pictures(load), questions_of(load)
    random.Random(0).shuffle(questions)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        engine = VllmEngine(section, EngineSection(prefix_caching=cached, max_model_len=2048), 0)
        with closing(engine):
            requests = [
                Request(text, images[image], max_tokens=1, first_words=("yes", "no")) for image, text in questions
            ]
            engine.generate([Request("Is it?", None, max_tokens=1, first_words=("yes", "no"))])
            start = time.perf_counter()
            if cached:
                verdicts = engine.run(verify(engine, questions, images))
            else:
                answers = engine.generate(requests)
                verdicts = {
                    key: read_verdict(samples[0].first_words or {})
                    for key, samples in zip(questions, answers, strict=True)
                }
            seconds = time.perf_counter() - start
    return len(questions) / seconds, {key: share(verdict.p_yes, verdict.p_no) for key, verdict in verdicts.items()}


def by_forward_passes(model: str, load: Load) -> tuple[float, Probabilities]:
    """The same with one forward pass per claim, as in the RLAIF-V code."""
    import torch

    from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor
    from model.images import open_image
    from rlaif.inference.engine import is_spelling_of

    processor = MiniCPMVProcessor.from_pretrained(model)
    net = MiniCPMVForConditionalGeneration.from_pretrained(model, dtype=torch.float32).eval()
    vocabulary = list(range(len(processor.tokenizer)))
    texts = processor.tokenizer.batch_decode([[token] for token in vocabulary])
    yes, no = ([token for token in vocabulary if is_spelling_of(texts[token], word)] for word in ("yes", "no"))
    images, questions = pictures(load), questions_of(load)

    @torch.no_grad()
    def p_yes_of(image: str, text: str) -> float:
        picture = open_image(images[image])
        parts: list[dict[str, Any]] = [{"type": "image"}, {"type": "text", "text": text}]
        prompt = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
        batch = processor([[picture]], [prompt])
        first = net(**batch, logits_to_keep=1).logits[0, -1].softmax(-1)
        return share(float(first[yes].sum()), float(first[no].sum()))

    p_yes_of(*questions[0])
    start = time.perf_counter()
    probabilities = {(image, text): p_yes_of(image, text) for image, text in questions}
    return len(questions) / (time.perf_counter() - start), probabilities


def share(p_yes: float, p_no: float) -> float:
    return p_yes / (p_yes + p_no)


def compare(load: Load, peer: str, repeats: int) -> Result:
    """Our rate against a peer's, "forward passes" or "no cache". Errors: SystemExit if they do not agree."""
    ours, theirs = [], []
    with model_folder(load, "assets/labeler") as model:
        for _ in range(repeats):
            rate, probabilities = run_isolated(by_vllm, model, load, True)
            other = (
                run_isolated(by_vllm, model, load, False)
                if peer == "no cache"
                else run_isolated(by_forward_passes, model, load)
            )
            print(f"{len(probabilities)} claims: ours {rate:.1f}, {peer} {other[0]:.1f} per second", flush=True)
            agree(probabilities, other[1])
            ours.append(rate)
            theirs.append(other[0])
    return compare_rates(ours, theirs, "claims/s")


def agree(ours: Probabilities, theirs: Probabilities) -> None:
    """Errors: SystemExit if p_yes or a verdict differs."""
    assert ours.keys() == theirs.keys()
    difference = max(abs(ours[key] - theirs[key]) for key in ours)
    changed = sum((ours[key] > 0.5) != (theirs[key] > 0.5) for key in ours if abs(theirs[key] - 0.5) > TOLERANCE)
    if difference > TOLERANCE or changed:
        raise SystemExit(f"p_yes differs by {difference:.2g} (allowed: {TOLERANCE}), {changed} verdicts differ")
