"""Two images with responses, and a scripted labeler that knows the truth: feedback without a model."""

import hashlib
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from PIL import Image

import feedback.stage as stage
from rlaif.config import Config
from rlaif.config.load import load_config
from rlaif.inference.engine import Request
from rlaif.storage.files import make_id
from rlaif.storage.run import Run
from rlaif.storage.writer import TableWriter
from tests.support import EMBEDDED_PROMPTS
from tests.support.doubles import ScriptedEngine

# The object of each image, and the responses to the image: (text, finish_reason).
TRUE = {"red": "a red circle", "blue": "a blue square"}
RESPONSES = {
    "red": [
        ("There is a red circle. There is a blue square. It is nice.", "stop"),
        ("There is a red circle.", "stop"),
        (" \n", "stop"),
        ("There is a red", "length"),
        ("It is nice.", "stop"),
        ("There is  a red circle.", "stop"),
    ],
    "blue": [("There is a blue square.", "stop"), ("There is a blue square. There is a blue square.", "stop")],
}


def png(color: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40), color).save(buffer, "PNG")
    return buffer.getvalue()


def labeler(request: Request) -> list[str] | dict[int, float]:
    """Splits at full stops, skips "nice", and knows the truth: p_yes 0.7 and p_no 0.2, or the reverse."""
    if request.json_schema is not None:
        sentences = [part.strip() for part in request.text.partition("Text: ")[2].split(".")]
        facts = [" ".join(sentence.split()) for sentence in sentences if sentence and "nice" not in sentence]
        claims = [{"claim": f"{fact}.", "question": fact.replace("There is", "Is there") + "?"} for fact in facts]
        return [json.dumps({"claims": claims})]
    assert request.image is not None
    color = next(color for color in TRUE if request.image == png(color))
    wrong = next(other for other in TRUE if other != color)
    p_yes, p_no = (0.2, 0.7) if TRUE[wrong] in request.text else (0.7, 0.2)
    return {1: math.log(p_yes / 2), 2: math.log(p_yes / 2), 3: math.log(p_no), 4: -math.inf}


def prompt_id(color: str) -> str:
    return make_id(hashlib.sha256(png(color)).hexdigest(), "Describe.")


def response_id(color: str, index: int) -> str:
    return make_id(prompt_id(color), "1", str(index))


def write_config(folder: Path) -> Path:
    """A configuration whose policy and labeler are a folder that looks like a model."""
    model = write_model(folder / "labeler")
    path = folder / "config.yaml"
    models = {"policy": {"model": str(model)}, "labeler": {"model": str(model)}}
    path.write_text(yaml.safe_dump({**models, "feedback": {"prompts": EMBEDDED_PROMPTS}}))
    return path


def write_model(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def write_inputs(config: Config, path: Path) -> None:
    """Prompts (one of the test split, without responses) and responses, as generation writes them."""
    run = Run(path, config, "generation")
    run.begin(["prompts", "responses"], {}, inputs=[])
    with TableWriter(run, "prompts", key="prompt_id") as writer:
        for color, split in (("red", "train"), ("green", "test"), ("blue", "train")):
            writer.write(
                [
                    {
                        "prompt_id": prompt_id(color),
                        "image": {"bytes": png(color), "path": f"{color}.png"},
                        "image_sha256": hashlib.sha256(png(color)).hexdigest(),
                        "instruction": "Describe.",
                        "source": "test",
                        "split": split,
                        "reference": "not read",
                    }
                ]
            )
    with TableWriter(run, "responses", key="prompt_id") as writer:
        for color, responses in RESPONSES.items():
            writer.write(response_row(color, index, *response) for index, response in enumerate(responses))
    run.finish({}, None)


def response_row(color: str, index: int, text: str, finish_reason: str) -> dict[str, Any]:
    return {
        "response_id": response_id(color, index),
        "prompt_id": prompt_id(color),
        "sample_index": index,
        "seed": 0,
        "text": text,
        "finish_reason": finish_reason,
        "num_tokens": len(text.split()),
        "temperature": 1.0,
        "top_p": 1.0,
        "policy": "policy",
        "policy_revision": "0",
        "round": 1,
    }


def run_stage(
    config_file: Path, path: Path, *overrides: str, answer: Callable[[Request], Any] = labeler
) -> ScriptedEngine:
    engine = ScriptedEngine(answer)
    stage.feedback(load_config(config_file, overrides), path, lambda *_: engine)
    return engine


def rows(path: Path, table: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path / f"{table}.parquet").to_pylist()
    return rows
