"""The report as a file, on paper, and as `make browse` serves it: in Chromium, and over HTTP."""

import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from browser.app import create_app
from browser.tables import Runs
from rlaif.report.page import report
from tests.support.runs.browsed import CONFIG, write_run
from tests.support.runs.served import served
from tests.support.synthetic_run import make_run

HOST = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_run(tmp_path_factory.mktemp("runs") / "one")
    report(CONFIG, path)
    return path


def test_it_is_served_with_a_policy_of_its_own(run: Path) -> None:
    app, token = create_app(Runs(run), [])
    answer = TestClient(app, base_url=HOST).get(f"/{token}/report")
    directives = answer.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "img-src data:", "form-action 'none'", "base-uri 'none'", "sandbox"} <= set(
        directives
    )
    assert not any(directive.startswith(("script-src", "connect-src", "frame-src")) for directive in directives)
    assert answer.headers["cache-control"] == "no-store" and answer.headers["x-content-type-options"] == "nosniff"
    assert '<html lang="en" data-served="yes">' in answer.text and 'href="prompt/p1"' in answer.text
    assert 'data-served="no">' in (run / "report.html").read_text(encoding="utf-8")


def test_a_run_without_a_report(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    app, token = create_app(Runs(path), [])
    client = TestClient(app, base_url=HOST)
    answer = client.get(f"/{token}/report")
    assert answer.status_code == 404 and f"write it with `make report RUN={path}`" in answer.text
    assert ">Report</a>" not in client.get(f"/{token}/").text
    (tmp_path / "secret.html").write_text("secret")
    (path / "report.html").symlink_to(tmp_path / "secret.html")
    answer = client.get(f"/{token}/report")
    assert answer.status_code == 400 and "which is outside" in answer.text and "secret</" not in answer.text


@pytest.mark.slow
def test_served_it_links_to_the_pages_and_as_a_file_to_nothing(chromium: Any, run: Path) -> None:
    page, messages = chromium.new_page(), []
    page.on("console", lambda message: messages.append(message.text))
    page.goto((run / "report.html").as_uri())
    assert page.locator("a:visible").count() == 0 and page.get_by_text("make browse RUN=").is_visible()
    with served(*create_app(Runs(run), [])) as address:
        page.goto(address)
        page.click("text=Report")
        page.wait_for_url("**/report")
        assert page.get_by_text("make browse RUN=").is_hidden()
        assert page.evaluate("getComputedStyle(document.querySelector('.card')).borderRadius") == "14px"
        for link, path in (
            (".thumb a", "/prompt/p"),
            (".instruction a", "/prompt/p1"),
            ("table a", "/dropped?q=stage"),
        ):
            page.goto(f"{address}report")
            page.locator(f"{link}:visible").first.click()
            page.wait_for_url(f"**{path}**")
            assert page.locator(".problem").count() == 0 and page.locator("main h1").is_visible()
    page.close()
    assert messages == []


@pytest.mark.slow
def test_no_script_of_a_report_runs(chromium: Any, tmp_path: Path) -> None:
    """A run folder from elsewhere may have any report."""
    path = write_run(tmp_path / "run")
    attack = "<body><script>document.title = 'ran'</script><img src=x onerror=\"document.title = 'ran'\">"
    (path / "report.html").write_text(f"<title>before</title>{attack}<form action='/x'><button>go</button></form>")
    page, refused = chromium.new_page(), []
    page.on("console", lambda message: refused.append(message.text))
    with served(*create_app(Runs(path), [])) as address:
        page.goto(f"{address}report", wait_until="networkidle")
        page.click("button")
        page.wait_for_timeout(200)
        assert page.title() == "before" and page.url == f"{address}report"
    page.close()
    assert any("script" in message for message in refused) and any("form" in message for message in refused)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_prints_on_white_with_whole_cards(chromium: Any, tmp_path: Path, scheme: str) -> None:
    config, path = make_run(tmp_path)
    page = chromium.new_page(color_scheme=scheme, viewport={"width": 700, "height": 1000})
    page.goto(report(config, path).as_uri())
    pages = len(re.findall(rb"/Type /Page\b(?!s)", page.pdf(format="A4")))
    assert 6 <= pages <= 16  # twenty pairs, two or three to a page, and six charts
    page.emulate_media(media="print", color_scheme=scheme)
    style = "(selector, name) => getComputedStyle(document.querySelector(selector))[name]"
    assert page.evaluate(f"({style})('body', 'backgroundColor')") == "rgb(255, 255, 255)"
    assert page.evaluate(f"({style})('h1', 'color')") == "rgb(34, 38, 44)"
    for card in (".card", ".thumb", ".pair", "figure", "tr"):
        assert page.evaluate(f"({style})('{card}', 'breakInside')") == "avoid", card
    assert page.locator(".served:visible, .alone:visible").count() == 0
    cut = "[...document.querySelectorAll('main *')].filter(item => item.scrollWidth > innerWidth).length"
    assert page.evaluate(cut) == 0
    page.close()
