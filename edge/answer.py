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
from typing import TYPE_CHECKING

from rlaif.command import run_stage
from rlaif.config import Config
from rlaif.errors import ConfigError, InputError

if TYPE_CHECKING:
    from edge.language import Generated
    from edge.policy import Policy
    from edge.settings import Settings
    from edge.slices import Floats, Prompt, Slices
    from edge.vision.encoder import VisionEncoder


@dataclass(frozen=True)
class VisionPart:
    """What encodes pictures: the export of `policy` in the run folder, on a device, for a Snapdragon (`soc`)."""

    policy: "Policy"
    run: Path
    device: str
    soc: str


@dataclass(frozen=True)
class LanguagePart:
    """What writes: a GGUF file, its settings, and the most tokens of an answer."""

    file: Path
    settings: "Settings"
    max_tokens: int


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


def answer_picture(vision: VisionPart, language: LanguagePart, picture: Path | None, text: str, joint: bool) -> Answer:
    """Answer a text about a picture, or alone.

    joint: keep the vision part beside the language model.
    Errors: InputError: the picture cannot be read, or the vision part is missing or of another policy; ModelError: a
    part fails.
    """
    from edge.parts import run_part

    prompt, prompt_peak = run_part("prompt", read_prompt, vision.policy.folder, picture, text)
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


def read_prompt(policy: Path, picture: Path | None, text: str) -> "Prompt":
    """The part that needs the processor of the policy. Errors: InputError where the picture cannot be read."""
    from edge.policy import load_processor
    from edge.prompt import encode_prompt

    processor = load_processor(policy)
    if picture is None:
        return encode_prompt(processor, None, text)
    return encode_prompt(processor, picture.read_bytes(), text, name=str(picture))


def encode(vision: VisionPart, slices: "Slices") -> Encoded:
    """The part that encodes a picture."""
    encoder = open_vision(vision)
    encoded = features_of(encoder, slices)
    encoder.close()
    return encoded


def write_answer(language: LanguagePart, prompt: "Prompt", features: "Floats | None") -> "tuple[str, Generated]":
    """The part that writes: the text, and how it came about."""
    from edge.language import LanguageModel

    with LanguageModel(language.file, language.settings, len(prompt.ids) + language.max_tokens) as model:
        generated = model.generate(prompt, features, language.max_tokens)
        return model.text(generated.ids), generated


def encode_and_write(vision: VisionPart, language: LanguagePart, prompt: "Prompt") -> "tuple[str, Generated, Encoded]":
    """Both parts, loaded at the same time."""
    from edge.language import LanguageModel

    assert prompt.slices is not None
    encoder = open_vision(vision)
    with LanguageModel(language.file, language.settings, len(prompt.ids) + language.max_tokens) as model:
        encoded = features_of(encoder, prompt.slices)
        generated = model.generate(prompt, encoded.features, language.max_tokens)
        text = model.text(generated.ids)
    encoder.close()
    return text, generated, encoded


def open_vision(vision: VisionPart) -> "VisionEncoder":
    from edge.policy import check_exported
    from edge.vision.encoder import device_files, open_encoder

    folder = vision.run / "edge"
    encoder = open_encoder(folder, vision.device, vision.policy.folder, vision.soc)
    if vision.device != "torch":  # which reads the policy itself
        file = device_files(folder, vision.device, vision.soc)[0]
        check_exported(file, encoder.revision, vision.policy, f"make edge-vision RUN={vision.run}")
    return encoder


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
    else:
        lines.append("no picture was given: IMAGE=FILE gives one")
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


def run(config: Config, path: Path, image: str, text: str, quant: str, device: str, soc: str, joint: bool) -> None:
    from edge.gguf.names import check_current, find_language
    from edge.policy import Policy
    from edge.settings import read_settings
    from edge.vision.encoder import check_device

    if not text.strip():
        raise ConfigError("the text is empty, expected a question or an instruction; give one with TEXT=")
    device = check_device(device)
    picture = find_picture(Path(image)) if image else None
    policy = Policy.of(config, path)
    file = find_language(path, quant)
    check_current(file, policy, path, quant)
    language = LanguagePart(file, read_settings(path / "edge"), config.evaluation.max_tokens)
    answer = answer_picture(VisionPart(policy, path, device, soc), language, picture, text, joint)
    print(answer.text)
    print()
    print(summary(answer))


def find_picture(file: Path) -> Path:
    """Errors: InputError where there is no such file."""
    if not file.is_file():
        raise InputError(f"{file} is not a file, expected a picture such as a JPEG or PNG file; correct IMAGE=")
    return file


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--image", default="", metavar="FILE", help="picture; without one the text alone is answered")
    options.add_argument("--text", required=True, help="question or instruction")
    options.add_argument("--quant", default="Q4_K_M", help="which of the exported language models; default Q4_K_M")
    options.add_argument("--device", default="cpu", help="what encodes the picture; default cpu")
    options.add_argument(
        "--soc",
        default="snapdragon-8-gen-3",
        metavar="NAME",
        help="Snapdragon that the graphs of the devices qnn and qnn-a16w8 were compiled for",
    )
    options.add_argument("--joint", action="store_true", help="keep both parts in memory, to compare the peaks")
    return run_stage(
        Config, "edge.answer", "Answers a text about a picture with the export of a run.", run, argv, options
    )


if __name__ == "__main__":
    sys.exit(main())
