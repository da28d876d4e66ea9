"""The pages in Chromium, through Playwright: keys, what is loaded and from where, and that no script of a text runs."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from browser.app import create_app
from browser.tables import Runs
from rlaif.storage.files import read_json, write_json
from tests.support.runs.browsed import write_run
from tests.support.runs.served import served

pytestmark = pytest.mark.slow


def serving(run: Path, other: Path | None = None) -> AbstractContextManager[str]:
    return served(*create_app(Runs(run, other), []))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "one")


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    with serving(run, write_run(run.parent / "two", worse=1.0)) as url:
        yield url


def test_no_text_of_a_model_becomes_a_script(page: Any, address: str) -> None:
    for path in ("", "pairs", "prompts", "dropped", "compare", "prompt/p1", "compare/p1", "pairs?q=%3Cscript%3E"):
        page.goto(address + path, wait_until="networkidle")
        assert page.locator("main script, main [onerror], main img:not(.picture img)").count() == 0
    page.goto(f"{address}prompt/p1")
    assert '<script>alert("x")</script>' in page.inner_text("main")


def test_an_injected_script_would_not_run(chromium: Any, address: str) -> None:
    """The negative control: what escaping keeps out, the content security policy would stop."""
    page, refused = chromium.new_page(), []
    page.goto(f"{address}pairs", wait_until="networkidle")
    page.on("console", lambda message: refused.append(message.text))
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title = 1\">')")
    page.wait_for_timeout(300)
    assert any("Content Security Policy" in message for message in refused) and page.title() != "1"
    page.close()


def test_keys(page: Any, address: str) -> None:
    page.goto(f"{address}pairs", wait_until="networkidle")
    current = page.locator(".current")
    page.keyboard.press("j")
    assert current.get_attribute("aria-label") == "Pair pair-p1"
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert current.get_attribute("aria-label") == "Pair pair-p2"
    page.keyboard.press("k")
    assert current.get_attribute("aria-label") == "Pair pair-p1" and current.count() == 1
    page.keyboard.press("?")
    assert page.locator("dialog").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    page.keyboard.press("/")
    page.keyboard.type("claim~cat j")
    assert page.input_value("#q") == "claim~cat j" and page.locator("dialog").is_hidden()
    page.fill("#q", "claim~cat")
    page.keyboard.press("Enter")
    page.wait_for_url("**/pairs?q=claim%7Ecat")
    assert page.locator("[data-row]").count() == 1
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/prompt/p1")
    page.keyboard.press("4")
    page.wait_for_url("**/dropped")


def test_an_address_shows_the_view_again(page: Any, address: str, chromium: Any) -> None:
    page.goto(f"{address}pairs", wait_until="networkidle")
    page.select_option("#sort", "-pair_id")
    page.wait_for_url("**/pairs?sort=-pair_id")
    shown = page.locator("[data-row]").all_inner_texts()
    other = chromium.new_page()
    other.goto(page.url)
    assert other.locator("[data-row]").all_inner_texts() == shown and len(shown) == 2
    assert other.locator("#sort").input_value() == "-pair_id"
    other.close()
    page.go_back()
    assert page.locator("#sort").input_value() == ""


def test_a_claim_and_its_place_light_up_together(page: Any, address: str) -> None:
    page.goto(f"{address}pairs?q=pair_id=pair-p1", wait_until="networkidle")
    page.hover("li[data-claim='2'] >> nth=0")
    assert page.locator(".lit").all_inner_texts()[0] == "a cat sleeps" and page.locator(".lit").count() == 2


def test_pictures_load_and_a_broken_one_says_so(page: Any, address: str) -> None:
    page.goto(f"{address}prompts", wait_until="networkidle")
    sizes = page.evaluate("[...document.images].map(image => [image.complete, image.naturalWidth])")
    assert sizes[:3] == [[True, 60], [True, 60], [True, 320]]  # the third is a place holder


def test_light_and_dark(page: Any, address: str) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.goto(f"{address}pairs", wait_until="networkidle")
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(250, 248, 244)", "rgb(20, 22, 26)"]


def test_nothing_is_cut_off_on_a_phone(page: Any, address: str) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    for path in ("", "pairs", "prompts", "dropped", "prompt/p1", "compare/p1"):
        page.goto(address + path, wait_until="networkidle")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path


def test_the_first_page_follows_a_run_under_way(page: Any, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    write_json(path / "feedback.json", read_json(path / "feedback.json") | {"finished": False})
    with serving(path) as url:
        page.goto(url, wait_until="networkidle")
        assert page.locator("li.running h3, li.stopped h3").inner_text().startswith("feedback")
        write_json(path / "feedback.json", read_json(path / "feedback.json") | {"finished": True})
        page.wait_for_selector("li.finished >> text=feedback", timeout=10_000)
        page.wait_for_function("!document.getElementById('main').dataset.live")
