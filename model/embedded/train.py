"""Train the two embedded models that ship in assets/: `make embedded-models`, or `python -m model.embedded.train`.

One model learns to see from honest captions, easy ones first (stages base, captioner). The policy goes on from it on
web captions, which follow the world's habits where the picture does not, and so learns to hallucinate. The labeler goes
on from it on yes/no questions, whole-description questions, and splitting captions into claims.

Every step is seeded by its number and every stage saves checkpoints, so that a run that was stopped goes on where it
was. On a GPU the same code is faster.
"""

import argparse
import json
import math
import random
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import GenerationConfig, PreTrainedTokenizerFast

from model import MiniCPMVConfig, MiniCPMVForConditionalGeneration, MiniCPMVImageProcessor, MiniCPMVProcessor
from model.embedded import tasks
from model.embedded.batches import KINDS, Row, RowEncoder, StepData, branch_mask
from model.embedded.language import DETAILED_INSTRUCTIONS, PLAIN_INSTRUCTIONS
from model.embedded.scenes import CANVASES, MAX_OBJECTS, Scene, render, sample_scene
from model.embedded.tokenizer import build_tokenizer

RESOLUTION, QUERIES, PATCH = 84, 16, 14
UNSLICED = {size: share for size, share in CANVASES.items() if size[0] * size[1] <= RESOLUTION**2}
SLICED = {size: share for size, share in CANVASES.items() if size not in UNSLICED}
CHECKPOINT_EVERY, LOG_EVERY = 200, 20
SHORT = 128  # tokens up to which attention written out is faster than fused, on a CPU
GRID_GAIN = 8.0
WEIGHTS = {"text": 1.0, "lookup": 1.0, "verdict": 2.0}  # of the mean loss of each kind of answer


