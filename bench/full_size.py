"""The 8.5B model on one GPU, in at most 12 minutes: speed, memory and share of the card's matrix rate.

    make bench-full-size                                  # writes bench/results/<card>.json, such as h200.json
    python -m bench.full_size --only card model dpo-ours  # a selection
    python -m bench.full_size --test                      # small models on CPU; so is every run without a GPU

Parts, in order of importance; each runs in a new process, has a limit in seconds, and all have MINUTES together. What
fails, does not fit or takes too long is recorded with its reason, and the next part runs. The file is written after
each part, so that a cut run still tells something. What counts as useful arithmetic is said in `bench.limits.useful`;
its rate over that of one large bfloat16 matrix product on the same card is the share. `time` says where a step spends
its time, `peak_gib` is memory of torch's allocator, or of the whole card for the engine.

The machine must have: one NVIDIA GPU, at best with 141 GB (parts that do not fit are recorded); 24 GB of disk in the
temporary folder (TMPDIR), and memory for as much; this repository with what `make setup` installs there (the CUDA
builds of torch and vLLM, TRL, PEFT, datasets), or PYTHONPATH to it. Where vLLM is missing, only the part `engine` is
lost; where TRL is, the DPO parts. It needs no network, no checkpoint and no data: weights are random, created on the
GPU, with the small tokenizer; images are generated.
"""

import argparse
import json
import random
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bench.isolated import PartFailed, reports
from bench.record import commit
from bench.result import RESULTS, machine
from rlaif.storage.files import atomic_write

MINUTES = 11.5  # of all parts
GIB = 2**30
Figures = dict[str, Any]
Report = Callable[[tuple[str, Figures]], None]  # a name and its figures


@dataclass(frozen=True)
class Size:
    """images: sampled and verified, squares of `side` pixels; answers, answer_tokens: of an image; pairs: of a step of
    DPO; sequence: tokens of each of two packed sequences; steps: of a training, two of them untimed.
    """

    images: int = 64
    side: int = 1344
    answers: int = 10
    answer_tokens: int = 150
    pairs: int = 2
    sequence: int = 4096
    packed_side: int = 896
    steps: int = 6
    dtype: str = "bfloat16"
    small: bool = False


FULL = Size()
SMALL = Size(1, 170, 2, 8, 2, 512, 170, steps=3, dtype="float32", small=True)


def card(report: Report, folder: Path, size: Size) -> None:
    """The rates that the machine reaches: one large product, a large copy."""
    from bench.limits.meter import matrix_rate

    rate = matrix_rate(getattr(torch, size.dtype), 2.0 if torch.cuda.is_available() else 0.2)
    figures: Figures = {"product_tflops": rate / 1e12, "dtype": size.dtype}
    if torch.cuda.is_available():
        block = torch.empty(4 * GIB, dtype=torch.uint8, device="cuda")
        block.clone()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(10):
            block.clone()
        torch.cuda.synchronize()
        figures["copy_terabytes_per_second"] = 10 * 2 * block.nbytes / (time.perf_counter() - start) / 1e12
        figures["memory_gib"] = torch.cuda.get_device_properties(0).total_memory / GIB
    report(("card", figures))


def model(report: Report, folder: Path, size: Size) -> None:
    """Random weights, created on the GPU and saved for the other parts."""
    from bench.models import save_full_size, save_model

    start = time.perf_counter()
    if size.small:  # as there, the vocabulary is larger than the tokenizer's
        parameters = save_model(folder / "model", 128, 1, vision_layers=1, vocabulary=1024)
    else:
        parameters = save_full_size(folder / "model")
    report(("model", {"parameters": parameters, "seconds": time.perf_counter() - start}))


