"""Responses sampled per second, ten per image: vLLM against `generate` of transformers, batched or one by one.

    make bench NAME=responses            # or responses_batched

The reference (github RLHF-V/RLAIF-V) calls `generate` for one item at a time with ten copies of it, so that its image
is encoded ten times; `batched` is `generate` with the fastest of a few batch sizes. All sample at temperature 1, stop
at the end of an answer, and compute in float32. Answers are random, so their mean lengths are compared instead and must
agree within 10%. Loading and a first answer are not timed.
"""

import io
import time
from collections.abc import Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from statistics import mean

from bench.isolated import run_isolated
from bench.models import Load, model_folder, pictures
from bench.result import Result, compare_rates

N = 10
MAX_TOKENS = 64
INSTRUCTION = "Describe the picture in detail."
BATCH_SIZES = (1, 2, 4, 8)  # items, each with its N copies
VLLM_BATCH = 512  # answers; in a small model most of a step does not depend on their number
SMALL = Load(images=48)
LARGE = Load(images=4, width=768, layers=12, side=800)


def by_vllm(model: str, load: Load) -> tuple[float, float]:
    """Responses per second, and their mean length in tokens."""
    from rlaif.config import EngineSection, ModelSection
    from rlaif.inference.engine import Request
    from rlaif.inference.vllm_engine import VllmEngine

    images = pictures(load).values()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        section = ModelSection.model_validate({"model": model, "dtype": load.dtype})
        engine = VllmEngine(section, EngineSection(max_model_len=2048, max_num_seqs=VLLM_BATCH), 0)
        with closing(engine):
            engine.generate([Request(INSTRUCTION, None, max_tokens=2)])
            start = time.perf_counter()
            requests = [
                Request(INSTRUCTION, image, n=N, seed=0, temperature=1.0, max_tokens=MAX_TOKENS) for image in images
            ]
            answers = [answer for answers in engine.generate(requests) for answer in answers]
            seconds = time.perf_counter() - start
    return len(answers) / seconds, mean(answer.num_tokens for answer in answers)


def by_generate(model: str, load: Load, batch_size: int) -> tuple[float, float]:
    """The same with transformers, `batch_size` items at a time."""
    import torch

    from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor
    from model.images import open_image

    torch.manual_seed(0)
    processor = MiniCPMVProcessor.from_pretrained(model)
    net = MiniCPMVForConditionalGeneration.from_pretrained(model, dtype=getattr(torch, load.dtype)).eval()
    end = processor.end_of_turn
    parts = [{"type": "image"}, {"type": "text", "text": INSTRUCTION}]
    prompt = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)

    @torch.no_grad()
    def sample(images: Sequence[bytes], most: int) -> list[int]:
        opened = [open_image(image) for image in images for _ in range(N)]
        batch = processor([[image] for image in opened], [prompt] * len(opened))
        ids = net.generate(**batch, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=most, eos_token_id=end)
        ended = (ids[:, batch["input_ids"].shape[1] :] == end).long().cumsum(1)
        before = torch.nn.functional.pad(ended[:, :-1], (1, 0))
        counts: list[int] = (before == 0).sum(1).tolist()  # the end token counts, padding after it does not
        return counts

    images = list(pictures(load).values())
    sample(images[:1], 2)
    start = time.perf_counter()
    lengths = [
        length
        for first in range(0, len(images), batch_size)
        for length in sample(images[first : first + batch_size], MAX_TOKENS)
    ]
    return len(lengths) / (time.perf_counter() - start), mean(lengths)


def compare(load: Load, peer: str, repeats: int) -> Result:
    """Our rate against a peer's, "one item" or "batched". Errors: SystemExit if lengths differ."""
    ours, theirs = [], []
    with model_folder(load, "assets/policy") as model:
        sizes = [1] if peer == "one item" else [size for size in BATCH_SIZES if size <= load.images]
        for _ in range(repeats):
            rate, length = run_isolated(by_vllm, model, load)
            peers = {size: run_isolated(by_generate, model, load, size) for size in sizes}
            best = max(peers, key=lambda size: peers[size][0])
            print(
                f"ours {rate:.2f} responses per second of {length:.1f} tokens, generate with {best} item(s) "
                f"{peers[best][0]:.2f} of {peers[best][1]:.1f}",
                flush=True,
            )
            if abs(length / peers[best][1] - 1) > 0.1:
                raise SystemExit(f"mean lengths differ by more than 10%: {length:.1f} and {peers[best][1]:.1f} tokens")
            ours.append(rate)
            theirs.append(peers[best][0])
    return compare_rates(ours, theirs, "responses/s")
