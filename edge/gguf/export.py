"""Writes the policy of a run for llama.cpp.

    make export-edge RUN=runs/demo QUANT=Q4_K_M
    python -m edge.gguf --config configs/demo.yaml --run runs/demo --quant Q4_K_M

Reads the policy (RUN/policy, or that of the configuration) and writes into RUN/edge:

| file                   | what                                                                                    |
|------------------------|-----------------------------------------------------------------------------------------|
| language-f16.gguf      | language model, tokenizer, chat template; what the others are quantized from            |
| language-<QUANT>.gguf  | one of QUANTS, by the llama.cpp that `make edge-runtime` compiled                       |
| mmproj-f16.gguf        | vision encoder and resampler                                                            |
| Modelfile              | for Ollama                                                                              |
| README.md              | card: how to run it, where llama.cpp differs from the model, what `make edge-check` found |

A file of the same policy is kept, any other is written again. Each names its origin under `rlaif.*`.
"""

from collections.abc import Sequence
from pathlib import Path

from edge.gguf.card import current_languages, write_card, write_modelfile
from edge.gguf.file import Value, read_header, write_file
from edge.gguf.language import ARCHITECTURES, language_metadata, language_tensors
from edge.gguf.mmproj import build_mmproj
from edge.gguf.names import MMPROJ, REVISION, check_quants
from edge.gguf.tokenizer import tokenizer_metadata
from edge.gguf.weights import Weights
from edge.policy import Policy, load_processor, locked_folder
from edge.runtime import program
from edge.runtime.installed import PACKAGE, package_version
from model import MiniCPMVConfig, MiniCPMVProcessor
from rlaif.config import Config
from rlaif.errors import InputError
from rlaif.storage.files import atomic_write
from rlaif.storage.versions import code_version

EXPORT_VERSION = 1  # raise it when other files are written from the same policy


def origin(policy: Policy) -> dict[str, Value]:
    """What decides the content of each file: one with other values is written again."""
    return {
        "rlaif.policy": policy.name,
        REVISION: policy.revision,
        "rlaif.export_version": EXPORT_VERSION,
        "rlaif.llama_cpp": f"{PACKAGE} {package_version()}",
    }


def recorded(policy: Policy) -> dict[str, Value]:
    """What each file records."""
    return {**origin(policy), "rlaif.code_version": code_version()}


def export_gguf(config: Config, run: Path, quants: Sequence[str]) -> list[Path]:
    """Write f16, these quantizations, mmproj, Modelfile and card; returns the files. Errors: RlaifError."""
    check_quants(quants)
    policy, folder = Policy.of(config, run), locked_folder(run)
    before = _times(folder)
    language = [write_language(policy, folder)]
    language += [quantize(policy, folder, quant) for quant in quants if quant != "f16"]
    mmproj = write_mmproj(policy, folder)
    texts = [write_modelfile(folder), write_card(folder)]
    after = _times(folder)
    print(f"export-edge: {folder}")
    for file in (*language, mmproj):
        what = "kept" if after[file] == before.get(file) else "wrote"
        print(f"  {what:8} {file} ({file.stat().st_size / 1e6:,.2f} MB)")
    for file in texts:
        print(f"  wrote    {file}")
    for file in sorted({*folder.glob("language-*.gguf")} - {*current_languages(folder)}):
        print(
            f"  old      {file} is of another policy; write it again with QUANT={file.stem.removeprefix('language-')}"
        )
    print(f"  next     make edge-vision RUN={run}, then make edge-answer RUN={run} IMAGE=FILE TEXT=QUESTION")
    return [*language, mmproj, *texts]


def _times(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.glob("*.gguf")}


def ensure_language(policy: Policy, run: Path, quant: str) -> Path:
    """The language model in a quantization, written where it is missing or of another policy."""
    check_quants([quant])
    folder = locked_folder(run)
    file = write_language(policy, folder)
    return file if quant == "f16" else quantize(policy, folder, quant)


def ensure_mmproj(policy: Policy, run: Path) -> Path:
    """The vision part, written where it is missing or of another policy."""
    return write_mmproj(policy, locked_folder(run))


def is_current(file: Path, policy: Policy) -> bool:
    """Whether a file was written from this policy, as it would be written now."""
    if not file.is_file():
        return False
    try:
        header = read_header(file)
    except InputError as error:
        print(f"{error}; it is written again")
        return False
    return origin(policy).items() <= header.metadata.items()


def write_language(policy: Policy, folder: Path) -> Path:
    """language-f16.gguf. Errors: ModelError: the policy is not what its config.json says."""
    file = folder / "language-f16.gguf"
    if not is_current(file, policy):
        config = MiniCPMVConfig.from_pretrained(policy.folder)
        with Weights.open(policy.folder) as weights:
            tensors = language_tensors(weights, config)
            values = language_metadata(config, policy.name)
            values |= tokenizer_metadata(load_processor(policy.folder), config.vocab_size)
            write_file(file, ARCHITECTURES[config.version], values | recorded(policy), tensors)
    return file


def quantize(policy: Policy, folder: Path, quant: str) -> Path:
    """language-<QUANT>.gguf, from language-f16.gguf.

    Errors: ModelError: llama.cpp is not compiled, or refuses the file.
    """
    file = folder / f"language-{quant}.gguf"
    if not is_current(file, policy):
        with atomic_write(file) as temporary:
            program.quantize(folder / "language-f16.gguf", temporary, quant)
    return file


def write_mmproj(policy: Policy, folder: Path) -> Path:
    """mmproj-f16.gguf. Errors: ModelError: llama.cpp cannot compute this vision part."""
    file = folder / MMPROJ
    if not is_current(file, policy):
        config = MiniCPMVConfig.from_pretrained(policy.folder)
        processor: MiniCPMVProcessor = load_processor(policy.folder)
        with Weights.open(policy.folder) as weights:
            mmproj = build_mmproj(weights, config, processor.image_processor, policy.name)
            write_file(file, "clip", mmproj.metadata | recorded(policy), mmproj.tensors)
    return file
