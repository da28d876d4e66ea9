"""Claims judged a second: our labeler against the reference's way, and what vLLM's prefix cache is worth.

    make bench NAME=claims_small         # or claims_large, prefix_cache

An image with its slices has 60 questions, as 10 responses of 6 claims give. The reference's way (github RLHF-V/RLAIF-V)
is one Hugging Face forward pass a claim, the image opened, cut and encoded each time. Ours is `feedback.verify`:
questions of an image together, its prefix computed once. Without the cache they are shuffled too, as images that do not
stand together give it nothing to do. Loading and a first answer do not count. All ways must come to the same verdicts,
and to the same p_yes within 2e-3.
"""

import io
import random
import time
from contextlib import closing, redirect_stderr, redirect_stdout
from itertools import product
from typing import Any

from bench.alone import alone
from bench.models import Load, model_of, pictures
from bench.result import Result, compared

TOLERANCE = 2e-3
KINDS = product(
    ("small ", "large ", ""), ("red", "blue", "green", "yellow", "purple"), ("circle", "square", "star", "triangle")
)
QUESTIONS = [f"Is there a {size}{color} {shape}?" for size, color, shape in KINDS]  # 60


SMALL, LARGE = Load(), Load(images=1, width=768, layers=12, side=800)
Probabilities = dict[tuple[str, str], float]  # image, question -> p_yes / (p_yes + p_no)


def asked(load: Load) -> list[tuple[str, str]]:
    return [(image, f"{question} Answer yes or no.") for image in pictures(load) for question in QUESTIONS]


def by_vllm(model: str, load: Load, cached: bool) -> tuple[float, Probabilities]:
    """Claims a second, and what was found; with the prefix cache and images together, or without both."""
    from feedback.verify import read_verdict, verify
    from rlaif.config import EngineSection, ModelSection
    from rlaif.inference.engine import Request
    from rlaif.inference.vllm_engine import VllmEngine

    section = ModelSection(model=model, dtype="float32")
    images, questions = pictures(load), asked(load)
    random.Random(0).shuffle(questions)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        engine = VllmEngine(section, EngineSection(prefix_caching=cached, max_model_len=2048), 0)
        with closing(engine):
            requests = [
                Request(text, images[image], max_tokens=1, first_words=("yes", "no")) for image, text in questions
            ]
            engine.generate([Request("Is it?", None, max_tokens=1, first_words=("yes", "no"))])
            began = time.perf_counter()
            if cached:
                found = verify(engine, questions, images)
            else:
                answers = engine.generate(requests)
                found = {
                    key: read_verdict(one[0].first_words or {}) for key, one in zip(questions, answers, strict=True)
                }
            seconds = time.perf_counter() - began
    return len(questions) / seconds, {key: share(verdict.p_yes, verdict.p_no) for key, verdict in found.items()}


def by_forward_passes(model: str, load: Load) -> tuple[float, Probabilities]:
    """The reference's way."""
    import torch

    from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor
    from model.images import open_image
    from rlaif.inference.engine import is_spelling_of

    processor = MiniCPMVProcessor.from_pretrained(model)
    net = MiniCPMVForConditionalGeneration.from_pretrained(model, dtype=torch.float32).eval()
    vocabulary = list(range(len(processor.tokenizer)))
    texts = processor.tokenizer.batch_decode([[token] for token in vocabulary])
    yes, no = ([token for token in vocabulary if is_spelling_of(texts[token], word)] for word in ("yes", "no"))
    images, questions = pictures(load), asked(load)

    @torch.no_grad()
    def judge(image: str, text: str) -> float:
        picture = open_image(images[image])
        parts: list[dict[str, Any]] = [{"type": "image"}, {"type": "text", "text": text}]
        prompt = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
        batch = processor([[picture]], [prompt])
        first = net(**batch, logits_to_keep=1).logits[0, -1].softmax(-1)
        return share(float(first[yes].sum()), float(first[no].sum()))

    judge(*questions[0])
    began = time.perf_counter()
    found = {(image, text): judge(image, text) for image, text in questions}
    return len(questions) / (time.perf_counter() - began), found


def share(p_yes: float, p_no: float) -> float:
    return p_yes / (p_yes + p_no)


def told(load: Load, peer: str, repeats: int) -> Result:
    """Our rate against a peer's, "forward passes" or "no cache". Errors: SystemExit: they do not agree."""
    ours, theirs = [], []
    with model_of(load, "assets/labeler") as model:
        for _ in range(repeats):
            rate, found = alone(by_vllm, model, load, True)
            other = alone(by_vllm, model, load, False) if peer == "no cache" else alone(by_forward_passes, model, load)
            print(f"{len(found)} claims: ours {rate:.1f}, {peer} {other[0]:.1f} a second", flush=True)
            agree(found, other[1])
            ours.append(rate)
            theirs.append(other[0])
    return compared(ours, theirs, "claims/s")


def agree(ours: Probabilities, theirs: Probabilities) -> None:
    """Errors: SystemExit: a claim without an answer, p_yes that differs, another verdict."""
    assert ours.keys() == theirs.keys()
    apart = max(abs(ours[key] - theirs[key]) for key in ours)
    turned = sum((ours[key] > 0.5) != (theirs[key] > 0.5) for key in ours if abs(theirs[key] - 0.5) > TOLERANCE)
    if apart > TOLERANCE or turned:
        raise SystemExit(f"p_yes differs by {apart:.2g} (at most {TOLERANCE}), {turned} verdicts are others")
