"""The arguments of vLLM that `make serve` sets; test_served.py runs a server."""

from pathlib import Path
from typing import get_args

import pytest

import rlaif.inference.serve
from rlaif.config import EngineSection, ModelSection
from rlaif.inference.serve import main, serve_arguments
from rlaif.inference.vllm_engine import vllm_options
from tests.support import ROOT


def test_the_server_has_the_settings_of_the_engine() -> None:
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


def test_the_server_does_not_fetch_images() -> None:
    arguments = serve_arguments(ModelSection(model="m"), EngineSection(), 0, "127.0.0.1", 8000, on_cpu=False)
    (domains,) = (argument for argument in arguments if argument.startswith("--allowed-media-domains"))
    assert domains == "--allowed-media-domains=none.invalid"
    assert not any(argument.startswith("--allowed-local-media-path") for argument in arguments)


class Started(Exception):
    """Raised instead of starting the server."""


@pytest.mark.parametrize(("options", "host"), [([], "127.0.0.1"), (["--host", "0.0.0.0"], "0.0.0.0")])
def test_the_server_binds_to_loopback_by_default(
    options: list[str], host: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: list[list[str]] = []

    def start(path: str, arguments: list[str]) -> None:
        commands.append(arguments)
        raise Started

    monkeypatch.setattr(rlaif.inference.serve, "prepare_environment", lambda: True)
    monkeypatch.setattr(rlaif.inference.serve, "checkpoint_options", lambda model: {"tokenizer_mode": "minicpmv"})
    monkeypatch.setattr("os.execv", start)
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    with pytest.raises(Started):
        main(["--config", str(ROOT / "configs" / "endpoint.yaml"), "--model", "some/model", "--port", "8123", *options])
    (arguments,) = commands
    assert arguments[1:4] == ["-m", "vllm.entrypoints.openai.api_server", "--model=some/model"]
    assert f"--host={host}" in arguments and "--port=8123" in arguments
    assert "--tokenizer-mode=minicpmv" in arguments
    assert f"serves some/model at http://{host}:8123/v1" in capsys.readouterr().out


def test_a_labeler_behind_an_endpoint_cannot_be_served(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(ROOT / "configs" / "endpoint.yaml")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the labeler of") and "give one with MODEL=" in error
    assert error.count("\n") == 1


@pytest.mark.filterwarnings("ignore")  # of vLLM's libraries
def test_precision_and_budgets_are_passed_under_vllms_names() -> None:
    """Of vLLM's quantizations none runs on every CPU, so that what is tested here is what vLLM gets."""
    from vllm.config.cache import CacheDType
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS

    model = ModelSection(model="m", quantization="fp8_per_tensor")
    engine = EngineSection(kv_cache_dtype="fp8", max_num_batched_tokens=8192, mm_processor_cache_gb=0)
    options = vllm_options(model, engine, 0, on_cpu=False)
    assert options.keys() <= EngineArgs.__dataclass_fields__.keys() | {"use_tqdm_on_load"}
    assert {"quantization": "fp8_per_tensor", "kv_cache_dtype": "fp8"}.items() <= options.items()
    assert {"max_num_batched_tokens": 8192, "mm_processor_cache_gb": 0}.items() <= options.items()
    assert "fp8_per_tensor" in QUANTIZATION_METHODS
    allowed = get_args(EngineSection.model_fields["kv_cache_dtype"].annotation)
    assert set(allowed) <= set(get_args(CacheDType))
    flags = serve_arguments(model, engine, 0, "127.0.0.1", 8000, on_cpu=False)
    assert {"--quantization=fp8_per_tensor", "--kv-cache-dtype=fp8", "--mm-processor-cache-gb=0.0"} <= set(flags)
    usual = vllm_options(ModelSection(model="m"), EngineSection(), 0, on_cpu=False)
    defaults = EngineArgs(model="m")
    names = ("quantization", "kv_cache_dtype", "max_num_batched_tokens", "mm_processor_cache_gb")
    assert all(usual[name] == getattr(defaults, name) for name in names)


def test_tables_are_bound_to_what_lowers_the_precision() -> None:
    model, engine = ModelSection(model="m"), EngineSection(max_model_len=512)
    assert "quantization" not in model.identity() and engine.identity() == {"max_model_len": 512}
    assert model.model_copy(update={"quantization": "fp8_per_tensor"}).identity()["quantization"] == "fp8_per_tensor"
    other = engine.model_copy(update={"kv_cache_dtype": "fp8", "max_num_batched_tokens": 8192})
    assert other.identity() == {"max_model_len": 512, "kv_cache_dtype": "fp8"}


def test_a_folder_without_a_model_cannot_be_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(ROOT / "configs" / "endpoint.yaml"), "--model", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path} cannot be served: no config.json") and "with MODEL=" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("port", ["abc", "0", "99999"])
def test_a_wrong_port_is_one_line(capsys: pytest.CaptureFixture[str], port: str) -> None:
    assert main(["--config", str(ROOT / "configs" / "demo.yaml"), "--port", port]) == 2
    assert capsys.readouterr().err == f"error: PORT is {port!r}, expected a number from 1 to 65535; correct PORT=\n"
