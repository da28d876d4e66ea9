"""Imports with garbage collection paused."""

import gc
import sys

import pytest

from rlaif.imports import gc_paused


def test_imported_modules_are_excluded_from_later_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)
    frozen = gc.get_freeze_count()
    try:
        with gc_paused():
            assert not gc.isenabled()
            import this  # noqa: F401
        assert gc.isenabled() and gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()


def test_collection_is_enabled_again_after_an_error() -> None:
    try:
        with pytest.raises(ValueError, match="why"), gc_paused():
            raise ValueError("why")
        assert gc.isenabled()
    finally:
        gc.unfreeze()
