"""`make edge-serve`: the stock server, asked by the OpenAI client and as a labeler."""

import base64
import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from PIL import Image

from edge.gguf.export import ensure_language, ensure_mmproj
from edge.policy import Policy
from edge.serve import LOOPBACK, Served, check_address, main, serving, start_server
from edge.settings import Settings
from feedback.divide import CLAIMS_SCHEMA
from feedback.labeler_prompts import read_prompts
from model.slicing import at_refined_size, best_grid
from rlaif.config import EndpointSection
from rlaif.errors import InputError, ModelError
from rlaif.inference.endpoint import EndpointEngine, served_revision
from rlaif.inference.engine import Request
from tests.support import ROOT
from tests.support.edge.original import MAX_TOKENS, OriginalModel, demo_config, scenes

CONFIG = str(ROOT / "configs" / "demo.yaml")
PICTURES = 12
ONE_THREAD = Settings(threads=1)  # the other cores have tests of their own


@pytest.fixture(scope="module")
def url(edge_run: Path) -> Iterator[str]:
    folder = edge_run / "edge"
    with serving(folder / "language-f16.gguf", folder / "mmproj-f16.gguf", ONE_THREAD, "demo") as (url, _):
        yield url


def ask(url: str, picture: bytes, text: str) -> Any:
    """The response of the server to a picture with a text, as anybody would ask."""
    data = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    content: list[Any] = [{"type": "image_url", "image_url": {"url": data}}, {"type": "text", "text": text}]
    with OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        return client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": content}], temperature=0, max_tokens=MAX_TOKENS
        )


@pytest.mark.slow
def test_answers_are_those_of_the_policy_where_the_slices_agree(url: str, original: OriginalModel) -> None:
    """At the refined size: llama.cpp fills other shapes with bars, where the policy stretches (docs/edge.md)."""
    same_slices = same = 0
    for scene in scenes(PICTURES):
        picture = refined(scene.png)
        expected = original.answer(picture, scene.instruction)
        response = ask(url, picture, scene.instruction)
        if response.usage.prompt_tokens == len(expected.prompt.ids):
            same_slices += 1
            same += response.choices[0].message.content == expected.text
    assert same_slices >= PICTURES / 2
    assert same == same_slices


def refined(picture: bytes) -> bytes:
    """The picture as the embedded models cut it."""
    image, buffer = Image.open(BytesIO(picture)), BytesIO()
    at_refined_size(image, best_grid(image.size, 84, 9), 84, 14).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.slow
def test_an_export_of_the_labeler_is_a_labeler(tmp_path: Path, llama_cpp: Any) -> None:
    """What `make feedback` asks of labeler.endpoint: claims by a JSON schema, and the probability of yes."""
    folder, config = ROOT / "assets" / "labeler", demo_config("assets/labeler")
    policy = Policy.of(config, tmp_path)
    files = ensure_language(policy, tmp_path, "f16"), ensure_mmproj(policy, tmp_path)
    prompts = read_prompts(str(ROOT / "assets" / "prompts"))
    (scene,) = scenes(1)
    picture = refined(scene.png)
    split = prompts.format_split(scene.instruction, "There is a red car at the top. There are two dogs on the left.")
    odd = prompts.format_split(scene.instruction, "There is a red car. There is a blue bird.")
    questions = [prompts.format_verify(f"Is there a {thing}?") for thing in ("red car", "blue bird", "green chair")]
    requests = [Request(text, picture, max_tokens=1, first_words=("yes", "no")) for text in questions]
    with serving(*files, ONE_THREAD, "labeler") as (url, _):
        endpoint = EndpointSection(url=url)
        assert served_revision("labeler", None, endpoint).startswith("endpoint: ")
        with pytest.raises(ModelError, match="does not serve 'other', only: labeler"):
            served_revision("other", None, endpoint)
        with closing(EndpointEngine("labeler", endpoint)) as engine:
            splits = [Request(text, json_schema=CLAIMS_SCHEMA) for text in (split, odd)]
            (claims,), (forced,), *verdicts = engine.generate([*splits, *requests])
    labeler = OriginalModel(folder)
    assert claims.text == labeler.answer(None, split).text
    assert [item["claim"] for item in json.loads(forced.text)["claims"]]
    with pytest.raises(json.JSONDecodeError):  # the server held it to the schema
        json.loads(labeler.answer(None, odd).text)
    for question, (verdict,) in zip(questions, verdicts, strict=True):
        expected = labeler.answer(picture, question)
        assert verdict.prompt_tokens == len(expected.prompt.ids)  # the same slices
        assert verdict.first_words is not None
        assert verdict.first_words["yes"] == pytest.approx(labeler.probability(expected.logits[0], "yes"), abs=0.001)


def test_missing_and_broken_files_are_one_line(edge_run: Path, tmp_path: Path) -> None:
    language, mmproj = edge_run / "edge" / "language-f16.gguf", edge_run / "edge" / "mmproj-f16.gguf"
    with pytest.raises(InputError, match=r"mmproj\.gguf is missing; write it with `make export-edge RUN="):
        start_server(Served(language, tmp_path / "mmproj.gguf", ONE_THREAD, "demo"))
    (tmp_path / "mmproj.gguf").write_bytes(mmproj.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"mmproj\.gguf is damaged or cut short") as damaged:
        start_server(Served(language, tmp_path / "mmproj.gguf", ONE_THREAD, "demo"))
    with pytest.raises(ModelError, match="expected an export of this version and memory for both") as other:
        start_server(Served(language, language, ONE_THREAD, "demo"))  # which has no vision part
    assert "\n" not in f"{damaged.value}{other.value}"


@pytest.mark.parametrize("port", ["0", "99999", "abc", "-1", ""])
def test_a_wrong_port_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], port: str) -> None:
    assert main(["--config", CONFIG, "--run", str(tmp_path), f"--port={port}"]) == 2
    expected = f"error: PORT is {port!r}, expected a number from 1 to 65535; correct PORT=\n"
    assert capsys.readouterr().err == expected


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            InputError, match=rf"cannot listen at 127.0.0.1:{port} \(Address already in use\), expected"
        ):
            check_address(LOOPBACK, port)
    check_address(LOOPBACK, port)
    with pytest.raises(
        InputError, match=r"cannot listen at 192.0.2.1:8000 \(.+\), expected an address of this machine"
    ):
        check_address("192.0.2.1", 8000)


def test_an_export_of_another_policy_is_not_served(
    edge_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "edge").mkdir()
    for name in ("language-f16.gguf", "mmproj-f16.gguf"):
        (tmp_path / "edge" / name).symlink_to(edge_run / "edge" / name)
    shutil.copytree(ROOT / "assets" / "labeler", tmp_path / "policy")
    assert main(["--config", CONFIG, "--run", str(tmp_path), "--quant", "f16"]) == 2
    error = capsys.readouterr().err
    assert "language-f16.gguf was written from another policy (" in error
    assert f"run `make export-edge RUN={tmp_path} QUANT=f16`" in error


def test_the_command_names_a_missing_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", CONFIG, "--run", str(tmp_path)]) == 2
    assert "language-Q4_K_M.gguf is missing" in capsys.readouterr().err