def train_pairs(report: Report, folder: Path, size: Size, variant: str) -> None:
    """DPO with LoRA: pairs of one prompt with 10 slices, as of `bench.comparisons.dpo`."""
    from bench.comparisons import dpo
    from bench.limits.useful import Times, pair_counts
    from model import MiniCPMVProcessor

    load = dpo.Load(side=size.side, batch=size.pairs, steps=size.steps, dtype=size.dtype, checkpointing=False)
    if size.small:
        load = replace(load, prompt_words=5, answer_words=8)
    counts = pair_counts(MiniCPMVProcessor.from_pretrained(str(folder / "model")), dpo.pairs(load, random.Random(0)))
    run = dpo.train({"ours": dpo.OURS}.get(variant, variant), folder, load, "lora")
    # of frozen weights a gradient passes the language model only; the rest and the reference are for all epochs
    once = 1 / dpo.EPOCHS
    useful = _weights(folder).operations(counts, Times(2 + once, once, once, once)) / size.steps
    figures: Figures = {
        "pairs_per_second": size.pairs * run.rate,
        "tokens_per_second": counts.tokens / size.steps * run.rate,
    }
    figures |= {"useful_tflops": useful * run.rate / 1e12, "computed_tflops": run.operations / 1e12}
    figures |= {"peak_gib": run.peak / 1024, "losses": run.losses, "time": _time(run.profile)}
    report((f"dpo-{variant}", figures))


