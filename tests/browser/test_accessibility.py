"""axe-core on every page in Chromium, light and dark: no finding that is serious or critical."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from browser.app import create_app
from browser.audit.app import create_app as create_audit
from browser.tables import Runs
from evaluation.audit.store import Audit
from evaluation.stage import evaluate
from rlaif.config import EngineSection, ModelSection
from rlaif.report.page import report
from rlaif.storage.files import read_json, write_json
from rlaif.storage.run import Run
from tests.support.doubles import ScriptedEngine
from tests.support.runs.audited import answers_by_truth
from tests.support.runs.browsed import write_run
from tests.support.runs.served import served
from tests.support.synthetic_run import make_run

pytestmark = pytest.mark.slow
BROWSE = (
    "",
    "pairs",
    "pairs?q=colour%3Dred",
    "pairs?q=claim%7Enothing",
    "prompts",
    "dropped",
    "compare",
    "prompt/p1",
    "prompt/p3",
    "prompt/p4",
    "compare/p1",
    "nothing",
)


@pytest.fixture(params=["light", "dark"])
def page(chromium: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page into which axe-core may be put although the pages allow no other script."""
    context = chromium.new_context(bypass_csp=True, color_scheme=request.param)
    yield context.new_page()
    context.close()


def findings(page: Any, address: str) -> list[str]:
    """What axe-core finds serious or critical: rule, element, reason. In the dark theme, only colors are others."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-core: make setup").Axe()
    page.goto(address)
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    results = axe.run(page, options={"runOnly": ["color-contrast"]} if dark else {}).response
    assert len(results["passes"]) >= (1 if dark else 6)  # it has looked at the page
    return [
        f"{violation['id']}: {node['target']} {node['failureSummary']}"
        for violation in results["violations"]
        for node in violation["nodes"]
        if node["impact"] in ("serious", "critical")
    ]


def test_axe_would_find_something(page: Any) -> None:
    """The negative control."""
    text = "<p style='color:%23777;background:%23888'>some words</p><img src=x>"
    found = " ".join(findings(page, f"data:text/html,<html lang=en><title>x</title><main><h1>a</h1>{text}</main>"))
    assert "color-contrast" in found
    if page.evaluate("matchMedia('(prefers-color-scheme: light)').matches"):
        assert "image-alt" in found


def test_pages_of_browse(page: Any, tmp_path: Path) -> None:
    run, other = write_run(tmp_path / "one"), write_run(tmp_path / "two", worse=1.0)
    write_json(run / "feedback.json", read_json(run / "feedback.json") | {"finished": False})  # progress, drops so far
    (run / "feedback.log").write_text("2026-11-29T10:00:00Z feedback: under way\n")
    with served(*create_app(Runs(run, other), ["a note"])) as address:
        assert {path: found for path in BROWSE if (found := findings(page, address + path))} == {}


def test_pages_of_audit(page: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    audit = Audit.open(run, 20, 0)
    claim, pair = audit.sample["claims"][0], audit.sample["pairs"][0]
    audit.record("claim", claim, "true", "Ann", 1.0)
    items = [f"item?person=Ann&kind={kind}&id={id}" for kind, id in (("claim", claim), ("pair", pair))]
    with served(*create_audit(audit, Runs(run), ["a note"])) as address:
        paths = ("", *items, "done?person=Ann", "item?person=Ann&kind=claim&id=none")
        assert {path: found for path in paths if (found := findings(page, address + path))} == {}


def test_the_report(page: Any, tmp_path: Path) -> None:
    config, path = make_run(tmp_path)
    audit = Audit.open(path, 20, 0)
    for kind, item, answer in answers_by_truth(audit, Run(path, config, "test"), "Ann"):
        audit.record(kind, item, answer, "Ann", 1.0)

    def serve(section: ModelSection, engine: EngineSection, seed: int) -> ScriptedEngine:
        extra = "" if section.model.endswith("run/policy") else " and a red car at the top"
        return ScriptedEngine(lambda request: [f"I can see a blue car{extra}."])

    with ThreadPoolExecutor() as threads:  # this thread has the event loop of Playwright
        threads.submit(evaluate, config, path, serve).result()
    assert findings(page, report(config, path).as_uri()) == []
    (tmp_path / "new").mkdir()
    assert findings(page, report(config, tmp_path / "new").as_uri()) == []  # what will appear, after which command
    with served(*create_app(Runs(path), [])) as address:
        assert findings(page, f"{address}report") == []
