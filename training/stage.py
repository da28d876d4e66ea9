"""One stage of MiniCPM-V's training: pre-training 1, 2, 3, supervised fine-tuning 1, 2, or a fine-tuning after them.

    make pretrain STAGE=1     make sft PART=1     (or python -m training.stage --config FILE [--key value ...])

reads the training tables that `data` names (see `training.conversations`) and writes to `output_dir`

    the model in the released layout, which the next stage's `model` names
    checkpoint-N/     from which the same command goes on after a stop
    dropped.parquet   rows that nothing can be learnt from: table, row, reason
    training.json     what was trained on what, and Trainer's log; written last: without it the stage is not finished

The configuration is a YAML file of StageArguments and of transformers' TrainingArguments, read strictly; the same keys
on the command line come after it. Under `accelerate launch` the same command trains on many GPUs.
"""

import json
import random
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from datasets import Dataset, Features, Value
from torch.utils.data import Dataset as TorchDataset
from transformers import PreTrainedConfig, Trainer, TrainingArguments, set_seed
from transformers.utils import CONFIG_NAME, cached_file
from trl import TrlParser

from model import MiniCPMVConfig, MiniCPMVForConditionalGeneration, MiniCPMVProcessor
from model.modeling import released_name
from model.parts import PARTS, freeze, moved_tensors, parameter_counts
from model.transformers_private import ReleasedCheckpoints, last_complete_checkpoint
from training.conversations import Conversations, read_table, table_digest
from training.loss import answer_weights, weighted_loss
from training.packing import Sample, content_tokens, pack_best_fit, pack_in_order, packed_batch

SUMMARY = (__doc__ or "").partition("\n")[0]
DROPPED = Features({"table": Value("string"), "row": Value("int64"), "reason": Value("string")})
StageName = Literal["pretrain-1", "pretrain-2", "pretrain-3", "sft-1", "sft-2", "finetune"]
Packing = Literal["in_order", "best_fit", "none"]
Averaging = Literal["token", "square"]
Order = Literal["mixed", "listed", None]  # None: as the stage has it
Precision = Literal["float32", "bfloat16"]
ALLOWED = {"stage": StageName, "packing": Packing, "averaging": Averaging, "order": Order, "dtype": Precision}


@dataclass(frozen=True)
class Stage:
    """What a stage of the paper trains (sections 4.1 and 4.2), after which other it comes, how its rows are fed."""

    trains: tuple[str, ...]
    after: str | None
    slicing: bool
    order: Order


STAGES: dict[StageName, Stage] = {
    "pretrain-1": Stage(("resampler",), None, slicing=False, order="mixed"),
    "pretrain-2": Stage(("vision",), "pretrain-1", slicing=False, order="mixed"),
    "pretrain-3": Stage(("vision", "resampler"), "pretrain-2", slicing=True, order="mixed"),
    "sft-1": Stage(PARTS, "pretrain-3", slicing=True, order="listed"),
    "sft-2": Stage(PARTS, "sft-1", slicing=True, order="listed"),
    "finetune": Stage(PARTS, None, slicing=True, order="mixed"),
}


# what of TrainingArguments decides the weights; the rest may change between a stop and the next start
DECIDING = (
    "seed", "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "num_train_epochs",
    "max_steps", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "optim", "bf16",
    "per_device_train_batch_size", "gradient_accumulation_steps",
)  # fmt: skip


@dataclass
class StageArguments:
    """What a stage is made of."""

    stage: StageName = field(
        metadata={"help": "stage of the paper, which decides what trains; finetune: any training after them"}
    )
    model: str = field(metadata={"help": "folder or hub id of the model to go on from: what the stage before wrote"})
    data: list[str] = field(metadata={"help": "training tables (parquet)"})
    revision: str | None = field(
        default=None, metadata={"help": "commit, tag or branch of a hub model; default: the newest commit, recorded"}
    )
    order: Order = field(
        default=None,
        metadata={
            "help": "of the rows: mixed, or listed: one table after the other, as data has them; default: as in the "
            "paper, mixed in pre-training, listed in SFT"
        },
    )
    packing: Packing = field(
        default="in_order",
        metadata={"help": "in_order: as in the paper, the last sample of a sequence is cut; best_fit: none is; none"},
    )
    sequence_length: int = field(default=2048, metadata={"help": "tokens of a packed sequence; of a sample, unpacked"})
    averaging: Averaging = field(
        default="token",
        metadata={"help": "of the loss: token: each counts alike; square: less in a long answer, by its length's root"},
    )
    scale_resolution: int | None = field(
        default=None, metadata={"help": "side in pixels of the square whose area a slice has; default: the model's"}
    )
    freeze: list[Literal["vision", "resampler", "llm"]] = field(
        default_factory=list, metadata={"help": "parts that a finetune leaves as they are"}
    )
    dtype: Precision = field(
        default="float32",
        metadata={"help": "of the weights in training; bf16 computes in bfloat16 over float32 weights"},
    )
    after_any: bool = field(
        default=False, metadata={"help": "accept a model that the stage before did not write, such as a released one"}
    )


