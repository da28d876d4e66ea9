"""The Modelfile for Ollama and the card of an export, RUN/edge/README.md.

Everything in them comes from the files beside them: what their headers record, and what `make edge-check` measured.
"""

import json
from pathlib import Path
from typing import Any

from edge.gguf.file import read_header, read_text
from edge.gguf.names import MMPROJ, REVISION
from rlaif.report.figures import format_with_interval
from rlaif.storage.files import atomic_write, read_json

TEMPLATE = Path(__file__).with_name("card.md.j2")
POSITIONS = {
    "bucket_1d": "counted row by row",
    "bucket_2d": "row and column of its own table",
    "interpolate": "its table interpolated to the slice",
}
CONTEXT = 4096  # tokens for Ollama: ten slices and a long answer

# Ollama has templates of its own kind (Go). Version 2.5 has Llama 3's turns, 2.6 those of ChatML.
TURNS = {
    "llama": "<|start_header_id|>{role}<|end_header_id|>\n\n{content}<|eot_id|>",
    "qwen2": "<|im_start|>{role}\n{content}<|im_end|>\n",
}


def recommended(folder: Path) -> Path:
    """The language model that a user should run: Q4_K_M, or the smallest that there is, of the current policy."""
    files = sorted(current_languages(folder), key=lambda file: file.stat().st_size)
    return next((file for file in files if file.stem.endswith("Q4_K_M")), files[0])


def current_languages(folder: Path) -> list[Path]:
    """The language models of the same policy as language-f16.gguf, itself among them."""
    revision = read_text(folder / "language-f16.gguf", REVISION)
    return [file for file in sorted(folder.glob("language-*.gguf")) if read_text(file, REVISION) == revision]


def write_modelfile(folder: Path) -> Path:
    """Write Modelfile; returns its path. Errors: InputError: the language model is damaged."""
    language = recommended(folder)
    header = read_header(language)
    tokens = header.metadata["tokenizer.ggml.tokens"]
    architecture = header.metadata["general.architecture"]
    stop = tokens[header.metadata["tokenizer.ggml.eot_token_id"]]
    first = ""
    if architecture == "llama":  # llama.cpp adds no first token: the template writes it
        first = tokens[header.metadata["tokenizer.ggml.bos_token_id"]]
    context = min(header.metadata[f"{architecture}.context_length"], CONTEXT)
    file = folder / "Modelfile"
    with atomic_write(file) as temporary:
        temporary.write_text(
            f"# ollama create NAME -f Modelfile\n"
            f"FROM ./{language.name}\n"
            f"FROM ./{MMPROJ}\n"
            f'TEMPLATE """{ollama_template(architecture, first)}"""\n'
            f"PARAMETER stop {json.dumps(stop)}\n"
            f"PARAMETER num_ctx {context}\n"
            f"PARAMETER temperature 0\n",
            encoding="utf-8",
        )
    return file


def ollama_template(architecture: str, first: str) -> str:
    """A system prompt if there is one, the user's turn, and the start of the answer."""
    turn = TURNS[architecture]
    system = turn.format(role="system", content="{{ .System }}")
    user = turn.format(role="user", content="{{ .Prompt }}")
    answer = turn.format(role="assistant", content="{{ .Response }}")
    return f"{first}{{{{ if .System }}}}{system}{{{{ end }}}}{user}{answer}"


def write_card(folder: Path) -> Path:
    """Write README.md; returns its path. Errors: InputError: mmproj or a language model is damaged."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    mmproj = read_header(folder / MMPROJ).metadata
    language = read_header(folder / "language-f16.gguf").metadata
    architecture = language["general.architecture"]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    checked = read_json(folder / "check.json") if (folder / "check.json").is_file() else []
    rows = [row for row in checked if row["revision"] == language[REVISION]]
    models = [*current_languages(folder), folder / MMPROJ]
    content = environment.get_template(TEMPLATE.name).render(
        name=language["rlaif.policy"],
        run=folder.parent,
        origin={key: language[key] for key in (REVISION, "rlaif.code_version", "rlaif.llama_cpp")},
        files=[(file.name, file.stat().st_size / 1e6) for file in models],
        language=recommended(folder).name,
        version={"llama": "2.5", "qwen2": "2.6"}[architecture],
        image_size=mmproj["clip.vision.image_size"],
        positions=POSITIONS[mmproj["rlaif.positions"]],
        positions_exact=mmproj["rlaif.positions_exact"],
        score_error=mmproj["rlaif.score_error"],
        width=language["rlaif.embedding_width"],
        padded=language[f"{architecture}.embedding_length"],
        checks=[check_cells(row) for row in rows],
        remarks=[f"{row['export']}: {row['remark']}" for row in rows if row["remark"]],
    )
    target = folder / "README.md"
    with atomic_write(target) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return target


def check_cells(row: dict[str, Any]) -> list[str]:
    """A row of check.json as the card shows it."""

    def number(name: str, form: str, divisor: float = 1) -> str:
        return "-" if row[name] is None else format(row[name] / divisor, form)

    return [
        row["export"],
        f"{row['same_answers']} of {row['pictures']}",
        *(number(name, ".1e") for name in ("kl_mean", "kl_max", "feature_error")),
        number("bytes", ",.2f", 1e6),
        number("peak_bytes", ",.0f", 1e6),
        number("tokens_per_second", ",.0f"),
        *(format_with_interval(name, row[name], row["intervals"].get(name)) for name in ("mention_rate", "recall")),
    ]
