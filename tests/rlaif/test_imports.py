"""Imports without garbage collection: what is left as it was, and what is passed over."""

import gc
import sys

import pytest

from rlaif.imports import gc_paused


def test_modules_that_were_imported_are_passed_over_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)
    frozen = gc.get_freeze_count()
    try:
        with gc_paused():
            assert not gc.isenabled()
            import this  # noqa: F401
        assert gc.isenabled() and gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()


def test_nothing_is_passed_over_where_nothing_was_imported() -> None:
    frozen = gc.get_freeze_count()
    with pytest.raises(ValueError, match="why"), gc_paused():
        raise ValueError("why")
    assert gc.isenabled() and gc.get_freeze_count() == frozen