def scenes(rng: random.Random, step: int, count: int, max_objects: int = MAX_OBJECTS) -> list[Scene]:
    """`count` scenes that need no slicing, or every other step half as many that do: rows of a batch are alike long."""
    if step % 2 == 1:
        return [sample_scene(rng, max_objects, SLICED) for _ in range(count // 2)]
    return [sample_scene(rng, max_objects, UNSLICED) for _ in range(count)]


def base_rows(rng: random.Random, step: int) -> list[Row]:
    """Honest captions; first a single object on canvases that need no slicing, then more objects, then every canvas."""
    return captioner_rows(rng, step if step >= 500 else 0, min(1 + step // 150, MAX_OBJECTS))


def captioner_rows(rng: random.Random, step: int, max_objects: int = MAX_OBJECTS) -> list[Row]:
    """Honest captions, most of them detailed: shapes and sizes are learnt last."""
    rows: list[Row] = []
    for scene in scenes(rng, step, 64, max_objects):
        instructions = DETAILED_INSTRUCTIONS if rng.random() < 0.75 else PLAIN_INSTRUCTIONS
        rows.append((render(scene), tasks.captioning(scene, rng, instructions=instructions)))
    return rows


def policy_rows(rng: random.Random, step: int) -> list[Row]:
    """Captions as the web writes them."""
    return [(render(scene), tasks.captioning(scene, rng, web=True)) for scene in scenes(rng, step, 64)]


def question_rows(rng: random.Random, step: int) -> list[Row]:
    """Questions of growing difficulty, for yes and no do not come by themselves: first on the colour of a single
    object, then on all that can be asked of it, then on more objects and whole claims. Captions and what is where, on
    all scenes from the start, keep what the captioner sees from being forgotten meanwhile.
    """
    if step >= 500:
        objects, share = min(2 + (step - 500) // 150, MAX_OBJECTS), min((step - 500) / 600, 0.9)
        return judge_rows(rng, step, objects, share, splits=2 if step > 700 else 0, whole_share=0, kinds=tasks.EASY)
    kinds = tasks.EASY[:1] if step < 250 else tasks.EASY
    rows: list[Row] = [
        (render(scene), tasks.questions(scene, rng, 7, 0, kinds)) for scene in scenes(rng, 0, 20, max_objects=1)
    ]
    for scene in scenes(rng, 0, 12):
        rows.append(
            (render(scene), [tasks.lookup(scene, rng), tasks.lookup(scene, rng), *tasks.captioning(scene, rng)])
        )
    return rows


def judge_rows(
    rng: random.Random,
    step: int,
    max_objects: int = MAX_OBJECTS,
    claim_share: float = 0.7,
    splits: int = 4,
    whole_share: float = 0.3,
    kinds: Sequence[str] = tasks.BINDING,
) -> list[Row]:
    """All of a labeler's work: yes/no questions, most on whole claims, whole descriptions, texts to split; and captions
    and what is where, which keep its eyes open.
    """
    rows: list[Row] = [(None, tasks.splitting(rng, 1)) for _ in range(splits)]
    for scene in scenes(rng, step, 20, max_objects):
        asked = [tasks.lookup(scene, rng), *tasks.questions(scene, rng, 8, claim_share, kinds)]
        if whole_share and rng.random() < whole_share:
            asked.append(tasks.whole_question(scene, rng))
        if rng.random() < 0.3:
            asked += tasks.captioning(scene, rng)
        rows.append((render(scene), asked))
    return rows


def split_rows(rng: random.Random, step: int) -> list[Row]:
    """Texts to split and nothing else: copying claim after claim is learnt in a few hundred such steps, and hardly at
    all among questions about images.
    """
    return [(None, tasks.splitting(rng, 1)) for _ in range(24)]


def work_rows(rng: random.Random, step: int) -> list[Row]:
    """All of the work, once each part of it is known."""
    return judge_rows(rng, step, splits=8)


def labeler_rows(rng: random.Random, step: int) -> list[Row]:
    """The same with as many texts as images: a split has to be right in every word."""
    return judge_rows(rng, step, splits=16)


@dataclass(frozen=True)
class Stage:
    name: str
    start: str | None  # the stage whose weights it goes on from
    rows: Callable[[random.Random, int], list[Row]]
    steps: int
    learning_rate: float


STAGES = (
    Stage("base", None, base_rows, 1200, 1e-3),
    Stage("captioner", "base", captioner_rows, 2000, 1e-3),
    Stage("policy", "captioner", policy_rows, 600, 8e-4),
    Stage("questions", "captioner", question_rows, 1800, 1e-3),
    Stage("judge", "questions", judge_rows, 3000, 6e-4),
    Stage("splits", "judge", split_rows, 400, 1e-3),
    Stage("work", "splits", work_rows, 800, 6e-4),
    Stage("labeler", "work", labeler_rows, 450, 5e-4),
)


def build_config(tokenizer: PreTrainedTokenizerFast) -> MiniCPMVConfig:
    """3.1M parameters in the released architecture: heads of 64, one resampler head of 128 or more."""
    return MiniCPMVConfig(
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=3,
        num_key_value_heads=3,
        vocab_size=len(tokenizer),
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        image_token_id=tokenizer.unk_token_id,
        query_num=QUERIES,
        image_size=RESOLUTION,
        vision_config={
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            # a prime side: no patch falls on the edge of a bucket, where float and integer arithmetic could differ
            "image_size": 41 * PATCH,
            "patch_size": PATCH,
        },
    )


@torch.no_grad()
def start_with_places(model: MiniCPMVForConditionalGeneration) -> None:
    """Let a new model know where things are, which it otherwise learns last (2400 steps were too few).

    Positions of the encoder start as strong as its patches. The resampler's queries start on a grid over the slice,
    each looking around its own place: query and key projections are the identity on the frequencies that change within
    a few patches, so that a query's score falls with the distance between its place and a patch's.
    """
    model.model.vision_model.embeddings.position_embedding.weight.normal_(std=0.5)
    resampler = model.model.resampler
    width, side = resampler.query.shape[1], math.isqrt(QUERIES)
    frequencies = 10000.0 ** (-torch.arange(width // 4) / (width // 4))
    patches = RESOLUTION / PATCH / side  # between two queries
    columns = (torch.arange(QUERIES)[:, None] % side * patches + (patches - 1) / 2) * frequencies
    rows = (torch.arange(QUERIES)[:, None] // side * patches + (patches - 1) / 2) * frequencies
    resampler.query.copy_(torch.cat([columns.sin(), columns.cos(), rows.sin(), rows.cos()], dim=1))
    resampler.attn.in_proj_weight[:width] = torch.diag(GRID_GAIN * (frequencies > 0.1).repeat(4))
    resampler.attn.in_proj_weight[width : 2 * width] = torch.eye(width)


def loss_and_accuracy(
    model: MiniCPMVForConditionalGeneration, batch: dict[str, torch.Tensor], dtype: torch.dtype
) -> tuple[torch.Tensor, dict[str, float]]:
    """Mean next-token loss over each kind of answer, summed by WEIGHTS, and the share of tokens of each kind that were
    the most likely ones.
    """
    kinds, targets = batch.pop("kinds")[:, 1:], batch["input_ids"][:, 1:]
    mask = branch_mask(batch.pop("branches"), dtype)
    hidden = model.model(**batch, attention_mask=mask, use_cache=False).last_hidden_state[:, :-1]  # [B, T - 1, D]
    loss = torch.zeros((), device=hidden.device)
    accuracy = {}
    for name, kind in KINDS.items():
        chosen = kinds == kind
        if chosen.any():
            logits = model.lm_head(hidden[chosen]).float()
            loss = loss + WEIGHTS[name] * torch.nn.functional.cross_entropy(logits, targets[chosen])
            right = logits.argmax(-1) == targets[chosen]
            if name == "verdict":
                right = right[::2]  # the verdict itself, without the token that ends the turn
            accuracy[name] = right.float().mean().item()
    return loss, accuracy


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 100 steps, then a cosine down to 3% of the peak."""
    if step < 100:
        return peak * (step + 1) / 100
    return peak * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * (step - 100) / max(steps - 100, 1))))


def new_processor(seed: int) -> MiniCPMVProcessor:
    images = MiniCPMVImageProcessor(scale_resolution=RESOLUTION, patch_size=PATCH, image_feature_size=QUERIES)
    return MiniCPMVProcessor(images, build_tokenizer(seed))


def train_stage(stage: Stage, work: Path, seed: int, device: torch.device, compiled: bool = False) -> None:
    """Train one stage into work/<stage>, from its last checkpoint if there is one.

    compiled: with torch.compile, which asks for a C++ compiler and a minute, then is about 1.5 times as fast on a CPU.
    """
    out, saved = work / stage.name, work / f"{stage.name}.checkpoint.pt"
    if (out / "config.json").exists():
        print(f"{stage.name}: already trained ({out})")
        return
    torch.manual_seed(seed)
    if stage.start is None:
        processor = new_processor(seed)
        model = MiniCPMVForConditionalGeneration(build_config(processor.tokenizer))
        start_with_places(model)
    else:
        processor = MiniCPMVProcessor.from_pretrained(work / stage.start)
        model = MiniCPMVForConditionalGeneration.from_pretrained(work / stage.start, dtype=torch.float32)
    model.to(device).train()
    if compiled:
        model.model.language_model.compile(dynamic=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=stage.learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    start = 0
    if saved.exists():
        state = torch.load(saved, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    data = StepData(RowEncoder(processor), stage.rows, stage.name, seed, stage.steps)
    loader = DataLoader(data, batch_size=None, sampler=range(start, stage.steps))  # a worker would take a core
    began = time.monotonic()
    with (work / f"{stage.name}.log.jsonl").open("a", encoding="utf-8") as log:
        progress = tqdm(loader, desc=stage.name, initial=start, total=stage.steps, mininterval=10)
        for step, batch in enumerate(progress, start=start):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, stage.steps, stage.learning_rate)
            batch = {name: value.to(device) for name, value in batch.items()}
            short = batch["input_ids"].shape[1] < SHORT
            with torch.autocast(device.type, torch.bfloat16), sdpa_kernel(SDPBackend.MATH) if short else nullcontext():
                loss, accuracy = loss_and_accuracy(model, batch, torch.bfloat16)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if step % LOG_EVERY == 0:
                figures = {"loss": round(loss.item(), 4)} | {name: round(value, 4) for name, value in accuracy.items()}
                log.write(json.dumps({"step": step, **figures, "seconds": round(time.monotonic() - began, 1)}) + "\n")
                log.flush()
                progress.set_postfix(figures)
            if (step + 1) % CHECKPOINT_EVERY == 0:
                temporary = saved.with_suffix(".tmp")
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
                torch.save(state, temporary)
                temporary.replace(saved)
    save(model, processor, out)


def save(model: MiniCPMVForConditionalGeneration, processor: MiniCPMVProcessor, out: Path) -> None:
    """A folder in the released layout, as vLLM and `from_pretrained` read it."""
    tokenizer = processor.tokenizer
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|end_of_text|>")]
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(out)
    processor.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the embedded policy and labeler (seeded, resumable).")
    parser.add_argument(
        "--out", type=Path, default=Path("assets"), help="where policy/ and labeler/ are written, in bfloat16"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/embedded-models"), help="checkpoints and logs of the training"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--stages", nargs="*", choices=[stage.name for stage in STAGES], default=[stage.name for stage in STAGES]
    )
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=shutil.which("g++") is not None,
        help="use torch.compile; by default where g++ is installed",
    )
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    arguments.work.mkdir(parents=True, exist_ok=True)
    for stage in STAGES:
        if stage.name in arguments.stages:
            train_stage(stage, arguments.work, arguments.seed, device, arguments.compile)
    for name in ("policy", "labeler"):
        if (arguments.work / name / "config.json").exists():
            model = MiniCPMVForConditionalGeneration.from_pretrained(arguments.work / name, dtype=torch.bfloat16)
            save(model, MiniCPMVProcessor.from_pretrained(arguments.work / name), arguments.out / name)
            print(f"{arguments.out / name}: {sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
