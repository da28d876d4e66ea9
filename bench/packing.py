"""Packed sequences against padded batches: tokens of content a second, in one run on one machine.

    make bench

Both ways train all of a model on the same rows in the same order through `model.train`; what differs is padding. The
mix of lengths is like the paper's: captions and short questions, each about an image, and long answers.
"""

import argparse
import io
import json
import random
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Features, Image, List, Value
from transformers import TrainingArguments, set_seed

from model import MiniCPMVConfig, MiniCPMVForConditionalGeneration
from model.embedded.scenes import render, sample_scene
from model.embedded.start import new_processor
from model.train import StageArguments, StageTrainer, prepare

# answers in words, and the share of rows that have such
MIX = {"caption": ((8, 30), 0.4), "question": ((1, 5), 0.35), "long answer": ((150, 700), 0.25)}
FEATURES = Features(
    {
        "images": List(Image()),
        "messages": List({"role": Value("string"), "content": Value("string")}),
    }
)


def rows(count: int, rng: random.Random) -> list[dict[str, Any]]:
    made = []
    for _ in range(count):
        shortest, longest = rng.choices([span for span, _ in MIX.values()], [share for _, share in MIX.values()])[0]
        answer = " ".join(rng.choices(["red", "star", "the", "left", "circle"], k=rng.randint(shortest, longest)))
        messages = [{"role": "user", "content": "Describe."}, {"role": "assistant", "content": answer}]
        made.append({"images": [render(sample_scene(rng))], "messages": messages})
    return made


def save_model(folder: Path, width: int, layers: int) -> int:
    """A random MiniCPM-V of this width; returns its number of parameters."""
    set_seed(0)
    processor = new_processor(0)
    config = MiniCPMVConfig(
        hidden_size=width,
        intermediate_size=width * 3,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        vocab_size=len(processor.tokenizer),
        image_token_id=processor.image_token_id,
        query_num=processor.image_processor.image_feature_size,
        image_size=processor.image_processor.scale_resolution,
        vision_config={
            "hidden_size": width // 2,
            "intermediate_size": width,
            "num_hidden_layers": 4,
            "num_attention_heads": width // 128,
        },
    )
    model = MiniCPMVForConditionalGeneration(config)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return sum(value.numel() for value in model.parameters())


def measure(packing: Any, folder: Path, sequence_length: int, batch: int, steps: int = -1) -> dict[str, float]:
    """One pass over the rows (or `steps` of it), and what the run's log says of it."""
    arguments = StageArguments(
        "sft-2",
        str(folder / "model"),
        [str(folder / "rows.parquet")],
        packing=packing,
        sequence_length=sequence_length,
        after_any=True,
    )
    training = TrainingArguments(
        output_dir=str(folder / f"{packing}-{steps}"),
        per_device_train_batch_size=batch,
        num_train_epochs=1,
        max_steps=steps,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        bf16=torch.cuda.is_available(),
    )
    with redirect_stdout(io.StringIO()):
        trainer = prepare(arguments, training)
        assert isinstance(trainer, StageTrainer)
        computed = 0  # tokens of the batches, padding included
        collate = trainer.data_collator

        def counted(rows: list[Any]) -> dict[str, torch.Tensor]:
            nonlocal computed
            made = collate(rows)
            computed += made["input_ids"].numel()
            return made

        trainer.data_collator = counted
        trainer.train()
    summary = trainer.state.log_history[-1]
    content, seconds = summary["num_input_tokens_seen"], summary["train_runtime"]
    return {
        "content tokens": content,
        "computed tokens": computed,
        "content share": round(content / computed, 3),
        "seconds": round(seconds, 1),
        "computed tokens / s": round(computed / seconds),
        "content tokens / s": round(content / seconds),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--sequence-length", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=16, help="rows of a padded batch")
    parser.add_argument("--packed-batch", type=int, default=2, help="sequences of a packed batch")
    parser.add_argument("--rows", type=int, default=192)
    arguments = parser.parse_args(argv)
    length = arguments.sequence_length
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        Dataset.from_list(rows(arguments.rows, random.Random(0)), features=FEATURES).to_parquet(folder / "rows.parquet")
        parameters = save_model(folder / "model", arguments.width, arguments.layers)
        print(f"{parameters:,} parameters, {arguments.rows} rows, {torch.get_num_threads()} threads")
        measure("best_fit", folder, length, arguments.packed_batch, steps=1)  # what only a process's first step pays
        figures = {
            "padded": measure("none", folder, length, arguments.batch),
            "packed": measure("best_fit", folder, length, arguments.packed_batch),
        }
        print(json.dumps(figures, indent=1))
        ratio = figures["packed"]["content tokens / s"] / figures["padded"]["content tokens / s"]
        print(f"packed / padded: {ratio:.2f} times as many tokens of content a second")


if __name__ == "__main__":
    main()
