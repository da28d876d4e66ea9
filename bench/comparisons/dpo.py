"""DPO steps per second: our trainer against TRL's with its vision collator, and the effect of each part.

    make bench NAME=dpo_full             # or dpo_lora, dpo_one_pair, dpo_short_text

Same model, same batches, losses, precision and seed, no dropout. Each prompt has two pairs, as the stages make them,
and both are in one batch of two (`dpo_one_pair`: a batch has pairs of two prompts). A photograph has 10 slices of 96
tokens, its prompt about 40 tokens more, an answer about 150. Encoding a photograph takes about 0.4 times the work of
the language model on it, its prompt and two answers, as at full size (10 x 1024 patches x 0.4B weights to 1,300 tokens
x 7.5B), and a slice has as many pixels (1344 x 1344 in slices of 448). Attention is out of proportion: at this width it
is more than a quarter of the language model's work, at full size a twentieth. The stock collator sends an image with
the chosen and with the rejected answer, and both policy and reference encode it each time. Prompts have equal lengths,
because TRL puts the padding of a shorter prompt between it and its answer, which shifts the positions of the answer.
The losses of all variants must be equal, step by step, within 1e-4. The time to precompute reference log-probabilities
and to fill the cache of images is spread over 4 epochs. Each measurement runs in a new process; its first step is a
warm-up and not timed. On one thread (OMP_NUM_THREADS=1) seconds are those of the processor, so that other work on the
machine does not count.
"""

import io
import random
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.isolated import run_isolated
from bench.limits.profile import Profile
from bench.models import picture, save_model
from bench.result import Result, compare_rates

TOLERANCE = 1e-4
VARIANTS: dict[str, dict[str, Any] | None] = {  # None: TRL's trainer; otherwise the options of ours
    "stock": None,
    "images once": {"shared_prefix": False, "shared_vision": False},
    "and prompts once": {"shared_prefix": True, "shared_vision": False},
    "and encoded once": {"shared_prefix": True, "shared_vision": True},
    "and references beforehand": {"shared_prefix": True, "shared_vision": True, "beforehand": True},
    "and images kept": {"shared_prefix": True, "shared_vision": True, "beforehand": True, "kept": True},
}
EPOCHS = 4  # as many as RLAIF-V trains; what is computed beforehand is computed once for all of them
OURS = list(VARIANTS)[-1]


@dataclass(frozen=True)
class Load:
    """Data and model. side: pixels of the square images, 0 for none."""

    side: int = 756
    prompt_words: int = 40
    answer_words: int = 150
    width: int = 512
    layers: int = 2
    resolution: int = 252
    queries: int = 96
    vision_layers: int = 2
    batch: int = 2
    steps: int = 20
    dtype: str = "float32"
    checkpointing: bool = False
    pairs_per_prompt: int = 2


ONE_PAIR = Load(pairs_per_prompt=1)
SHORT_TEXT = Load(side=0, prompt_words=10, answer_words=20, batch=8, pairs_per_prompt=1)  # without images


@dataclass(frozen=True)
class Measured:
    rate: float  # steps per second
    peak: float  # MiB
    losses: list[float]
    tokens: float = 0.0  # per second, of both sequences of each pair
    operations: float = 0.0  # per second, in the steps themselves
    products: float = 0.0  # operations of the matrix products of a step
    profile: Profile | None = None  # of a step


def pairs(load: Load, rng: random.Random) -> list[dict[str, Any]]:
    words = ["red", "blue", "green", "car", "bird", "cup", "small", "large", "left", "right", "there", "is", "a"]

    def text(count: int) -> str:
        return " ".join(rng.choices(words, k=count))

    rows: list[dict[str, Any]] = []
    prompt = text(load.prompt_words).split()
    for index in range(load.batch * load.steps):
        if index % load.pairs_per_prompt == 0:
            prompt = [prompt[0], *rng.sample(prompt[1:], k=len(prompt) - 1)]  # as many tokens
            images = []
            if load.side:
                images = [{"bytes": picture(rng, load.side, grain=32), "path": None}]
        rows.append(
            {
                "images": images,
                "prompt": [{"role": "user", "content": " ".join(prompt)}],
                "chosen": [{"role": "assistant", "content": text(load.answer_words)}],
                "rejected": [{"role": "assistant", "content": text(load.answer_words)}],
            }
        )
    return rows


