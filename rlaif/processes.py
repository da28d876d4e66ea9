"""Training on several processes: the first one holds the run folder, the others wait for it and end with it."""

import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from accelerate import DistributedType, PartialState
from accelerate.utils import broadcast_object_list
from transformers import Trainer, TrainingArguments
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from transformers.utils.logging import disable_progress_bar

from rlaif.command import SECONDS_FOR_THE_FIRST
from rlaif.errors import RlaifError, RunMismatchError
from rlaif.storage.files import read_json, write_json

Result = TypeVar("Result")

SHARED_MEMORY, LEAST_SHARED_MEMORY = Path("/dev/shm"), 2**30
MOST_WORKERS = 4  # 70 ms an image of ten slices: more than a step takes of them
RECORD = "processes.json"  # beside the checkpoints: by which processes they are written


def device_defaults() -> dict[str, Any]:
    """Arguments of a Trainer that follow from the machine and the launcher."""
    gpu = torch.cuda.is_available()
    defaults: dict[str, Any] = {
        # without a GPU, transformers refuses bf16 otherwise; with it, accelerate does not shard
        "use_cpu": not gpu and not uses_fsdp() and not uses_deepspeed(),
        "dataloader_pin_memory": gpu,
        "dataloader_num_workers": loader_workers(),
        "ddp_timeout": 3 * 3600,  # seconds in which the first process has read all tables, while the others wait
    }
    if not gpu and "LOCAL_RANK" in os.environ:
        defaults["ddp_backend"] = "gloo"
        if uses_deepspeed():
            import deepspeed

            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # DeepSpeed would compile it
    return defaults


def loader_workers() -> int:
    """Processes that cut images and collate batches while a GPU trains: up to four for each training process.

    None without a GPU, as they would take the cores that train; and none where shared memory, through which batches are
    handed over, is small, as in a container that was started without --shm-size or --ipc=host.
    """
    if not torch.cuda.is_available() or not SHARED_MEMORY.is_dir():
        return 0
    if shutil.disk_usage(SHARED_MEMORY).total < LEAST_SHARED_MEMORY:
        return 0
    cores = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(0, min(MOST_WORKERS, cores - 1))


def uses_fsdp() -> bool:
    """Whether the launcher asks for FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"


def uses_deepspeed() -> bool:
    """Whether the launcher asks for DeepSpeed."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true"


def launched_sharding() -> str:
    """What the launcher asks for, before there are arguments: ddp where the weights are not divided, fsdp or zero."""
    return "fsdp" if uses_fsdp() else "zero" if uses_deepspeed() else "ddp"


def settle_process(args: TrainingArguments) -> None:
    """One GPU for each process, sharding on the CPU too, and progress bars from the first process alone.

    Private: transformers would wrap the model in nn.DataParallel where one process sees several GPUs, which tears pairs
    of answers apart; accelerate shards only for processes that it takes to have a GPU each.
    """
    if args.n_gpu > 1:
        args._n_gpu = 1
    if uses_fsdp() and args.device.type == "cpu":
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    if args.process_index:
        disable_progress_bar()
        os.environ["TQDM_DISABLE"] = "1"


class ShardedTrainer:
    """Mixed into a Trainer: what FSDP2 shards, and in which precision."""

    def create_accelerator_and_postprocess(self: Any) -> None:
        """Accelerate wants the names of layers that the model has, and would round what the model returns to bfloat16,
        log-probs included, and gradients before they are summed over processes.
        """
        super().create_accelerator_and_postprocess()  # type: ignore[misc]
        plugin = getattr(self.accelerator.state, "fsdp_plugin", None)
        if plugin is not None and plugin.fsdp_version == 2:
            names = set(self.model._no_split_modules or ())
            plugin.transformer_cls_names_to_wrap = sorted(
                names & {type(part).__name__ for part in self.model.modules()}
            )
            if (policy := plugin.mixed_precision_policy) is not None:
                plugin.mixed_precision_policy = replace(policy, reduce_dtype=torch.float32, output_dtype=None)


def use_of_processes(args: TrainingArguments, samples: str) -> str | None:
    """A line for people: the processes and what they share; for one of them, how to use the other GPUs of this machine,
    or None if there are none. samples: what a batch has, such as "pairs".
    """
    if args.world_size > 1:
        size = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        return f"{args.world_size} processes, sharding {sharding(args)}; a step has {size:,} {samples}"
    gpus = torch.cuda.device_count()
    if gpus < 2:
        return None
    return f"uses one of {gpus} GPUs; to use all, add PROCESSES={gpus} to the command (one GPU: CUDA_VISIBLE_DEVICES=0)"


def on_first_process(args: TrainingArguments, action: Callable[[], Result]) -> Result:
    """The result of `action`, which only the first of all processes runs; an error ends the others too."""
    outcome: list[Any] = [None]
    if args.process_index == 0:
        try:
            outcome[0] = action()
        except (RlaifError, OSError) as error:
            outcome[0] = error
    broadcast_object_list(outcome)
    result = outcome[0]
    if isinstance(result, RlaifError | OSError):
        if args.process_index == 0:
            raise result
        time.sleep(SECONDS_FOR_THE_FIRST)
        sys.exit(2)  # the first process prints the error
    return cast(Result, result)


def sharding(args: TrainingArguments) -> str:
    """How the processes share the model: ddp (each has a copy of it), fsdp1, fsdp2, zero1, zero2 or zero3."""
    if args.deepspeed_plugin is not None:
        return f"zero{args.deepspeed_plugin.zero_stage}"
    return f"fsdp{os.environ.get('FSDP_VERSION', '1')}" if uses_fsdp() else "ddp"


def check_checkpoint(folder: Path, checkpoint: str | None, args: TrainingArguments) -> None:
    """Check that the processes are like those that wrote a checkpoint of a folder.

    Others would continue with other rows, as a step has as many batches as there are processes.
    Errors: RunMismatchError.
    """
    file, now = folder / RECORD, _record(args)
    if checkpoint is None or not file.is_file() or (then := read_json(file)) == now:
        return
    command = f"PROCESSES={then['processes']}"
    if then["sharding"] != "ddp":
        command += f" SHARDING={then['sharding']}"
    raise RunMismatchError(
        f"{checkpoint} was written by {_words(then)}, and this start has {_words(now)}; resume with {command}, or use "
        f"another RUN=, or delete {folder} to start over"
    )


def record_processes(folder: Path, args: TrainingArguments) -> None:
    """Write down which processes write the checkpoints of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RECORD, _record(args))


def _record(args: TrainingArguments) -> dict[str, Any]:
    return {"processes": args.world_size, "sharding": sharding(args)}


def _words(record: dict[str, Any]) -> str:
    count, kind = record["processes"], record["sharding"]
    return f"{count} process{'es' * (count > 1)}" + (f" with {kind}" if kind != "ddp" else "")


def whole_state(trainer: Trainer) -> dict[str, torch.Tensor]:
    """The weights of a model that is distributed over processes, on the first one in full, on its CPU.

    All processes must call it. Afterwards models are loaded in full, without DeepSpeed.
    """
    state: dict[str, torch.Tensor] = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    unset_hf_deepspeed_config()
    return state
