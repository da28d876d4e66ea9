"""The example notebook runs on a finished run, without a model and without Jupyter."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.synthetic_run import make_run

NOTEBOOK = ROOT / "examples" / "inspect_pairs.ipynb"


def test_the_notebook_shows_pairs_margins_and_drops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, run = make_run(tmp_path)
    monkeypatch.setenv("RUN", str(run))
    pages: list[str] = []

    def display(value: Any) -> None:
        pages.append(value._repr_html_())

    namespace: dict[str, Any] = {"display": display}
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{NOTEBOOK.name} cell {number}", "exec"), namespace)

    pairs = [page for page in pages if "data:image;base64," in page]
    assert len(pairs) == 5
    assert all(word in pairs[0] for word in ("chosen", "rejected", "p(yes)", "There is a"))
    everything = "\n".join(pages)
    assert "margin" in everything and "unreadable_image" in everything and "generation" in everything
    assert (namespace["pairs"]["margin"] > 0).all()


def test_the_notebook_ships_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")
