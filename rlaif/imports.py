"""Importing what is large: vLLM and TRL make many objects and hardly any garbage while they are imported."""

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """No garbage is collected within. If modules were imported, what is there by then is passed over by later
    collections too: looking for garbage among them is a fifth of what starting an engine takes
    (`make bench NAME=startup`).
    """
    before = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:
            gc.freeze()
            atexit.register(gc.unfreeze)  # or libraries report what is frozen as leaks
        gc.enable()
