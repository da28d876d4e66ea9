"""Answer a text about a picture with the export of a run, one part after the other.

    python -m edge.answer --config configs/demo.yaml --run runs/demo --image picture.png --text "Describe this image."

As in the paper (arXiv 2408.01800, section 5), the vision part encodes the picture and is released before the language
model is loaded, so that the most memory at a time is that of the larger part and not the sum. Each part is a process of
its own, so the machine gets its memory back whole. `--joint` keeps both parts in one process, for comparison; the
answer is the same. The features go into the language model as embeddings, so every grid of slices is exact.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rlaif.command import run_stage
from rlaif.config import Config
from rlaif.errors import ConfigError, InputError

if TYPE_CHECKING:
    from edge.language import Generated
    from edge.settings import Settings
    from edge.slices import Floats, Prompt, Slices
    from edge.vision.encoder import VisionEncoder

VisionPart: TypeAlias = tuple[Path, Path, str]  # policy folder, export folder, device
LanguagePart: TypeAlias = "tuple[Path, Settings, int]"  # file, settings, most tokens of an answer


@dataclass(frozen=True)
class Encoded:
    """The features [S, Q, D] of a picture, what computed them, and how long that took once it was loaded."""

    features: "Floats"
    where: str
    seconds: float


@dataclass(frozen=True)
class Answer:
    """An answer, and the peak memory in bytes of each part that made it, in the order in which they ran."""

    text: str
    generated: "Generated"
    encoded: "Encoded | None"
    peaks: dict[str, int]


def answer_picture(
    policy: Path, folder: Path, picture: bytes | None, text: str, max_tokens: int, quant: str, device: str, joint: bool
) -> Answer:
    """Answer with the export in `folder` of the policy, whose processor is read.

    picture: an encoded file; None: text alone. joint: keep the vision part beside the language model.
    Errors: InputError: the picture cannot be read, or a part of the export is missing; ModelError: a part fails.
    """
    from edge.parts import run_part
    from edge.settings import read_settings

    vision = (policy, folder, device)
    language = (find_language(folder, quant), read_settings(folder), max_tokens)
    prompt, prompt_peak = run_part("prompt", read_prompt, policy, picture, text)
    peaks = {"prompt": prompt_peak}
    if joint and prompt.slices is not None:
        both, peaks["vision and language"] = run_part("vision and language", encode_and_write, vision, language, prompt)
        return Answer(*both, peaks)
    encoded = None
    if prompt.slices is not None:
        encoded, peaks["vision"] = run_part("vision", encode, vision, prompt.slices)
    features = None if encoded is None else encoded.features
    written, peaks["language"] = run_part("language", write_answer, language, prompt, features)
    return Answer(*written, encoded, peaks)


def find_language(folder: Path, quant: str) -> Path:
    """The language model of an export. Errors: InputError where it does not exist."""
    file = folder / f"language-{quant}.gguf"
    if not file.is_file():
        known = ", ".join(sorted(path.stem.removeprefix("language-") for path in folder.glob("language-*.gguf")))
        raise InputError(
            f"{file} is missing, {folder} has {known or 'no language model'}; run "
            f"`make export-edge RUN={folder.parent} QUANT={quant}`"
        )
    return file


def read_prompt(policy: Path, picture: bytes | None, text: str) -> "Prompt":
    """The part that needs the processor of the policy."""
    from edge.policy import load_processor
    from edge.prompt import encode_prompt

    return encode_prompt(load_processor(policy), picture, text)


def encode(vision: VisionPart, slices: "Slices") -> Encoded:
    """The part that encodes a picture."""
    encoder = open_vision(vision)
    encoded = features_of(encoder, slices)
    encoder.close()
    return encoded


def write_answer(language: LanguagePart, prompt: "Prompt", features: "Floats | None") -> "tuple[str, Generated]":
    """The part that writes: the text, and how it came about."""
    from edge.language import LanguageModel

    file, settings, max_tokens = language
    with LanguageModel(file, settings, len(prompt.ids) + max_tokens) as model:
        generated = model.generate(prompt, features, max_tokens)
        return model.text(generated.ids), generated


def encode_and_write(vision: VisionPart, language: LanguagePart, prompt: "Prompt") -> "tuple[str, Generated, Encoded]":
    """Both parts, loaded at the same time."""
    from edge.language import LanguageModel

    assert prompt.slices is not None
    file, settings, max_tokens = language
    encoder = open_vision(vision)
    with LanguageModel(file, settings, len(prompt.ids) + max_tokens) as model:
        encoded = features_of(encoder, prompt.slices)
        generated = model.generate(prompt, encoded.features, max_tokens)
        text = model.text(generated.ids)
    encoder.close()
    return text, generated, encoded


def open_vision(vision: VisionPart) -> "VisionEncoder":
    from edge.vision.encoder import open_encoder

    policy, folder, device = vision
    return open_encoder(folder, device, policy)


def features_of(encoder: "VisionEncoder", slices: "Slices") -> Encoded:
    start = time.perf_counter()
    features = encoder.encode(slices)
    return Encoded(features, encoder.where, time.perf_counter() - start)


def summary(answer: Answer) -> str:
    """The peak memory of each part and the largest of them, then the speed, as text for the terminal."""
    generated = answer.generated
    lines = [f"{name:20} {megabytes(peak):>9} at most" for name, peak in answer.peaks.items()]
    lines.append(f"{'at a time':20} {megabytes(max(answer.peaks.values())):>9} at most")
    if answer.encoded is not None:
        slices, where = len(answer.encoded.features), answer.encoded.where
        lines.append(f"{slices} slices encoded in {answer.encoded.seconds:.2f} s ({where})")
    speed = len(generated.ids) / generated.seconds if generated.seconds else 0.0
    lines.append(
        f"{generated.prompt_tokens} tokens of the prompt read in {generated.prompt_seconds:.2f} s, "
        f"{len(generated.ids)} written in {generated.seconds:.2f} s ({speed:.1f} a second)"
    )
    if generated.finish_reason == "length":
        lines.append("the answer was cut: raise evaluation.max_tokens")
    return "\n".join(lines)


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def run(config: Config, path: Path, image: str, text: str, quant: str, device: str, joint: bool) -> None:
    from edge.policy import policy_folder, run_policy

    if not text.strip():
        raise ConfigError("the text is empty, expected a question or an instruction; give one with TEXT=")
    picture = read_picture(Path(image)) if image else None
    section, _ = run_policy(config, path)
    answer = answer_picture(
        policy_folder(section), path / "edge", picture, text, config.evaluation.max_tokens, quant, device, joint
    )
    print(answer.text)
    print()
    print(summary(answer))


def read_picture(file: Path) -> bytes:
    """The bytes of a picture. Errors: InputError where there is no such file."""
    if not file.is_file():
        raise InputError(f"{file} is not a file, expected a picture such as a JPEG or PNG file; correct IMAGE=")
    return file.read_bytes()


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--image", default="", metavar="FILE", help="picture; without one the text alone is answered")
    options.add_argument("--text", required=True, help="question or instruction")
    options.add_argument("--quant", default="Q4_K_M", help="which of the exported language models; default Q4_K_M")
    options.add_argument("--device", default="cpu", help="what encodes the picture; default cpu")
    options.add_argument("--joint", action="store_true", help="keep both parts in memory, to compare the peaks")
    return run_stage(
        Config, "edge.answer", "Answers a text about a picture with the export of a run.", run, argv, options
    )


if __name__ == "__main__":
    sys.exit(main())