def train_packed(report: Report, folder: Path, size: Size, stage: str) -> None:
    """Packed steps of pre-training 3 or of SFT, with gradient checkpointing."""
    from bench.limits.meter import UNTIMED, peak
    from bench.limits.useful import Times
    from bench.work import Packed, train_stage, write_rows

    rows = folder / "rows.parquet"
    if not rows.is_file():
        write_rows(size.steps * 2 * max(size.sequence // 256, 4), size.packed_side, rows)
    packed = Packed(size.sequence, 2, size.steps, size.dtype, checkpointing=True)
    meter, steps = train_stage(stage, folder / "model", rows, folder / stage, packed)
    times = Times(3 if stage.startswith("sft") else 2, 3, 3, 3)  # pre-training 3: a frozen language model
    weights, timed = _weights(folder), steps[UNTIMED:]
    useful = sum(weights.operations(counts, times) for counts in timed) / meter.seconds
    figures: Figures = {"tokens_per_second": sum(counts.tokens for counts in timed) / meter.seconds}
    figures |= {
        "useful_tflops": useful / 1e12,
        "computed_tflops": meter.operations * meter.steps / meter.seconds / 1e12,
    }
    report((stage, {**figures, "peak_gib": peak() / 1024, "time": _time(meter.profile)}))


def engine(report: Report, folder: Path, size: Size) -> None:
    """Sampling and verifying through the engine of the stages."""
    from contextlib import closing

    from bench.limits.useful import request_counts
    from bench.models import Load, pictures
    from bench.work import sampling, verifying
    from model import MiniCPMVProcessor
    from rlaif.config import EngineSection, ModelSection
    from rlaif.inference.vllm_engine import VllmEngine

    path = str(folder / "model")
    processor, weights = MiniCPMVProcessor.from_pretrained(path), _weights(folder)
    start = time.perf_counter()
    opened = VllmEngine(ModelSection(model=path, dtype=size.dtype), EngineSection(max_model_len=2048), 0)
    with closing(opened):
        report(("engine", {"start_seconds": time.perf_counter() - start}))
        images = list(pictures(Load(images=size.images, side=size.side)).values())
        works = {"sampling": sampling(images, size.answers, size.answer_tokens), "verifying": verifying(images)}
        opened.generate([*works["sampling"][:1], *works["verifying"][:1]])
        for name, requests in works.items():
            start = time.perf_counter()
            rows = opened.generate(requests)
            seconds = time.perf_counter() - start
            counts = request_counts(processor, requests, rows)
            figures: Figures = {"seconds": seconds, "images_per_second": len(images) / seconds}
            figures["answers_per_second"] = sum(map(len, rows)) / seconds
            figures["tokens_per_second"] = counts.tokens / seconds
            figures["useful_tflops"] = weights.operations(counts) / seconds / 1e12
            if torch.cuda.is_available():
                free, total = torch.cuda.mem_get_info()
                figures["peak_gib"] = (total - free) / GIB
            report((name, figures))


def _weights(folder: Path) -> Any:
    from bench.limits.useful import weights_of
    from model import MiniCPMVConfig

    return weights_of(MiniCPMVConfig.from_pretrained(str(folder / "model")))


def _time(profile: Any) -> Figures:
    return {kind: profile.share(kind) for kind in profile.by_kind} if profile is not None else {}


@dataclass(frozen=True)
class Part:
    """seconds: its limit."""

    work: Callable[..., None]
    seconds: float
    arguments: tuple[str, ...] = ()


PARTS = {  # in order of importance
    "card": Part(card, 60),
    "model": Part(model, 150),
    "dpo-ours": Part(train_pairs, 150, ("ours",)),
    "engine": Part(engine, 210),
    "dpo-stock": Part(train_pairs, 120, ("stock",)),
    "sft-2": Part(train_packed, 110, ("sft-2",)),
    "pretrain-3": Part(train_packed, 110, ("pretrain-3",)),
}


def measure(names: Sequence[str], size: Size, save: Callable[[Figures], None]) -> Figures:
    """Run parts; their figures, or the reason why there are none, by name. save: called after each."""
    until = time.monotonic() + 60 * MINUTES
    results: Figures = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            part = PARTS[name]
            seconds = min(part.seconds, until - time.monotonic())
            start = time.monotonic()
            try:
                if seconds < 5:
                    raise PartFailed(f"not started: the {MINUTES} minutes are over")
                for measured, figures in reports(seconds, part.work, Path(temporary), size, *part.arguments):
                    if "useful_tflops" in figures and "card" in results:
                        figures["share"] = figures["useful_tflops"] / results["card"]["product_tflops"]
                    results[measured] = figures
                    save(results)
            except PartFailed as failure:
                results[name] = {**results.get(name, {}), "failed": str(failure)}
            results[name] = {**results.get(name, {}), "part_seconds": time.monotonic() - start}
            save(results)
            print(f"{name}: {json.dumps(rounded(results[name]))}", flush=True)
    return results


def table(results: Figures) -> str:
    """What has a share, as Markdown; then what failed."""
    lines = ["| work | tokens/s | useful TFLOP/s | share of the matrix rate | peak GiB |", "|---|---|---|---|---|"]
    for name, figures in results.items():
        if "share" in figures:
            cells = [name, f"{figures['tokens_per_second']:,.0f}", f"{figures['useful_tflops']:.3g}"]
            cells += [f"{figures['share']:.1%}", f"{figures['peak_gib']:.1f}" if "peak_gib" in figures else "-"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *(f"{name}: {one['failed']}" for name, one in results.items() if "failed" in one)])


def rounded(value: Any) -> Any:
    """Four significant digits are enough."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def card_name(device: str) -> str:
    """`NVIDIA H200 NVL` -> `h200-nvl`."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower().removeprefix("nvidia")).strip("-")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.full_size", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="card and model are needed first")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default bench/results/<card>.json; none for a test")
    parser.add_argument("--test", action="store_true", help="small models, although there is a GPU")
    arguments = parser.parse_args(argv)
    test = arguments.test or not torch.cuda.is_available()
    file = arguments.out
    if test:
        print("a test with small models, without a GPU: its figures mean nothing and are recorded with --out only")
    elif file is None:
        file = RESULTS / f"{card_name(torch.cuda.get_device_name())}.json"
    head: Figures = {"machine": machine(), "date": datetime.now(UTC).date().isoformat(), "commit": commit()}
    head |= {"command": "make bench-full-size", "test": test}

    def save(results: Figures) -> None:
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(file) as temporary:
                temporary.write_text(json.dumps(rounded({**head, "parts": results}), indent=1) + "\n", encoding="utf-8")

    print(head["machine"], flush=True)
    results = measure(arguments.only, SMALL if test else FULL, save)
    print(f"\n{table(results)}" + (f"\nwrote {file}" if file is not None else ""))


if __name__ == "__main__":
    main()
