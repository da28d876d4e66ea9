"""Cost of 100,000 images on 1, 8 and 64 GPUs, and the bottleneck of each stage: arithmetic from measured rates.

    make cost
    python -m bench.cost_estimate --slices 4 --answer-tokens 300

It measures in this process: photographs checked (by threads) and written as prompts, slices cut for encoding, rows
written to tables, pairs built from responses. The rates of a GPU are measured if there is one; otherwise they are
`--tflops` and `--bandwidth`, by default from the data sheet of an H200. Work per token follows from the layers of the
full-size model: 2 operations per weight and token forward, 6 forward and backward. The share of these rates that is
reached, `--computing` and `--reading`, is an assumption: set it to what your runs reach.

- Prefill (tokens of images and questions) is compute-bound. Decoding (tokens of answers) is memory-bound: each step
  reads all weights, and the keys and values of every answer in the batch.
- An engine slices its images in one process, in parallel with its GPU; the slower of the two sets the pace.
- One process writes the tables; it and the start of engines do not get faster with more GPUs.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path

import torch
from PIL import Image

from bench.comparisons import pairs
from generation.prompts import build_prompts
from generation.sources import read_pictures
from model import MiniCPMVConfig, MiniCPMVForConditionalGeneration, MiniCPMVImageProcessor
from rlaif.config import DataSection
from rlaif.storage.run import Run
from rlaif.storage.writer import TableWriter

GPUS = (1, 8, 64)
REQUEST_TOKENS = 20  # of a request to divide, without the response and the shared prefix


@dataclass(frozen=True)
class Model:
    """Cost of a token: weights that are multiplied with it, bytes of its keys and values."""

    language: int
    vision: int  # per patch
    token_bytes: int


@dataclass(frozen=True)
class Rates:
    """Rates per second of one process, or of one GPU."""

    prompts: float
    slices: float
    rows: float
    paired: float
    operations: float
    bytes: float


@dataclass(frozen=True)
class Stage:
    """Seconds of one GPU, of its process that slices images, and of the process that writes tables."""

    name: str
    gpu: float
    cutting: float
    writing: float

    def seconds(self, gpus: int, start: float) -> tuple[float, str]:
        """Seconds on this number of GPUs, and the bottleneck."""
        parts = {"GPU": self.gpu / gpus, "slices": self.cutting / gpus, "tables": self.writing, "start": start}
        working = max(parts["GPU"], parts["slices"], parts["tables"])
        return working + start, max(parts, key=lambda name: parts[name])


def full_size() -> Model:
    config = MiniCPMVConfig()
    with torch.device("meta"):
        model = MiniCPMVForConditionalGeneration(config)

    def weights(part: torch.nn.Module) -> int:
        return sum(value.numel() for value in part.parameters())

    text = config.get_text_config()
    heads = text.num_key_value_heads * text.hidden_size // text.num_attention_heads
    language = weights(model.model.language_model) - weights(model.get_input_embeddings()) + weights(model.lm_head)
    return Model(language, weights(model.model.vision_model), 2 * text.num_hidden_layers * heads * 2)


def stages(load: argparse.Namespace, model: Model, rates: Rates) -> list[Stage]:
    """Sampling, dividing, verifying, pairs and training for `load.images` images."""
    image = load.slices * 96  # tokens: one per query of a slice
    patches = load.slices * 1024
    responses, claims = load.responses, load.responses * load.claims
    computing, reading = rates.operations * load.computing, rates.bytes * load.reading

    def read(tokens: float, patches: float = 0) -> float:
        return float(2 * (tokens * model.language + patches * model.vision) / computing)

    def write(tokens: float, context: float) -> float:
        step = (2 * model.language + load.batch * context * model.token_bytes) / reading
        return float(tokens / load.batch * step)

    answers = responses * load.answer_tokens
    split = claims * load.claim_tokens
    pair = image + load.prompt_tokens + 2 * load.answer_tokens  # the prompt is computed once, and encoded once below
    cutting = load.slices / rates.slices
    each = [
        Stage(
            "sampling",
            read(image + load.prompt_tokens, patches)
            + write(answers, image + load.prompt_tokens + load.answer_tokens / 2),
            cutting,
            1 / rates.prompts + responses / rates.rows,
        ),
        Stage(
            "dividing",
            read(responses * (load.answer_tokens + REQUEST_TOKENS))
            + write(split, load.answer_tokens + split / responses / 2),
            0,
            0,
        ),
        Stage("verifying", read(image + claims * load.question_tokens, patches), cutting, claims / rates.rows),
        Stage("pairs", 0, 0, responses / rates.paired),
        Stage("training", load.pairs * (4 * read(pair) + read(0, patches)), load.pairs * cutting, 0),
    ]
    return [
        Stage(stage.name, *(load.images * seconds for seconds in (stage.gpu, stage.cutting, stage.writing)))
        for stage in each
    ]


def rate(count: int, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def measured(load: argparse.Namespace) -> Rates:
    torch.set_num_threads(1)
    photo = Image.effect_noise((load.pixels, load.pixels * 3 // 4), 60).convert("RGB")
    processor = MiniCPMVImageProcessor()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "photos").mkdir()
        for index in range(load.sample):
            photo.rotate(index % 4).save(folder / "photos" / f"{index}.jpg", quality=85)
        data = DataSection(source="folder", path=str(folder / "photos"))
        run = Run(folder / "run", pairs.CONFIG.model_copy(update={"data": data}), "generation")
        run.begin(["prompts", "responses"], {}, inputs=[])

        def prompts() -> None:
            rows = build_prompts(read_pictures(data, 0), data, (), run.drop)
            TableWriter(run, "prompts", key="prompt_id").write(islice(rows, load.sample))

        prompt_rate = rate(load.sample, prompts)
        slices = len(processor.preprocess(photo, return_tensors="pt")["pixel_values"][0])
        slice_rate = rate(load.sample * slices, lambda: [processor.preprocess(photo) for _ in range(load.sample)])
        part = next(pairs.parts(100 * load.sample, 0))
        rows = part["responses"].to_pylist() + part["claims"].to_pylist()

        def tables() -> None:
            for name in ("responses", "claims"):
                writer = TableWriter(run, name, key="prompt_id")
                writer.write(part[name].to_pylist())
                writer.flush()

        row_rate = rate(len(rows), tables)
        pairs.write_run(folder / "pairs", 100 * load.sample)
        with redirect_stdout(StringIO()):
            pair_rate = rate(100 * load.sample, lambda: pairs.ours(folder / "pairs"))
    return Rates(prompt_rate, slice_rate, row_rate, pair_rate, *gpu_rates(load))


def gpu_rates(load: argparse.Namespace) -> tuple[float, float]:
    """Operations per second of bfloat16 matrix products, and bytes per second of copies."""
    if not torch.cuda.is_available():
        return load.tflops * 1e12, load.bandwidth * 1e12
    size, times = 8192, 20
    matrix = torch.randn(size, size, dtype=torch.bfloat16, device="cuda")
    block = torch.empty(2**30, dtype=torch.bfloat16, device="cuda")

    def seconds(work: Callable[[], object]) -> float:
        work()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(times):
            work()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / times

    return 2 * size**3 / seconds(lambda: matrix @ matrix), 2 * block.nbytes / seconds(block.clone)


def table(estimates: Sequence[Stage], start: float) -> str:
    """Hours of each stage on each number of GPUs, with the bottleneck, as Markdown."""
    lines = ["| stage | " + " | ".join(f"{gpus} GPU" + "s" * (gpus > 1) for gpus in GPUS) + " |", "|---" * 4 + "|"]
    totals = dict.fromkeys(GPUS, 0.0)
    for stage in estimates:
        cells = []
        for gpus in GPUS:
            seconds, bottleneck = stage.seconds(gpus, start if stage.gpu else 0)
            totals[gpus] += seconds
            cells.append(f"{seconds / 3600:.2f} h, {bottleneck}")
        lines.append(f"| {stage.name} | {' | '.join(cells)} |")
    hours = " | ".join(
        f"{seconds / 3600:.2f} h, {gpus * seconds / 3600:.0f} GPU hours" for gpus, seconds in totals.items()
    )
    return "\n".join([*lines, f"| total | {hours} |"])


def main(argv: Sequence[str] | None = None) -> list[Stage]:
    parser = argparse.ArgumentParser(
        prog="python -m bench.cost_estimate", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("--images", type=int, default=100_000)
    add("--pixels", type=int, default=1344, help="width of a photograph, 4:3")
    add("--slices", type=int, default=10, help="per image, overview included")
    add("--prompt-tokens", type=int, default=40)
    add("--responses", type=int, default=10)
    add("--answer-tokens", type=int, default=150)
    add("--claims", type=int, default=6, help="per response")
    add("--claim-tokens", type=int, default=40, help="a claim with its question, as the labeler writes it")
    add("--question-tokens", type=int, default=40)
    add("--pairs", type=int, default=2, help="per image; each is trained on once")
    add("--batch", type=int, default=256, help="answers that an engine generates concurrently")
    add("--tflops", type=float, default=989, help="peak of a GPU in bfloat16; measured if there is one")
    add("--bandwidth", type=float, default=4.8, help="of GPU memory, TB/s; measured if there is a GPU")
    add("--computing", type=float, default=0.4, help="share of the peak matmul rate that is reached")
    add("--reading", type=float, default=0.5, help="share of the bandwidth that is reached")
    add("--start", type=float, default=120, help="seconds to start an engine or a training")
    add("--sample", type=int, default=40, help="photographs to measure with")
    load = parser.parse_args(argv)
    rates = measured(load)
    print(
        f"one process, per second: {rates.prompts:.0f} prompts, {rates.slices:.0f} slices, "
        f"{rates.rows:,.0f} rows of tables, {rates.paired:,.0f} responses to pairs\n"
        f"one GPU ({'measured' if torch.cuda.is_available() else 'from a data sheet'}): "
        f"{rates.operations / 1e12:.0f} TFLOPS, {rates.bytes / 1e12:.1f} TB/s, of which {load.computing:.0%} and "
        f"{load.reading:.0%} are assumed to be reached\n"
    )
    estimates = stages(load, full_size(), rates)
    print(table(estimates, load.start))
    return estimates


if __name__ == "__main__":
    main()
