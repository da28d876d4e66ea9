"""The pages of an audit over HTTP: who may write, what is saved, and that no page knows what the labeler says."""

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from browser import app as browse
from browser.tables import Runs
from evaluation.audit.figures import FALSE, FOREIGN, TRUE, UNCLEAR
from evaluation.audit.store import FIRST, TABLE, Audit, read_verdicts
from evaluation.labeler_quality import labeler_counts, labeler_figures
from evaluation.statistics import total
from rlaif.storage.run import Run
from tests.support.runs.answering import HERE, ORIGIN, TOKEN, Person
from tests.support.runs.audited import answers_by_truth, assert_contains
from tests.support.runs.browsed import HOSTILE, write_run
from tests.support.synthetic_run import make_run


@pytest.fixture
def ann(tmp_path: Path) -> Person:
    return Person(write_run(tmp_path / "run"))


@pytest.fixture(scope="module")
def unheard(tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Someone of whom nothing is ever saved."""
    return Person(write_run(tmp_path_factory.mktemp("runs") / "run"))


def test_claims_are_asked_one_by_one_then_pairs_then_the_end(ann: Person) -> None:
    claims, pairs = ann.audit.sample["claims"], ann.audit.sample["pairs"]
    assert (len(claims), len(pairs)) == (7, 2)  # an unknown claim has no verdict to compare with
    for number, answer in enumerate([TRUE, FALSE, UNCLEAR, FOREIGN, TRUE, TRUE, FALSE]):
        text = ann.get(ann.next())
        assert f"<b>{number + 1}</b> of 7 claims" in text and f'value="{number}" max="7"' in text
        ann.answer(answer)
    assert "<b>1</b> of 2 pairs" in ann.get(ann.next())
    ann.answer(FIRST)
    assert ann.answer("equal").startswith("done?")
    assert [row[1] for row in ann.verdicts()] == [*claims, *pairs]
    text = ann.get("done", person="Ann")
    assert "Nothing is left to answer" in text and '<dt class="number">3</dt><dd>true</dd>' in text
    assert f"make evaluate RUN={ann.path}\nmake report RUN={ann.path}" in text
    assert ann.next().startswith("done?")


def test_the_first_page_says_what_is_asked_and_who_has_begun(ann: Person) -> None:
    text = ann.get("")
    assert "<b>7 claims</b>, then <b>2 pairs</b>" in text and "a note" in text and "Go on as" not in text
    for key in ("t", "f", "c", "x", "0", "e", "u", "n", "z", "?"):
        assert f"<kbd>{key}</kbd>" in text
    ann.answer(TRUE)
    assert "1 of 7 claims, 0 of 2 pairs answered" in ann.get("")


def flip(path: Path) -> None:
    """The same run with a labeler that says the contrary of everything, and scores to fit."""
    for name in ("claims", "pairs"):
        table = pq.read_table(path / f"{name}.parquet")
        rows = table.to_pylist()
        for row in rows:
            claims = [row] if name == "claims" else [*row["chosen_claims"], *row["rejected_claims"]]
            for claim in claims:
                if claim["verdict"] is not None:
                    claim.update(
                        p_yes=claim["p_no"], p_no=claim["p_yes"], verdict=not claim["verdict"], question="Why?"
                    )
                    claim["outcome"] = "restated"
            if name == "pairs":
                row.update(chosen_score=5.25, rejected_score=-7.75)
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path / f"{name}.parquet")


def pages(person: Person) -> Iterator[str]:
    """Everything that a person sees: the first page, each item before and after an answer, the end."""
    for kind in ("claim", "pair"):
        for item in person.audit.sample[f"{kind}s"]:
            yield person.get("item", person=person.name, kind=kind, id=item)
            person.answer(UNCLEAR)
            yield person.get("item", person=person.name, kind=kind, id=item)
    yield person.get("")
    yield person.get("done", person=person.name)


@pytest.mark.slow
def test_no_page_depends_on_what_the_labeler_says(tmp_path: Path) -> None:
    """The same sample of two runs whose labelers contradict one another; the pages of `make browse` do differ."""
    one, two = write_run(tmp_path / "one" / "run"), write_run(tmp_path / "two" / "run")
    flip(two)
    sample = Audit.open(one, 20, 0).sample
    shown = []
    for path in (one, two):
        texts = list(pages(Person(path, audit=Audit(path, sample))))
        shown.append([re.sub(r'name="shown" value="[\d.]+"', "", text).replace(str(path), "RUN") for text in texts])
    assert len(shown[0]) == 2 * 9 + 2 and shown[0] == shown[1]
    assert not [text for text in shown[0] if re.search(r"labeler_|p\(yes\)|p_yes|verified|score|chosen|rejected", text)]
    lists = []
    for path in (one, two):
        app, token = browse.create_app(Runs(path), [], TOKEN)
        lists.append(TestClient(app, base_url=HERE).get(f"/{token}/pairs").text)
    assert lists[0] != lists[1] and '<mark class="yes' in lists[0] and ">90%<" in lists[0] and "score" in lists[0]


def test_a_claim_is_marked_where_it_stands_in_one_color(ann: Person) -> None:
    texts = [ann.get("item", person="Ann", kind="claim", id=item) for item in ann.audit.sample["claims"]]
    marks = [re.findall(r"<mark.*?</mark>", text) for text in texts]
    assert ["<mark>A red dog runs</mark>"] in marks and ["<mark>\u4e00\u53ea\u84dd\u732b\u3002</mark>"] in marks
    assert all(mark.startswith("<mark>") for found in marks for mark in found)


def test_a_response_full_of_html_is_shown_as_it_is(ann: Person) -> None:
    text = ann.get("item", person="<b>Eve</b>", kind="claim", id="p1/1/0")
    assert text.count("<script") == 1 and "<img src=x" not in text and "<b>it</b>" not in text
    assert "&lt;b&gt;Eve&lt;/b&gt;" in text
    (shown,) = re.findall(r'<p class="text".*?</p>', text)
    assert unescape(re.sub(r"<[^>]+>", "", shown)) == HOSTILE
    pair = ann.get("item", person="Ann", kind="pair", id="pair-p1")
    assert pair.count("<script") == 1 and "&lt;img src=x onerror=alert(1)&gt;" in pair


def test_the_blind_order_is_that_of_the_store(ann: Person) -> None:
    text = ann.get("item", person="Ann", kind="pair", id="pair-p1")
    first, second = (unescape(part) for part in re.findall(r'<p class="text".*?>(.*?)</p>', text))
    chosen = "A red dog runs, a cat sleeps and a bird sings."
    assert (first if ann.audit.is_chosen_first("pair-p1") else second) == chosen


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "null"},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:9000"},
        {"origin": "https://127.0.0.1:8000"},
        {"origin": "http://localhost:8000"},
        {**ORIGIN, "sec-fetch-site": "cross-site"},
        {**ORIGIN, "sec-fetch-site": "same-site"},
        {**ORIGIN, "sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin"},
        {**ORIGIN, "host": "evil.example"},
        {"origin": "http://evil.example", "host": "evil.example"},
    ],
    ids=str,
)
def test_a_verdict_from_elsewhere_is_refused(unheard: Person, headers: dict[str, str]) -> None:
    answer = unheard.send({**unheard.fields(unheard.get(unheard.next())), "answer": TRUE}, headers)
    assert answer.status_code == 403 and answer.text.count("\n") == 1
    assert not (unheard.path / TABLE).exists()


def test_a_verdict_from_here_is_saved(ann: Person) -> None:
    fields = {**ann.fields(ann.get(ann.next())), "answer": TRUE}
    assert ann.send(fields, {**ORIGIN, "sec-fetch-site": "same-origin"}).status_code == 303
    at_localhost = {"origin": "http://localhost:8000", "host": "localhost:8000"}  # a port that is forwarded
    assert ann.send(fields, at_localhost).status_code == 303
    assert len(ann.verdicts()) == 2


def test_only_verdicts_are_taken_and_only_with_the_token(ann: Person) -> None:
    fields = {**ann.fields(ann.get(ann.next())), "answer": TRUE}
    for path in ("/answer", f"/{TOKEN}x/answer", "/x/answer", f"/x/{TOKEN}/answer"):
        assert ann.client.post(path, data=fields, headers=ORIGIN).status_code == 403
    for path in ("", "next", "item", "done", "answer/", "answer/x", "static/audit.js", "picture/p1/0"):
        assert ann.client.post(f"/{TOKEN}/{path}", data=fields, headers=ORIGIN).status_code == 405
    for method in ("PUT", "DELETE", "PATCH"):
        assert ann.client.request(method, f"/{TOKEN}/answer", headers=ORIGIN).status_code == 405
    assert ann.client.get(f"/{TOKEN}/answer").status_code == 405
    app, token = browse.create_app(Runs(ann.path), [], TOKEN)
    answer = TestClient(app, base_url=HERE).post(f"/{token}/answer", data=fields, headers=ORIGIN)
    assert answer.status_code == 405 and answer.text == "error: nothing can be changed here; only GET is served\n"
    assert not (ann.path / TABLE).exists()


def test_the_last_answer_counts_and_u_goes_back_through_them(ann: Person) -> None:
    first, second, third = ann.audit.sample["claims"][:3]
    assert 'rel="prev"' not in ann.get(ann.next())
    for answer in (TRUE, TRUE):
        ann.answer(answer)

    def back(address: str) -> str:
        (found,) = re.findall(r'rel="prev" href="([^"]+)"', ann.get(address))
        return unescape(found).removeprefix(f"/{TOKEN}/")

    previous = back(ann.next())
    text = ann.get(previous)
    assert ann.fields(text)["id"] == second and "you said: <b>true</b>" in text and "<b>2</b> of 7 claims" in text
    assert ann.fields(ann.get(back(previous)))["id"] == first
    assert ann.fields(ann.get(ann.answer(FALSE, previous)))["id"] == third  # and on from there
    assert ann.verdicts()[-1] == ("Ann", second, FALSE)
    assert ann.audit.answers("claim")[second] == {"Ann": FALSE}
    ann.answer(FALSE, back(back(ann.next())))
    assert ann.fields(ann.get(back(ann.next())))["id"] == first  # what was answered last


def test_a_reload_and_a_second_tab_lose_nothing(ann: Person) -> None:
    address = ann.next()
    tabs = [ann.fields(ann.get(address)) for _ in range(2)]
    assert tabs[0]["id"] == tabs[1]["id"] == ann.audit.sample["claims"][0]
    ann.answer(TRUE)
    ann.answer(TRUE)
    assert "you said: <b>true</b>" in ann.get(address)  # a reload of the first tab
    answer = ann.send({**tabs[1], "answer": FALSE})
    assert (
        ann.fields(ann.get(str(answer.headers["location"]).removeprefix(f"/{TOKEN}/")))["id"]
        == (ann.audit.sample["claims"][2])
    )
    assert [row[2] for row in ann.verdicts()] == [TRUE, TRUE, FALSE]


def test_two_people_have_their_own_items(ann: Person) -> None:
    bob = Person(ann.path, "\u674e\u96f7", ann.audit)
    ann.answer(TRUE)
    assert bob.fields(bob.get(bob.next()))["id"] == ann.audit.sample["claims"][0]
    bob.answer(FALSE)
    bob.answer(FALSE)
    ann.answer(TRUE)
    first, second = ann.audit.sample["claims"][:2]
    assert ann.audit.answers("claim") == {name: {"Ann": TRUE, "\u674e\u96f7": FALSE} for name in (first, second)}
    assert '<dt lang="" dir="auto">\u674e\u96f7</dt><dd>2 of 7 claims' in ann.get("done", person="Ann")


def test_a_name_is_one_person_whatever_its_case_and_spaces(ann: Person) -> None:
    ann.answer(TRUE)
    ann.answer(TRUE, person="  aNN ")
    assert {row[0] for row in ann.verdicts()} == {"Ann"}
    for name in ("", "   ", "x" * 61, "a\x00b", "\u202eevil"):
        assert "the name is" in ann.get("next", 400, person=name)


def test_seconds_come_from_the_page_or_from_when_it_was_made(ann: Person) -> None:
    ann.answer(TRUE, seconds="4000.25")  # left open over lunch
    ann.answer(TRUE)
    recorded = [row["seconds"] for row in read_verdicts(ann.path)]
    assert recorded[0] == 4000.25 and 0 <= recorded[1] < 60


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "maybe"}, "expected one of true, false, cannot tell, not of this response"),
        ({"answer": FIRST}, "expected one of true, false, cannot tell, not of this response"),
        ({"id": "p9/0/0"}, "is not in the sample of this audit"),
        ({"kind": "run"}, "kind is 'run', expected one of claim, pair"),
        ({"person": " "}, "the name is ' '"),
        ({"seconds": "nan"}, "seconds is 'nan', expected a number from 0"),
        ({"seconds": "-1"}, "seconds is '-1', expected a number from 0"),
        ({"shown": "x"}, "seconds is 'x', expected a number from 0"),
        ({"answer": None}, "the verdict has no answer; nothing is saved"),
        ({"answer": "x" * 20_000}, "has more than 16384 bytes"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else next(iter(value)),
)
def test_what_is_no_verdict_is_one_line(unheard: Person, change: dict[str, str | None], message: str) -> None:
    fields = {**unheard.fields(unheard.get(unheard.next())), "answer": TRUE, **change}
    answer = unheard.send({name: value for name, value in fields.items() if value is not None})
    (problem,) = re.findall(r'role="alert">(.*?)</p>', answer.text)
    assert answer.status_code in (400, 413) and message in unescape(problem)
    assert not (unheard.path / TABLE).exists()


def test_what_cannot_be_saved_is_said_and_not_skipped(ann: Person) -> None:
    address = ann.next()
    in_the_way = ann.path / f".{TABLE}.tmp"
    in_the_way.mkdir()
    answer = ann.send({**ann.fields(ann.get(address)), "answer": TRUE})
    assert answer.status_code == 500 and "the verdict is not saved: fix it, go back" in answer.text
    in_the_way.rmdir()
    assert ann.next() == address
    ann.answer(TRUE)
    assert len(ann.verdicts()) == 1


def test_unknown_items_and_pictures(ann: Person) -> None:
    for kind, item in (("claim", "p9"), ("pair", "p1/0/0"), ("", ""), ("claim", "p1/1/1")):
        assert "is not in the sample" in ann.get("item", 404, person="Ann", kind=kind, id=item)
    picture = ann.client.get(f"/{TOKEN}/picture/p1/0")
    assert picture.headers["content-type"] == "image/webp"
    assert "cannot be opened" in ann.get("picture/p3/0") and "no picture" in ann.get("picture/p9/0", 404)
    ann.get("static/pages.py", 404)


def test_every_link_of_a_page_leads_on(ann: Person) -> None:
    ann.answer(TRUE)
    shown = [ann.get(path) for path in ("", ann.next(), "done?person=Ann", "item?person=Ann&kind=pair&id=pair-p2")]
    links = {unescape(link) for text in shown for link in re.findall(r'(?:href|src)="([^"#]+)"', text)}
    assert len(links) > 8 and all(link.startswith(f"/{TOKEN}/") for link in links)
    assert {link for link in links if ann.client.get(link).status_code not in (200, 303)} == set()


@pytest.mark.slow
def test_an_audit_by_the_truth_finds_what_evaluate_reports(tmp_path: Path) -> None:
    config, path = make_run(tmp_path)
    truth = Person(path, "truth", Audit.open(path, 100, 0))
    run = Run(path, config, "evaluate")
    for kind, item, said in answers_by_truth(truth.audit, run, "truth"):
        fields = truth.fields(truth.get(truth.next()))
        assert (fields["kind"], fields["id"]) == (kind, item)
        assert truth.send({**fields, "answer": said}).status_code == 303
    figures, intervals = Audit(path, json.loads((path / "audit.json").read_text())).figures()
    assert figures["judged"] == 100 and truth.next().startswith("done?")
    assert_contains(intervals, labeler_figures(total(labeler_counts(run))))
