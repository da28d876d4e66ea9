"""The pages over HTTP: what they show, who may ask, and that texts of models stay texts."""

import re
from html import unescape
from io import BytesIO
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image
from starlette.testclient import TestClient

from browser.app import create_app
from browser.tables import Runs
from tests.support.runs.browsed import HOSTILE, write_run

TOKEN = "a-token-of-the-tests"
PAGES = ("", "pairs", "prompts", "dropped", "compare", "prompt/p1", "compare/p1", "picture/p1/0", "static/browser.css")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "one")


@pytest.fixture(scope="module")
def site(folder: Path) -> TestClient:
    other = write_run(folder.parent / "two", worse=1.0)
    app, _ = create_app(Runs(folder, other), [], TOKEN)
    return TestClient(app, base_url="http://127.0.0.1:8000")


def page(site: TestClient, path: str, **query: str) -> str:
    answer = site.get(f"/{TOKEN}/{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.text


def ids(text: str) -> list[str]:
    """The pairs of a page, in order."""
    return re.findall(r'aria-label="Pair ([^"]+)"', text)


@pytest.mark.parametrize("path", PAGES)
def test_every_route_needs_the_token(site: TestClient, path: str) -> None:
    assert site.get(f"/{TOKEN}/{path}").status_code == 200
    for wrong in ("", "a-token-of-the-test/", f"{TOKEN}x/", "\u732b/", f"x/{TOKEN}/", f"?{TOKEN}/"):
        answer = site.get(f"/{wrong}{path}")
        assert answer.status_code == 403 and answer.text.count("\n") == 1
    assert site.get(f"/{path}", params={"token": TOKEN}).status_code == 403


def test_a_new_token_is_made_for_each_start(folder: Path) -> None:
    tokens = {create_app(Runs(folder), [])[1] for _ in range(2)}
    assert len(tokens) == 2 and all(len(token) == 32 for token in tokens)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8000", "", "127.0.0.2"])
def test_other_hosts_are_refused(site: TestClient, host: str) -> None:
    assert site.get(f"/{TOKEN}/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "127.0.0.1:1", "[::1]:8000"])
def test_this_machine_is_served_behind_any_port(site: TestClient, host: str) -> None:
    assert site.get(f"/{TOKEN}/", headers={"host": host}).status_code == 200


def test_nothing_can_be_changed(site: TestClient, folder: Path) -> None:
    def state() -> dict[str, tuple[int, bytes]]:
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    before = state()
    for path in PAGES:
        for method in ("POST", "PUT", "DELETE", "HEAD"):
            assert site.request(method, f"/{TOKEN}/{path}").status_code == 405
        site.get(f"/{TOKEN}/{path}")
    assert state() == before


def test_headers(site: TestClient) -> None:
    for path in (f"{TOKEN}/", f"{TOKEN}/picture/p1/0", f"{TOKEN}/nothing", ""):
        headers = site.get(f"/{path}").headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none';") and "unsafe" not in policy and "http" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "same-origin"
        assert "cache-control" in headers


@pytest.mark.parametrize("path", PAGES[:-2])
def test_texts_of_models_are_escaped(site: TestClient, path: str) -> None:
    text = page(site, path)
    assert text.count("<script") == 1 and "<img src=x" not in text and "<i>Nothing" not in text and "<b>it" not in text
    assert not re.search(r"\son\w+=|\sstyle=|javascript:", re.sub(r"&lt;.*?&gt;", "", text))


def test_a_hostile_response_is_shown_as_it_is(site: TestClient) -> None:
    text = page(site, "prompt/p1")
    texts = re.findall(r'<p class="text".*?</p>', text)
    assert HOSTILE in [unescape(re.sub(r"<sup>.*?</sup>|<[^>]+>", "", part)) for part in texts]


@pytest.mark.parametrize(
    "query", ["' OR 1=1 --", "'); DROP TABLE run.pairs_index; --", '"; COPY', "%", "\x00", "\u732b' \""]
)
def test_sql_in_a_filter_is_a_text(site: TestClient, query: str) -> None:
    for name in ("pairs", "prompts", "dropped", "compare"):
        answer = site.get(f"/{TOKEN}/{name}", params={"q": query})
        assert answer.status_code in (200, 400)
        assert not ids(answer.text)
        assert site.get(f"/{TOKEN}/{name}", params={"sort": query}).status_code == 400
    assert ids(page(site, "pairs")) == ["pair-p1", "pair-p2"]


def test_ids_of_an_address_are_no_sql_and_no_path(site: TestClient, folder: Path) -> None:
    for wrong in ("p1' OR '1'='1", "..%2F..%2Fetc%2Fpasswd", "%2e%2e", "p1%00"):
        for route in ("prompt/{}", "compare/{}", "picture/{}/0", "static/{}"):
            answer = site.get(f"/{TOKEN}/{route.format(wrong)}")
            assert answer.status_code == 404, route
            assert "root:" not in answer.text
    for index in ("1", "-1", "x", "0.0", "9999"):
        assert site.get(f"/{TOKEN}/picture/p1/{index}").status_code == 404


def test_pairs_show_claims_where_they_stand(site: TestClient) -> None:
    text = page(site, "pairs", q="pair_id=pair-p1")
    assert '<mark class="yes d8" data-claims="1">A red dog runs</mark><sup>1</sup>, ' in text
    assert '<mark class="no d1" data-claims="2">a cat sleeps</mark><sup>2</sup>' in text
    assert "not placed in the text" in text and "&lt;i&gt;Nothing&lt;/i&gt; else." in text
    assert ">90%</small>" in text and "score \N{MINUS SIGN}1" in text and "unknown</small>" in text


@pytest.mark.parametrize(
    ("query", "sort", "expected"),
    [
        ("", "", ["pair-p1", "pair-p2"]),
        ("", "-pair_id", ["pair-p2", "pair-p1"]),
        ("margin>=2", "", ["pair-p2"]),
        ("weakest<0.2", "", ["pair-p1"]),
        ("unknown>0 split=train", "", ["pair-p1"]),
        ("p_yes>0.95", "", ["pair-p2"]),
        ("claim~CAT", "", ["pair-p1"]),
        ("claim!~cat", "", ["pair-p2"]),
        ("\u84dd\u732b", "", ["pair-p2"]),
        ("chosen~\u7ea2 rejected~\u8f66", "", ["pair-p2"]),
        ('instruction~"<b>it</b>"', "", ["pair-p1"]),
        ("outcome=unknown", "", ["pair-p1"]),
        ("split!=train", "", []),
        ("margin!=none", "", ["pair-p1", "pair-p2"]),
    ],
)
def test_filters_and_orders(site: TestClient, query: str, sort: str, expected: list[str]) -> None:
    assert ids(page(site, "pairs", q=query, sort=sort)) == expected


def test_a_wrong_filter_is_one_clear_line(site: TestClient) -> None:
    answer = site.get(f"/{TOKEN}/pairs", params={"q": "colour=red"})
    assert answer.status_code == 400
    assert "pairs have no column &#39;colour&#39;; expected one of: margin" in answer.text
    for wrong in ("0", "-1", "x", "1e3", "99999999999"):
        answer = site.get(f"/{TOKEN}/pairs", params={"page": wrong})
        assert answer.status_code == 400 and "expected a number from 1" in answer.text
    assert ids(page(site, "pairs", page="7")) == ["pair-p1", "pair-p2"]  # the last one


def test_prompts_and_why_they_have_no_pair(site: TestClient) -> None:
    text = page(site, "prompts")
    assert "no pair: all scores equal" in text and "no pair: no responses" in text and ">1 pair</a>" in text
    assert "What is this?" in page(site, "prompts", q="pairs=0 responses>0") and "\u63cf\u8ff0" in text


def test_responses_come_by_score(site: TestClient) -> None:
    text = page(site, "prompt/p2")
    assert re.findall(r"score (\S+?)<", text) == ["0", "\N{MINUS SIGN}1"]
    assert ">chosen</a>" in text and ">rejected</a>" in text
    assert "2 responses score 0" in page(site, "prompt/p3")
    assert "None was sampled" in page(site, "prompt/p4")


def test_dropped_rows_with_their_pictures(site: TestClient) -> None:
    text = page(site, "dropped")
    assert text.count("no picture in this run") == 1  # the file that could not be opened
    assert f"/{TOKEN}/picture/p1/0" in text and f"/{TOKEN}/picture/p3/0" in text  # of a claim and of a prompt
    assert "A dog runs." in text  # the response of the claim
    assert "broken image: cut short" in page(site, "dropped", q="stage=generation")


def test_two_runs_side_by_side(site: TestClient) -> None:
    text = page(site, "compare", q="change<0", sort="change")
    assert "<b>3</b> prompts in both runs" in text
    text = page(site, "compare/p2")
    assert re.findall(r"score (\S+?)<", text) == ["0", "\N{MINUS SIGN}1", "\N{MINUS SIGN}1", "\N{MINUS SIGN}2"]


def test_a_prompt_links_to_the_other_run_only_if_that_has_it(folder: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "two")
    prompts = pq.read_table(other / "prompts.parquet")
    pq.write_table(prompts.filter(pc.not_equal(prompts["prompt_id"], "p2")), other / "prompts.parquet")
    app, _ = create_app(Runs(folder, other), [], TOKEN)
    client = TestClient(app, base_url="http://localhost")
    assert "compare with two" in page(client, "prompt/p1") and "compare with" not in page(client, "prompt/p2")


def test_pages_are_counted_below_only_where_there_are_several(site: TestClient) -> None:
    assert page(site, "pairs").count('aria-label="Pages"') == 1
    assert "<b>1</b> pair</p>" in page(site, "pairs", q="pair_id=pair-p1")
    assert "<b>1</b> prompt in both runs</p>" in page(site, "compare", q="prompt_id=p1")


def test_one_run_has_nothing_to_compare(folder: Path) -> None:
    app, token = create_app(Runs(folder), [])
    client = TestClient(app, base_url="http://localhost")
    for path in ("compare", "compare/p1"):
        answer = client.get(f"/{token}/{path}")
        assert answer.status_code == 400 and "OTHER=" in answer.text


def test_pictures(site: TestClient) -> None:
    picture = site.get(f"/{TOKEN}/picture/p1/0")
    assert picture.headers["content-type"] == "image/webp" and "max-age" in picture.headers["cache-control"]
    assert Image.open(BytesIO(picture.content)).size == (60, 40)
    broken = site.get(f"/{TOKEN}/picture/p3/0")
    assert broken.headers["content-type"] == "image/svg+xml" and "cannot be opened" in broken.text
    assert "no picture in this run" in site.get(f"/{TOKEN}/picture/p9/0").text


def test_an_address_of_a_view_is_complete(site: TestClient) -> None:
    """Every link of a page leads to a page, and keeps the token."""
    seen = set()
    for path in PAGES[:-2]:
        for link in re.findall(r'(?:href|src|action)="([^"#]+)"', page(site, path)):
            seen.add(unescape(link))
    assert len(seen) > 30 and all(link.startswith(f"/{TOKEN}/") for link in seen)
    assert {link: status for link in seen if (status := site.get(link).status_code) != 200} == {}
