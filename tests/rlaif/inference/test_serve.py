"""What `make serve` hands to vLLM; a server that runs is in test_served.py."""

import pytest

import rlaif.inference.serve
from rlaif.config import EngineSection, ModelSection
from rlaif.inference.serve import main, serve_arguments
from tests.support import ROOT


def test_arguments_say_what_the_stages_say_to_vllm() -> None:
    model = ModelSection(model="assets/labeler", dtype="float32")
    arguments = serve_arguments(model, EngineSection(max_model_len=512), 3, "127.0.0.1", 8000, on_cpu=True)
    assert arguments[0] == "--model=assets/labeler"
    assert {
        "--dtype=float32",
        "--seed=3",
        "--max-model-len=512",
        "--enforce-eager",
        "--enable-prefix-caching",
        "--no-enable-chunked-prefill",
        "--block-size=32",
        "--kv-cache-memory-bytes=1073741824",
        '--limit-mm-per-prompt={"image": 1, "video": 0, "audio": 0}',
        "--host=127.0.0.1",
        "--port=8000",
        "--generation-config=vllm",
        "--max-logprobs=-1",
    } <= set(arguments)
    assert not any(argument.startswith("--revision") for argument in arguments)
    on_gpu = serve_arguments(model, EngineSection(), 0, "127.0.0.1", 8000, on_cpu=False)
    assert "--no-enforce-eager" in on_gpu and not any("block-size" in argument for argument in on_gpu)


def test_no_picture_is_fetched_for_a_request() -> None:
    arguments = serve_arguments(ModelSection(model="m"), EngineSection(), 0, "127.0.0.1", 8000, on_cpu=False)
    (domains,) = (argument for argument in arguments if argument.startswith("--allowed-media-domains"))
    assert domains == "--allowed-media-domains=none.invalid"
    assert not any(argument.startswith("--allowed-local-media-path") for argument in arguments)


class Started(Exception):
    """In place of becoming the server."""


@pytest.mark.parametrize(("more", "host"), [([], "127.0.0.1"), (["--host", "0.0.0.0"], "0.0.0.0")])
def test_it_binds_to_loopback_unless_told_otherwise(
    more: list[str], host: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[list[str]] = []

    def start(path: str, arguments: list[str]) -> None:
        started.append(arguments)
        raise Started

    monkeypatch.setattr(rlaif.inference.serve, "prepare_environment", lambda: True)
    monkeypatch.setattr("os.execv", start)
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    with pytest.raises(Started):
        main(["--config", str(ROOT / "configs" / "endpoint.yaml"), "--model", "some/model", "--port", "8123", *more])
    (arguments,) = started
    assert arguments[1:4] == ["-m", "vllm.entrypoints.openai.api_server", "--model=some/model"]
    assert f"--host={host}" in arguments and "--port=8123" in arguments
    assert f"serves some/model at http://{host}:8123/v1" in capsys.readouterr().out


def test_an_endpoint_is_not_served_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(ROOT / "configs" / "endpoint.yaml")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the labeler of") and "give one with MODEL=" in error
    assert error.count("\n") == 1