def order_of(arguments: StageArguments) -> Order:
    return arguments.order or STAGES[arguments.stage].order


class Sequences(TorchDataset):
    """Packs of samples: number of a sequence -> its samples."""

    def __init__(self, tables: Sequence[Conversations], arguments: StageArguments, seed: int, image_token_id: int):
        self.tables, self.image_token_id = tables, image_token_id
        groups = [[(number, row) for row in range(len(table))] for number, table in enumerate(tables)]
        rng = random.Random(seed)
        if order_of(arguments) == "mixed":
            groups = [[place for group in groups for place in group]]
        self.packs: list[list[tuple[int, int, int]]] = []  # of each sequence: (table, row, tokens kept)
        for group in groups:
            rng.shuffle(group)
            lengths = [tables[number].lengths[row] for number, row in group]
            if arguments.packing == "in_order":
                packs = pack_in_order(lengths, arguments.sequence_length)
            elif arguments.packing == "best_fit":
                packs = pack_best_fit(lengths, arguments.sequence_length)
                rng.shuffle(packs)
            else:
                packs = [[(index, length)] for index, length in enumerate(lengths)]
            self.packs += [[(*group[index], kept) for index, kept in pack] for pack in packs]

    def __len__(self) -> int:
        return len(self.packs)

    def __getitem__(self, index: int) -> list[Sample]:
        samples = (
            self.tables[table][row].truncated(kept, self.image_token_id) for table, row, kept in self.packs[index]
        )
        return [sample for sample in samples if sample is not None]


class StageTrainer(ReleasedCheckpoints, Trainer):
    """Trainer that counts tokens of content, whatever token pads, and labels by their weights."""

    def _track_num_input_tokens(self, inputs: dict[str, torch.Tensor]) -> None:
        """Trainer's own would count by an attention mask, which packing has not, or by the pad token, which a released
        model's text may hold.
        """
        count = content_tokens(inputs).to(self.args.device)
        self.state.num_input_tokens_seen += self.accelerator.gather(count).sum().item()

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, torch.Tensor]], device: torch.device) -> Any:
        """Trainer's own counts labels, which is right for a mean over tokens only."""
        if self.compute_loss_func is None:
            return super()._get_num_items_in_batch(batch_samples, device)
        total = sum(answer_weights(batch["labels"]).sum() for batch in batch_samples)
        return self.accelerator.gather(torch.as_tensor(total, device=device)).sum()