def train(variant: str, folder: Path, load: Load, method: str) -> Measured:
    """`load.steps` steps of one variant; call it in a new process."""
    from datasets import Dataset, Features, Image, List, Value
    from trl import DPOTrainer

    from bench.limits.meter import Meter, clock, peak
    from dpo import vision_cache
    from dpo.arguments import trainer_arguments
    from dpo.pair_reader import PROMPT
    from dpo.policy import load_collator, load_policy, lora_config
    from dpo.sampler import PromptSampler
    from dpo.trainer import build_trainer
    from model.parts import freeze
    from rlaif.config import Config

    trainer_keys = {
        "per_device_train_batch_size": load.batch,
        "max_steps": load.steps,
        "learning_rate": 1e-4,
        "logging_steps": 1,
        "save_strategy": "no",
        "gradient_checkpointing": load.checkpointing,
        "bf16": False,  # no autocast: compute in the precision of the weights
        "disable_tqdm": True,
    }
    section = {"model": str(folder / "model"), "dtype": load.dtype}
    switches = dict(VARIANTS[variant] or {})
    if switches.pop("kept", False) and load.side:
        switches["cache_vision"] = tempfile.mkdtemp(dir=folder)
    trainer_keys["precompute_ref_log_probs"] = switches.pop("beforehand", False)
    config = Config.model_validate(
        {
            "policy": section,
            "labeler": section,
            "dpo": {"method": method, "lora": {"dropout": 0}, "trainer": trainer_keys, **switches},
        }
    )
    args = trainer_arguments(config, folder / "out")
    messages = List({"role": Value("string"), "content": Value("string")})
    columns: dict[str, Any] = {"images": List(Image(decode=VARIANTS[variant] is None))}
    columns |= dict.fromkeys(["prompt", "chosen", "rejected"], messages)
    rows = Dataset.from_list(pairs(load, random.Random(0)), features=Features(columns))
    file = folder / "pairs.parquet"
    rows.to_parquet(file)
    prompts = [index // load.pairs_per_prompt for index in range(len(rows))]
    locations = Dataset.from_dict({"group": [0] * len(rows), "row": list(range(len(rows))), PROMPT: prompts})

    class SameBatches(DPOTrainer):
        def get_train_dataloader(self) -> Any:
            loader: Any = super().get_train_dataloader()
            loader.set_sampler(PromptSampler(prompts, load.batch, args.seed))
            return loader

    beforehand = 0.0  # seconds

    def timed(work: Any) -> Any:
        def measured(*arguments: Any) -> Any:
            nonlocal beforehand
            start = clock()
            result = work(*arguments)
            beforehand += clock() - start
            return result

        return measured

    trainers: Any = DPOTrainer  # its method is replaced during the measurement, and so is the function
    compute, fill = trainers._precompute_ref_logps, vision_cache.fill
    trainers._precompute_ref_logps, vision_cache.fill = timed(compute), timed(fill)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        collator = load_collator(config.policy, config.dpo, None)
        trainer: Any
        if VARIANTS[variant] is None:
            model = load_policy(config.policy, trains=True)
            full = method == "full"
            if full:
                freeze(model, config.dpo.freeze)
            trainer = SameBatches(
                model=model,
                ref_model=load_policy(config.policy, trains=True).requires_grad_(False) if full else None,
                args=args,
                train_dataset=rows if load.side else rows.remove_columns("images"),
                processing_class=collator.processor,
                peft_config=None if full else lora_config(config.dpo.lora, model),
            )
        else:
            trainer = build_trainer(config, args, collator, file, locations, None)
        trainers._precompute_ref_logps, vision_cache.fill = compute, fill
        meter = Meter(trainer, tokens=lambda batch: int(batch["attention_mask"].sum()))
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry and entry["step"]]
    timed_steps = meter.steps
    seconds = meter.seconds + beforehand / EPOCHS * timed_steps / load.steps
    rate = timed_steps / seconds
    operations = meter.operations * timed_steps / meter.seconds
    losses = [float(loss) for loss in losses]
    products = meter.counted.products if meter.counted else 0
    return Measured(rate, peak(), losses, meter.tokens * rate, operations, products, meter.profile)


def save(load: Load, folder: Path) -> int:
    """Save the model of a load with random weights; returns its number of parameters."""
    return save_model(folder, load.width, load.layers, load.resolution, load.queries, load.vision_layers)


def measure(
    load: Load, method: str, repeats: int, variants: Sequence[str] = tuple(VARIANTS)
) -> dict[str, list[Measured]]:
    """Run every variant in turn, `repeats` times. Errors: SystemExit if the losses are not equal."""
    measured: dict[str, list[Measured]] = {variant: [] for variant in variants}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save(load, folder / "model")
        for _ in range(repeats):
            for variant in variants:
                measured[variant].append(run_isolated(train, variant, folder, load, method))
    for variant in variants:
        both = zip(measured[variant][0].losses, measured["stock"][0].losses, strict=True)
        if (difference := max(abs(ours - stock) for ours, stock in both)) > TOLERANCE:
            raise SystemExit(
                f"{variant}: the losses differ from stock TRL's by {difference:.2g}, more than {TOLERANCE}"
            )
    return measured


def result(measured: dict[str, list[Measured]]) -> Result:
    return compare_rates([run.rate for run in measured[OURS]], [run.rate for run in measured["stock"]], "steps/s")


def parts_table(measured: dict[str, list[Measured]]) -> str:
    """The effect of each part, as Markdown."""
    lines = ["| variant | steps/s | against stock | peak MiB |", "|---|---|---|---|"]
    stock = [run.rate for run in measured["stock"]]
    for variant, runs in measured.items():
        rates = compare_rates([run.rate for run in runs], stock, "")
        peak = max(run.peak for run in runs)
        lines.append(
            f"| {variant} | {rates.ours:.3g} | {rates.ratio:g} ({rates.low:g} to {rates.high:g}) | {peak:,.0f} |"
        )
    return "\n".join(lines)


def compare(method: str, load: Load, repeats: int) -> Result:
    """Measure every variant, and print the effect of each part."""
    measured = measure(load, method, repeats)
    print(parts_table(measured))
    return result(measured)
