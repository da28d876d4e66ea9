"""Serve the export of a run with the stock server of llama.cpp, for any OpenAI-compatible client, pictures included.

    python -m edge.serve --config configs/demo.yaml --run runs/demo --quant Q4_K_M --port 8000

The server is that of the xllamacpp wheel, unchanged: it cuts and encodes pictures itself, with `mmproj-f16.gguf`.
docs/edge.md says where that differs from `make edge-answer`. It answers one request at a time, and `make feedback` can
use it as a labeler (`labeler.endpoint`). It binds to loopback, so that only this machine reaches it, unless `--host` is
given; pages of other origins may not ask it. If LLAMA_API_KEY is set, requests must carry that key. Stock llama.cpp
fetches a picture that a request names by its http address, so give the address to people whom you trust.

Private: names of CommonParams in xllamacpp 2026.10.11549.
"""

import argparse
import os
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from edge.runtime.installed import WAITING
from edge.settings import Settings
from rlaif.command import read_port, run_stage
from rlaif.config import Config
from rlaif.errors import InputError, ModelError, RlaifError

LOOPBACK = "127.0.0.1"
KEY = "LLAMA_API_KEY"  # as of the stock server


@dataclass(frozen=True)
class Served:
    """What is served, and where: two GGUF files under a name. port: 0 = a free one."""

    language: Path
    mmproj: Path
    settings: Settings
    name: str
    host: str = LOOPBACK
    port: int = 0


def start_server(served: Served) -> tuple[Any, str]:
    """Start the server in this process; it answers until it is deleted. Returns it and its base URL.

    Errors: InputError: a file is missing or damaged, or the address cannot be bound to; ModelError: llama.cpp cannot
    load the files.
    """
    for variable, value in WAITING.items():
        os.environ.setdefault(variable, value)
    import xllamacpp as llama

    for file in (served.language, served.mmproj):
        if not file.is_file():
            raise InputError(f"{file} is missing; write it with `make export-edge RUN={file.parent.parent}`")
    check_address(served.host, served.port)
    settings, params = served.settings, llama.CommonParams()
    params.model.path, params.mmproj.path = str(served.language), str(served.mmproj)
    params.model_alias = {served.name}
    params.hostnames, params.port = [served.host], served.port
    params.cors_origins = "localhost"
    params.api_keys = [key] if (key := os.environ.get(KEY, "").strip()) else []
    threads = settings.threads or len(os.sched_getaffinity(0))
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_batch, params.n_ubatch = settings.batch, settings.ubatch
    params.flash_attn_type = getattr(
        llama.llama_flash_attn_type,
        {"auto": "LLAMA_FLASH_ATTN_TYPE_AUTO", "on": "LLAMA_FLASH_ATTN_TYPE_ENABLED"}.get(
            settings.flash_attention, "LLAMA_FLASH_ATTN_TYPE_DISABLED"
        ),
    )
    params.cache_type_k = params.cache_type_v = getattr(llama.ggml_type, f"GGML_TYPE_{settings.kv_type.upper()}")
    params.no_extra_bufts = not settings.repack
    params.n_parallel = 1
    params.fit_params = False  # the context stays that of the model
    params.cache_ram_mib = 0  # otherwise up to 8 GB of earlier prompts
    params.reasoning_format = llama.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    params.verbosity = 0
    try:
        server = llama.Server(params)
    except RuntimeError as error:  # which does not say why
        from edge.gguf.file import read_header

        for file in (served.language, served.mmproj):
            read_header(file)
        raise ModelError(
            f"llama.cpp cannot serve {served.language} with {served.mmproj}, expected an export of this version and "
            f"memory for both; run `make export-edge RUN={served.language.parent.parent}`, or give a smaller QUANT="
        ) from error
    return server, f"{server.listening_address}/v1"


def check_address(host: str, port: int) -> None:
    """Errors: InputError: another program listens there, or this machine does not have the address."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:  # also of names that do not resolve
        reason = str(error.strerror).partition(" (while")[0]
        raise InputError(
            f"cannot listen at {host}:{port} ({reason}), expected an address of this machine and a free port; "
            "give another PORT= or HOST="
        ) from error


@contextmanager
def serving(language: Path, mmproj: Path, settings: Settings, name: str) -> Iterator[tuple[str, int]]:
    """The base URL of a server in a process of its own, and the id of that process; it ends with the block.

    Errors: as `start_server`.
    """
    served = Served(language, mmproj, settings, name)
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(sender, served), daemon=True)
    process.start()
    sender.close()
    try:
        try:
            outcome = receiver.recv()
        except EOFError:
            process.join()
            raise ModelError(
                f"the server of {language} ended with status {process.exitcode} while it was starting; write "
                f"the export again with `make export-edge RUN={language.parent.parent}`"
            ) from None
        if isinstance(outcome, RlaifError):
            raise outcome
        assert process.pid is not None
        yield outcome, process.pid
    finally:
        process.terminate()
        process.join()


def _serve(sender: Connection, served: Served) -> None:
    try:
        server, url = start_server(served)
    except RlaifError as error:
        sender.send(error)
        return
    sender.send(url)
    parent = parent_process()
    assert parent is not None
    parent.join()  # so that no server outlives a process that was killed
    del server


def run(config: Config, path: Path, quant: str, host: str, port: str) -> None:
    from edge.gguf.names import check_current, find_language, mmproj_file
    from edge.policy import Policy
    from edge.settings import read_settings

    number = read_port(port)
    policy = Policy.of(config, path)
    files = find_language(path, quant), mmproj_file(path)
    for file in files:
        if file.is_file():
            check_current(file, policy, path, quant)
    served = Served(*files, read_settings(path / "edge"), path.resolve().name, host, number)
    server, url = start_server(served)
    print(f"serves {served.language.name} as {served.name!r} at {url}; Ctrl-C stops it", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        del server


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--quant", default="Q4_K_M", help="which of the exported language models; default Q4_K_M")
    options.add_argument("--host", default=LOOPBACK, help="address to bind to; default 127.0.0.1, this machine alone")
    options.add_argument("--port", default="8000", help="1 to 65535; default 8000")
    return run_stage(
        Config, "edge.serve", "Serves the export of a run with the server of llama.cpp.", run, argv, options
    )


if __name__ == "__main__":
    sys.exit(main())
