"""An audit in Chromium, through Playwright: by keys, without a script, after a kill, by two people at once."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import HTMLResponse

from browser.audit.app import create_app
from browser.tables import Runs
from evaluation.audit.figures import FALSE, FOREIGN, TRUE, UNCLEAR
from evaluation.audit.store import Audit, read_verdicts
from tests.support.runs.audited import auditing
from tests.support.runs.browsed import HOSTILE, write_run
from tests.support.runs.served import served

pytestmark = pytest.mark.slow
PAUSE = 250  # milliseconds until keys count


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


@pytest.fixture
def address(run: Path) -> Iterator[str]:
    with served(*create_app(Audit.open(run, 20, 0), Runs(run), [])) as url:
        yield url


def begin(page: Any, address: str, name: str) -> None:
    page.goto(address, wait_until="networkidle")
    page.keyboard.type(name)  # the field has the focus
    page.keyboard.press("Enter")
    page.wait_for_url("**/item?*")


def press(page: Any, key: str) -> None:
    """A key that leads to another page."""
    page.wait_for_load_state()
    page.wait_for_timeout(PAUSE)
    before = page.url
    page.keyboard.press(key)
    page.wait_for_url(lambda url: url != before)


def answers(run: Path, person: str = "Ann") -> list[str]:
    return [row["answer"] for row in read_verdicts(run) if row["person"] == person]


def test_a_whole_audit_by_keys(run: Path, address: str, page: Any) -> None:
    begin(page, address, "Ann")
    assert page.locator("h1.claim").is_visible() and page.title().startswith("Claim 1 of 7")
    keys = ["t", "f", "c", "x", "t", "T", "f"]
    for number, key in enumerate(keys):
        assert len(answers(run)) == number
        press(page, key)
    assert answers(run) == [TRUE, FALSE, UNCLEAR, FOREIGN, TRUE, TRUE, FALSE]
    assert page.title().startswith("Pair 1 of 2") and page.locator(".sides section").count() == 2
    press(page, "e")
    press(page, "1")
    page.wait_for_url("**/done?*")
    assert answers(run)[-2:] == ["equal", "first"] and "Nothing is left to answer" in page.inner_text("h1")
    assert all(0 < row["seconds"] < 60 for row in read_verdicts(run))
    press(page, "u")
    assert page.title().startswith("Pair 2 of 2") and "you said: first" in page.inner_text(".moves")
    press(page, "0")
    assert answers(run)[-1] == "equal" and Audit.open(run, 20).open_items("pair", "Ann") == []


def test_back_and_on_and_help(run: Path, address: str, page: Any) -> None:
    begin(page, address, "Ann")
    first = page.inner_text("h1")
    press(page, "t")
    second = page.inner_text("h1")
    press(page, "u")
    assert page.inner_text("h1") == first and page.locator("button.earlier").get_attribute("value") == TRUE
    press(page, "n")
    assert page.inner_text("h1") == second and answers(run) == [TRUE]
    press(page, "u")
    press(page, "f")
    assert page.inner_text("h1") == second and answers(run) == [TRUE, FALSE]
    page.wait_for_timeout(PAUSE)
    page.keyboard.press("?")
    assert page.locator("dialog").is_visible() and "not of this response" in page.inner_text("dialog")
    page.keyboard.press("t")  # it does not answer behind the help
    page.keyboard.press("Escape")
    page.click("button[value='cannot tell']")
    page.wait_for_load_state("networkidle")
    assert answers(run) == [TRUE, FALSE, UNCLEAR]


def test_nothing_is_answered_that_nobody_has_seen(run: Path, address: str, page: Any) -> None:
    """A key that is held counts once, and one that is hit twice answers no second item. The test sets the time, and
    sends events to the page: the browser's own answer to a key can be lost with the page that the key leaves.
    """
    page.add_init_script("performance.now = () => window.now ?? 0")
    begin(page, address, "Ann")

    def press_key(key: str, **flags: bool) -> None:
        event = {"key": key, "bubbles": True, **flags}
        page.evaluate("event => document.body.dispatchEvent(new KeyboardEvent('keydown', event))", event)

    def answer(key: str) -> None:
        before = page.url
        page.evaluate("now = 1000")
        press_key(key)
        page.wait_for_url(lambda url: url != before)
        page.wait_for_load_state()

    press_key("t")  # before anybody can have looked
    page.wait_for_timeout(PAUSE)
    assert answers(run) == []
    answer("t")
    page.evaluate("now = 1000")
    press_key("t", repeat=True)  # still held
    page.wait_for_timeout(PAUSE)
    assert answers(run) == [TRUE]
    answer("f")
    press_key("f")  # hit twice
    page.wait_for_timeout(PAUSE)
    assert answers(run) == [TRUE, FALSE]
    page.evaluate("now = 1000")
    press_key("c", ctrlKey=True)
    page.wait_for_timeout(PAUSE)
    assert answers(run) == [TRUE, FALSE]
    answer("c")
    assert answers(run) == [TRUE, FALSE, UNCLEAR]


def test_a_reload_shows_the_same_item(run: Path, address: str, page: Any) -> None:
    begin(page, address, "Ann")
    press(page, "t")
    shown = page.inner_text("main")
    page.reload(wait_until="networkidle")
    assert page.inner_text("main") == shown and answers(run) == [TRUE]
    page.go_back()
    assert "you said: true" in page.inner_text(".moves")


def test_two_people_at_once_and_two_tabs(chromium: Any, run: Path, address: str) -> None:
    pages = [chromium.new_context().new_page() for _ in range(2)]
    for page, name in zip(pages, ("Ann", "\u674e\u96f7"), strict=True):
        begin(page, address, name)
    for key in "tfx":
        for page in pages:
            press(page, key)
    assert answers(run) == answers(run, "\u674e\u96f7") == [TRUE, FALSE, FOREIGN]
    tab = pages[0].context.new_page()
    tab.goto(pages[0].url)
    press(pages[0], "t")
    press(tab, "c")  # the same item
    assert tab.url == pages[0].url and answers(run)[3:] == [TRUE, UNCLEAR]
    for page in pages:
        page.context.close()


def test_a_kill_and_on(run: Path, page: Any) -> None:
    with auditing(run, 23_000) as (process, url):
        begin(page, url, "Ann")
        press(page, "t")
        press(page, "f")
        unanswered = page.inner_text("h1")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with auditing(run, 23_000) as (_, url):
        page.goto(url, wait_until="networkidle")
        page.click("text=Ann")
        page.wait_for_url("**/item?*")
        assert page.inner_text("h1") == unanswered and answers(run) == [TRUE, FALSE]
        page.wait_for_load_state("networkidle")


def test_another_page_of_this_machine_cannot_answer(run: Path, address: str, chromium: Any) -> None:
    """Even one that knows the token, as a page of another port would after a look over the shoulder."""
    fields = {"person": "Eve", "kind": "claim", "id": "p1/0/0", "shown": "0"}
    inputs = "".join(f'<input name="{name}" value="{value}">' for name, value in fields.items())
    form = f'<form method="post" action="{address}answer">{inputs}<button name="answer" value="true">Go</button>'

    async def other(scope: Any, receive: Any, send: Any) -> None:
        await HTMLResponse(form)(scope, receive, send)

    page = chromium.new_page()
    with served(other, "x") as elsewhere:
        page.goto(elsewhere)
        page.click("button")
        page.wait_for_url(f"{address}answer")
    assert "this was not sent by a page of this address" in page.inner_text("body")
    assert answers(run, "Eve") == []
    page.goto(f"{address}item?person=Eve&kind=claim&id=p1/0/0")  # the control: from here it is saved
    page.click("button[value='true']")
    page.wait_for_url("**/item?*")
    assert answers(run, "Eve") == [TRUE]
    page.close()


def test_without_a_script(chromium: Any, run: Path, address: str) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    begin(page, address, "Ann")
    page.click("button[value='true']")
    page.click("button[value='not of this response']")
    page.click("a[rel=prev]")
    page.click("button[value='false']")
    page.wait_for_load_state("networkidle")
    assert answers(run) == [TRUE, FOREIGN, FALSE]
    assert all(0 <= row["seconds"] < 60 for row in read_verdicts(run))
    context.close()


def test_a_hostile_response_and_a_broken_picture(address: str, page: Any) -> None:
    page.goto(f"{address}item?person=Ann&kind=claim&id=p1/1/0", wait_until="networkidle")
    assert page.inner_text(".text") == HOSTILE and page.locator("main script, main [onerror]").count() == 0
    page.goto(f"{address}item?person=Ann&kind=claim&id=p3/0/0", wait_until="networkidle")
    assert page.evaluate("document.querySelector('.picture img').naturalWidth") == 320  # the place holder
    press(page, "c")
    assert page.locator("form.answers").is_visible()


def test_chinese_texts(address: str, page: Any) -> None:
    page.goto(f"{address}item?person=%E6%9D%8E&kind=claim&id=p2/0/0", wait_until="networkidle")
    assert page.inner_text("h1") == "\u6709\u4e00\u53ea\u84dd\u732b\u3002"
    assert page.inner_text("mark") == "\u4e00\u53ea\u84dd\u732b\u3002"
    press(page, "t")


def test_the_picture_opens_in_full_size(address: str, page: Any) -> None:
    begin(page, address, "Ann")
    page.wait_for_timeout(PAUSE)
    with page.expect_popup() as opened:
        page.keyboard.press("z")
    opened.value.wait_for_load_state()
    assert "full=1" in opened.value.url and "item?" in page.url


@pytest.mark.parametrize("size", [(1366, 768), (820, 1100), (390, 800)])
def test_nothing_is_cut_off_and_the_answers_are_in_view(address: str, page: Any, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    for kind, item in (("claim", "p1/0/0"), ("claim", "p1/1/0"), ("pair", "pair-p1"), ("pair", "pair-p2")):
        page.goto(f"{address}item?person=Ann&kind={kind}&id={item}", wait_until="networkidle")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for button in page.locator(".answers button").all():
            box = button.bounding_box()
            assert box is not None and box["y"] + box["height"] <= size[1] and box["x"] + box["width"] <= size[0]
    for path in ("", "done?person=Ann"):
        page.goto(address + path, wait_until="networkidle")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
