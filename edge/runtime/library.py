"""The compiled llama.cpp of a target, loaded into this process through the bindings of llama-cpp-python.

The one file that knows how the bindings find their library. It imports no torch.
Tested with llama-cpp-python 0.3.36.
"""

import ctypes
import importlib
import importlib.util
import os
import sys
from collections import deque
from typing import Any

from edge.runtime.installed import HOST, WAITING, find_build
from rlaif.errors import ModelError

WARN, ERROR = 2, 3  # ggml_log_level

_loaded: dict[str, Any] = {}  # build -> module; a process holds one
_messages: deque[str] = deque(maxlen=20)
_callbacks: list[Any] = []  # llama.cpp holds bare pointers to them


def load(build: str | None = None) -> Any:
    """The module `llama_cpp.llama_cpp` over the build of a target, by default that of the host.

    A process holds one build: the bindings load their library when they are imported. What llama.cpp logs is not
    printed; `messages` has its warnings and errors.
    Errors: ModelError where the build or the bindings are missing, or the build is for another machine.
    """
    build = build or HOST
    if build not in _loaded:
        assert not _loaded, f"{next(iter(_loaded))} is loaded; load {build} in another process"
        found = find_build(build)
        os.environ["LLAMA_CPP_LIB_PATH"] = str(found.folder.resolve())
        for variable, value in WAITING.items():
            os.environ.setdefault(variable, value)
        _loaded[build] = _import_bindings()
    return _loaded[build]


def _import_bindings() -> Any:
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None:
        raise ModelError(
            "the package llama_cpp is not installed; requirements/edge.txt has it; run `make edge-runtime`"
        )
    # The package's __init__ imports chat formats, caches and jinja2; only its bindings are needed.
    sys.modules["llama_cpp"] = importlib.util.module_from_spec(spec)
    bindings = importlib.import_module("llama_cpp.llama_cpp")
    bindings.llama_log_set(_log(bindings), ctypes.c_void_p(0))
    bindings.llama_backend_init()
    return bindings


def _log(bindings: Any) -> Any:
    @bindings.llama_log_callback  # type: ignore[untyped-decorator]
    def log(level: int, text: bytes, data: Any) -> None:
        if level in (WARN, ERROR):
            _messages.append(text.decode("utf-8", "replace").strip())

    _callbacks.append(log)
    return log


def messages() -> list[str]:
    """The last warnings and errors of llama.cpp, oldest first."""
    return list(_messages)
