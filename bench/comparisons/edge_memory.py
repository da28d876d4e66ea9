"""Peak memory of an answer about a picture: vision part and language model one after the other, and both at once.

    python -m bench.comparisons.edge_memory     takes a minute

The model is a random one of middle size, whose weights outweigh the libraries. Each part is a process of its own, as in
`make edge-answer`; its peak is the most that was resident, libraries included. Heavy imports are deferred, because each
process imports this module.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.answer import LanguagePart, VisionPart, encode, encode_and_write, write_answer
from edge.parts import run_part
from edge.policy import Policy, load_processor
from edge.prompt import encode_prompt
from edge.settings import Settings
from edge.vision.qnn import DEFAULT_SOC
from rlaif.config import Config
from rlaif.progress import progress_bar

QUANTS = ("f16", "Q4_K_M")
DEVICE, MAX_TOKENS = "cpu", 4


@dataclass(frozen=True)
class Peaks:
    """In bytes: the weights of both parts on disk, and the peak of each part and of both at once."""

    vision_weights: int
    language_weights: int
    vision: int
    language: int
    joint: int

    @property
    def sequence(self) -> int:
        """Of one part after the other."""
        return max(self.vision, self.language)


def save_middle_model(folder: Path) -> None:
    """50 million random parameters: both parts have more than 50 MB."""
    from bench.models import save_model

    save_model(folder, width=768, layers=4, vision_layers=14)


def measure(folder: Path, run: Path, quant: str) -> Peaks:
    """The peaks of an answer by the export of the policy in `folder`, written into the run where it is missing."""
    from bench.models import picture
    from edge.gguf.export import ensure_language
    from edge.vision.export import ensure_vision

    config = Config.model_validate({"policy": {"model": str(folder)}, "labeler": {"model": str(folder)}})
    run.mkdir(exist_ok=True)
    policy = Policy.of(config, run)
    language_file = ensure_language(policy, run, quant)
    vision_files = ensure_vision(config, policy, run, DEVICE)
    prompt = encode_prompt(load_processor(folder), picture(random.Random(0), side=200), "Describe this image.")
    vision = VisionPart(policy, run, DEVICE, DEFAULT_SOC)
    language = LanguagePart(language_file, Settings(threads=1), MAX_TOKENS)
    encoded, vision_peak = run_part("vision", encode, vision, prompt.slices)
    (text, _), language_peak = run_part("language", write_answer, language, prompt, encoded.features)
    (joint_text, _, _), joint_peak = run_part("both", encode_and_write, vision, language, prompt)
    assert text == joint_text
    return Peaks(
        vision_weights=sum(file.stat().st_size for file in vision_files),
        language_weights=language_file.stat().st_size,
        vision=vision_peak,
        language=language_peak,
        joint=joint_peak,
    )


def table(peaks: dict[str, Peaks]) -> str:
    """By quantization, in MB."""
    columns = (
        "language model",
        "its weights",
        "vision weights",
        "vision part",
        "writing",
        "in sequence",
        "both at once",
    )
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for quant, found in peaks.items():
        sizes = (
            found.language_weights,
            found.vision_weights,
            found.vision,
            found.language,
            found.sequence,
            found.joint,
        )
        lines.append("| " + " | ".join([quant, *(f"{size / 1e6:,.0f} MB" for size in sizes)]) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    argparse.ArgumentParser(
        prog="python -m bench.comparisons.edge_memory", description=(__doc__ or "").splitlines()[0]
    ).parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        policy, run = Path(temporary) / "model", Path(temporary) / "run"
        save_middle_model(policy)
        with progress_bar("peaks", "quantization", len(QUANTS), 0) as bar:
            peaks = {}
            for quant in QUANTS:
                peaks[quant] = measure(policy, run, quant)
                bar.update()
    print(table(peaks))
    return 0


if __name__ == "__main__":
    sys.exit(main())