def square_averaged(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
    """Trainer's `compute_loss_func`; the weights of all of a step's batches come summed from the StageTrainer."""
    return weighted_loss(outputs.logits, labels, answer_weights(labels)) / num_items_in_batch


def check_start(arguments: StageArguments) -> None:
    """Pins the revision of a hub model.

    Errors: ValueError: there is no such model, it is no MiniCPM-V, or not what the stage before wrote.
    """
    folder = Path(arguments.model)
    before = None if arguments.after_any else STAGES[arguments.stage].after
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is no model folder: it has no config.json")
    if not folder.is_dir() and not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", arguments.model):
        first = f"train {before} first" if before else "make it first (`make help`)"
        raise ValueError(
            f"there is no model folder {folder}; {first}, or name another in `model`, or an id on the hub (owner/name)"
        )
    if not folder.is_dir():  # what is loaded is what was looked at: the folder of a snapshot is called by its commit
        config = cached_file(arguments.model, CONFIG_NAME, revision=arguments.revision)
        assert config is not None, "cached_file raises where there is none"
        arguments.revision = Path(config).parent.name
    found, _ = PreTrainedConfig.get_config_dict(arguments.model, revision=arguments.revision)
    kind = found.get("model_type")
    if kind != MiniCPMVConfig.model_type:
        raise ValueError(
            f"{arguments.model} is a model of type {kind!r}; this trains MiniCPM-V, {MiniCPMVConfig.model_type!r}"
        )
    if before is None:
        return
    record = folder / "training.json"
    made_by = json.loads(record.read_text(encoding="utf-8"))["stage"] if record.is_file() else None
    if made_by not in (before, arguments.stage):
        what = f"was made by {made_by}" if made_by else "was made by no stage (it has no training.json)"
        raise ValueError(
            f"{arguments.stage} goes on from {before}, but {arguments.model} {what}; train {before} first and name its "
            "folder in `model`, or set after_any for a model from elsewhere"
        )


def check_arguments(arguments: StageArguments) -> None:
    """Errors: ValueError: a value that is not allowed, or settings that contradict one another."""
    for name, kind in ALLOWED.items():  # argparse checks the values of a command line, not those of a file
        if (value := getattr(arguments, name)) not in get_args(kind):
            raise ValueError(f"{name} is {value!r}; allowed: {', '.join(filter(None, get_args(kind)))}")
    if arguments.freeze and arguments.stage != "finetune":
        raise ValueError(
            f"freeze is for finetune; {arguments.stage} trains {', '.join(STAGES[arguments.stage].trains)}"
        )
    if set(arguments.freeze) == set(PARTS):
        raise ValueError(f"freeze names every part ({', '.join(PARTS)}), so that nothing trains; leave one out")


def output_folder(arguments: StageArguments, training: TrainingArguments) -> Path:
    return Path(training.output_dir or arguments.stage)


def load_model(arguments: StageArguments) -> tuple[MiniCPMVForConditionalGeneration, MiniCPMVProcessor]:
    """The model with its frozen parts, and the processor with the stage's resolution and slicing."""
    processor = MiniCPMVProcessor.from_pretrained(arguments.model, revision=arguments.revision)
    model = MiniCPMVForConditionalGeneration.from_pretrained(
        arguments.model, revision=arguments.revision, use_safetensors=True, dtype=arguments.dtype
    )
    stage = STAGES[arguments.stage]
    freeze(model, arguments.freeze or set(PARTS) - set(stage.trains))
    images = processor.image_processor
    images.slice_mode = model.config.slice_mode = stage.slicing
    if arguments.scale_resolution is not None:
        images.scale_resolution = model.config.image_size = arguments.scale_resolution
    return model, processor


def settings_of(arguments: StageArguments, training: TrainingArguments) -> dict[str, Any]:
    """What decides the result, as JSON gives it back: the stage, its inputs by content, the optimisation."""
    values = training.to_dict()
    settings = {
        **asdict(arguments),
        "data": {path: table_digest(path) for path in arguments.data},
        "trainer": {key: values[key] for key in DECIDING},
    }
    return json.loads(json.dumps(settings))


def is_finished(out: Path, settings: dict[str, Any]) -> bool:
    """Whether the stage lies there. Errors: ValueError: something else does, or the same with other settings."""
    record = out / "settings.json"
    if not record.is_file():
        if (out / "config.json").exists():
            raise ValueError(f"{out} holds a model that no stage wrote; name another output_dir")
        return False
    written = json.loads(record.read_text(encoding="utf-8"))
    changed = [key for key in settings if written.get(key) != settings[key]]
    if changed:
        raise ValueError(
            f"{out} was begun with other settings ({', '.join(changed)}); nothing in it is overwritten: name another "
            "output_dir, or remove that folder"
        )
    return (out / "training.json").is_file()


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def write_dropped(out: Path, paths: Sequence[str], tables: Sequence[Conversations]) -> None:
    problems = [(path, *problem) for path, table in zip(paths, tables, strict=True) for problem in table.problems]
    columns = {name: [problem[place] for problem in problems] for place, name in enumerate(DROPPED)}
    Dataset.from_dict(columns, features=DROPPED).to_parquet(out / "dropped.parquet")


def announce(
    arguments: StageArguments,
    tables: Sequence[Conversations],
    sequences: Sequences,
    model: MiniCPMVForConditionalGeneration,
) -> None:
    print(f"{arguments.stage}: goes on from {arguments.model}")
    for path, table in zip(arguments.data, tables, strict=True):
        print(f"  {path}: {len(table):,} rows, {sum(table.lengths):,} tokens; {len(table.problems):,} rows dropped")
    print(f"  {len(sequences):,} sequences, packing {arguments.packing}")
    for part, (trained, total) in parameter_counts(model).items():
        print(f"  {part}: {trained:,} of {total:,} parameters train")


def prepare(arguments: StageArguments, training: TrainingArguments) -> StageTrainer | None:
    """The trainer of a stage; None: it is finished. Errors: ValueError, OSError for what a user can put right."""
    check_arguments(arguments)
    check_start(arguments)
    out = output_folder(arguments, training)
    if is_finished(out, settings_of(arguments, training)):
        return None
    set_seed(training.seed)
    model, processor = load_model(arguments)
    longest = None if arguments.packing == "in_order" else arguments.sequence_length
    workers = training.dataloader_num_workers
    with training.main_process_first():
        rows = [read_table(path, out / "cache") for path in arguments.data]
    tables = [
        Conversations(table, processor, longest, workers, Path(path).parent)
        for path, table in zip(arguments.data, rows, strict=True)
    ]
    sequences = Sequences(tables, arguments, training.seed, processor.image_token_id)
    if not len(sequences):
        problems = [problem for table in tables for _, problem in table.problems]
        why = f"the first: {problems[0]}" if problems else "there is none"
        raise ValueError(f"no row of {', '.join(arguments.data)} can be learnt from; {why}")
    if training.process_index == 0:
        write_dropped(out, arguments.data, tables)
        announce(arguments, tables, sequences, model)
    pad = processor.tokenizer.pad_token_id

    def collate(rows: list[list[Sample]]) -> dict[str, torch.Tensor]:
        longest = max(sum(map(len, samples)) for samples in rows)
        return packed_batch(rows, longest if arguments.packing == "none" else arguments.sequence_length, pad)

    training.train_sampling_strategy = "random" if order_of(arguments) == "mixed" else "sequential"
    training.remove_unused_columns = False
    training.include_num_input_tokens_seen = "non_padding"
    return StageTrainer(
        model=model,
        args=training,
        data_collator=collate,
        train_dataset=sequences,
        processing_class=processor,
        compute_loss_func=square_averaged if arguments.averaging == "square" else None,
    )


def train(trainer: StageTrainer, arguments: StageArguments) -> None:
    """From the last checkpoint, if there is one, to the finished stage."""
    model, training = trainer.model, trainer.args
    assert isinstance(model, MiniCPMVForConditionalGeneration)
    out = output_folder(arguments, training)
    settings = settings_of(arguments, training)
    if trainer.is_world_process_zero():
        write_json(out / "settings.json", settings)
    frozen = [released_name(name) for name, parameter in model.named_parameters() if not parameter.requires_grad]
    cached, model.config.use_cache = model.config.use_cache, False
    trainer.train(resume_from_checkpoint=last_complete_checkpoint(out))
    model.config.use_cache = cached
    trainer.save_model()
    if trainer.is_world_process_zero():
        moved = moved_tensors(arguments.model, arguments.revision, out, frozen, model.dtype)
        assert not moved, f"a frozen part moved: {moved[0]}"
        (out / "training_args.bin").unlink()  # a pickle; settings.json says the same
        shutil.rmtree(out / "cache")
        write_json(out / "training.json", {**settings, "log": trainer.state.log_history})
        print(f"{arguments.stage}: {trainer.state.global_step:,} steps; the model is in {out}")


def parse(argv: Sequence[str] | None = None) -> tuple[StageArguments, TrainingArguments]:
    """A configuration file, `--key value` after it. Errors: ValueError, OSError; argparse ends the process itself."""
    kinds: Any = (StageArguments, TrainingArguments)
    parser = TrlParser(kinds, prog="python -m training.stage", description=SUMMARY)
    # without use_cpu, transformers refuses bf16 where there is no GPU
    parser.set_defaults(use_cpu=not torch.cuda.is_available(), dataloader_pin_memory=torch.cuda.is_available())
    try:
        arguments, training = parser.parse_args_and_config(argv)
    except FileNotFoundError as error:
        known = ", ".join(sorted(map(str, Path(error.filename).parent.glob("*.yaml")))) or "none"
        raise ValueError(f"no configuration file {error.filename}; in that folder there are: {known}") from error
    return arguments, training


def main(argv: Sequence[str] | None = None) -> int:
    try:
        arguments, training = parse(argv)
        trainer = prepare(arguments, training)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if trainer is None:
        print(f"{arguments.stage}: nothing to do; {training.output_dir} has it, made with these settings")
    else:
        train(trainer, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
