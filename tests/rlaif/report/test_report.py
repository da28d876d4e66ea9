"""The page about a run: complete, self-contained, and safe whatever a model wrote."""

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from evaluation.stage import evaluate
from rlaif.config import Config, EngineSection, ModelSection
from rlaif.errors import InputError
from rlaif.report.__main__ import main
from rlaif.report.charts import Group, Line, histogram, line_chart
from rlaif.report.page import render, report, served
from rlaif.report.pairs import PAIRS_SHOWN, chip, data_uri, pair_cards
from rlaif.report.sections import headline, outcomes, signed, stages, tile
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
from rlaif.storage.writer import TableWriter
from tests.support.doubles import ScriptedEngine
from tests.support.pair_rows import pair_row
from tests.support.synthetic_run import make_run

VOID = {"meta", "img"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """A run that has everything; its policies say a fixed sentence."""
    config, path = make_run(tmp_path_factory.mktemp("report"))

    def serve(section: ModelSection, engine: EngineSection, seed: int) -> ScriptedEngine:
        extra = "" if section.model.endswith("run/policy") else " and a red car at the top"
        return ScriptedEngine(lambda request: [f"I can see a blue car{extra}."])

    evaluate(config, path, serve)
    return config, path


@pytest.fixture(scope="module")
def page(finished: tuple[Config, Path]) -> Page:
    return Page(report(*finished).read_text(encoding="utf-8"))


def test_page_has_every_part(page: Page) -> None:
    for title in (
        "The labeler",
        "Certainty of the labeler",
        "Training",
        "Lengths",
        "Kept and dropped rows",
        "Pairs to check",
        "Provenance",
    ):
        assert title in page.text
    assert "will appear here after" not in page.text
    assert page.tags.count("article") == 20
    assert page.tags.count("svg") == 5
    assert "1 unreadable image" in page.text


def test_page_is_self_contained(page: Page) -> None:
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name == "src":
            assert value.startswith("data:image/webp;base64,")
    assert "url(" not in page.text and "@import" not in page.text
    policy = next(value for name, value in page.attributes if name == "content" and value.startswith("default-src"))
    assert policy.startswith("default-src 'none'")


def test_its_only_links_lead_into_the_browser_and_are_shown_there(finished: tuple[Config, Path], page: Page) -> None:
    """One for the run, each card of the gallery, each pair and each reason for a drop: all relative."""
    links = [value for name, value in page.attributes if name == "href"]
    prompts = {f"prompt/{row['prompt_id']}" for row in read_rows(Run(finished[1], finished[0], "report"), "pairs")}
    assert links.count("./") == 1 and sum(link in prompts for link in links) == 16 + 20
    assert "dropped?q=stage%3Dgeneration%20reason%3Dunreadable_image" in links
    assert all(link in {"./", *prompts} or link.startswith("dropped?q=stage%3D") for link in links)
    text = (finished[1] / "report.html").read_text(encoding="utf-8")
    assert text.count("<a ") == text.count('<a class="served"') == len(links)
    assert '[data-served="no"] .served' in text and text.count('<html lang="en" data-served="no">') == 1
    assert served(text.encode()).decode() == text.replace('lang="en" data-served="no"', 'lang="en" data-served="yes"')


def test_every_chip_is_colored_by_verdict_and_probability(page: Page) -> None:
    chips = [value for name, value in page.attributes if name == "style" and value.startswith("--sure:")]
    assert chips and all(0 <= float(chip.removeprefix("--sure:")) <= 1 for chip in chips)
    assert {"yes", "no"} <= {value for name, value in page.attributes if name == "class"}


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.mkdir()
    config = Config.model_validate({"policy": {"model": "p"}, "labeler": {"model": "l"}})
    text = Page(report(config, path).read_text(encoding="utf-8")).text
    for command in ("make generate", "make feedback", "make dpo", "make evaluate"):
        assert command in text


def test_what_a_model_wrote_is_escaped(finished: tuple[Config, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    page = {}
    monkeypatch.setattr("rlaif.report.page.render", lambda content: page.update(content) or "")
    report(*finished)
    attack = "</p><script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    card = page["pairs"][0]
    card["instruction"] = attack
    card["sides"][0] |= {"text": attack}
    card["sides"][0]["claims"] = [{"claim": attack, "verdict": False, "p_yes": 0.1, "sure": 0.8, "detail": attack}]
    page["name"] = attack
    html = render(page)
    assert "<script" not in html and "<img src=x" not in html
    assert attack in Page(html).text


def test_only_the_images_of_the_shown_pairs_are_read(tmp_path: Path) -> None:
    """The images of all other pairs are damaged, which reading them would report."""
    config = Config.model_validate({"policy": {"model": "p"}, "labeler": {"model": "l"}})
    run = Run(tmp_path, config, "feedback")
    run.begin(["pairs"], {}, inputs=[])
    ids = [f"pair {index}" for index in range(3 * PAIRS_SHOWN)]
    with TableWriter(run, "pairs", key="prompt_id", part_rows=1) as writer:
        for pair_id in ids:
            writer.write([pair_row(pair_id, "What is it?", "A circle.", "A star.")])
    run.finish({}, None)
    shown = [card["id"] for card in pair_cards(run) or []]
    assert len(shown) == PAIRS_SHOWN and shown == [pair_id for pair_id in ids if pair_id in shown]

    file = tmp_path / "pairs.parquet"
    metadata, content = pq.ParquetFile(file).metadata, bytearray(file.read_bytes())
    assert metadata.num_row_groups == len(ids)
    for group, pair_id in enumerate(ids):
        columns = [metadata.row_group(group).column(index) for index in range(metadata.num_columns)]
        (images,) = [column for column in columns if column.path_in_schema == "images.list.element.bytes"]
        if pair_id not in shown:
            start = images.dictionary_page_offset if images.has_dictionary_page else images.data_page_offset
            content[start : start + images.total_compressed_size] = bytes(images.total_compressed_size)
    file.write_bytes(content)
    assert [card["id"] for card in pair_cards(run) or []] == shown
    with pytest.raises(InputError, match="damaged"):
        list(read_rows(run, "pairs"))


def test_no_such_run(tmp_path: Path) -> None:
    config = Config.model_validate({"policy": {"model": "p"}, "labeler": {"model": "l"}})
    with pytest.raises(InputError, match=r"run folder .* does not exist; create it with `make generate"):
        report(config, tmp_path / "none")
    assert main(["--config", str(tmp_path / "none.yaml"), "--run", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (0.30, 0.12, "Hallucination fell by 60%"),
        (0.10, 0.15, "Hallucination rose by 50%"),
        (0.10, 0.10, "Hallucination stayed at 10.0%"),
        (0.0, 0.02, "Hallucination rose from 0% to 2.0%"),
        (None, None, "Answers before and after alignment"),
    ],
)
def test_headline(before: float | None, after: float | None, said: str) -> None:
    assert headline(before, after) == said


@pytest.mark.parametrize(
    ("name", "better", "old", "new", "shift", "verdict"),
    [
        ("mention_rate", -1, 0.4, 0.1, "\N{MINUS SIGN}75%", "good"),
        ("mention_rate", -1, 0.0, 0.1, "was 0", "bad"),
        ("recall", 1, 0.90, 0.885, "\N{MINUS SIGN}1.5 points", "bad"),
        ("mean_words", 0, 20.0, 22.0, "+10%", ""),
    ],
)
def test_tile(name: str, better: int, old: float, new: float, shift: str, verdict: str) -> None:
    figure = tile({name: old}, {name: new}, name, "title", better, {})
    assert figure is not None
    assert (figure["shift"], figure["verdict"]) == (shift, verdict)
    assert all(0 <= width <= 100 for _, _, width in figure["bars"])


def test_chips_say_how_a_claim_was_verified() -> None:
    claim = {
        "claim": "It is red.",
        "question": "Is it?",
        "outcome": "asked",
        "p_yes": 0.75,
        "p_no": 0.25,
        "verdict": True,
    }
    assert chip(claim)["detail"] == "Is it? p(yes) 0.750, p(no) 0.250" and chip(claim)["sure"] == 0.5
    assert chip(claim | {"outcome": "restated"})["detail"].startswith("Verified as a statement. p(yes)")
    unknown = chip(claim | {"outcome": "unknown", "p_yes": None, "p_no": None, "verdict": None})
    assert (unknown["detail"], unknown["sure"]) == ("could not be verified", 0.0)


def test_idle_engines_are_shown_where_they_are_known() -> None:
    counts: dict[str, Any] = {"kept": {}, "dropped": {}, "seconds": 1.0}
    metrics: dict[str, Any] = {"stages": {"generation": counts, "feedback": counts, "dpo": counts}}
    metrics |= {"sampling": {"engine_idle_share": 0.0312}, "labeling": {"engine_idle_share": None}}
    assert [row["idle"] for row in stages(metrics).values()] == ["3.1%", "", ""]


def test_outcomes_are_counted_with_their_shares() -> None:
    counts = outcomes({"feedback": {"asked_claims": 6, "restated_claims": 3, "unknown_claims": 1}})
    assert counts is not None and [row[1:] for row in counts] == [(6, 0.6), (3, 0.3), (1, 0.1)]
    assert outcomes({}) is None and outcomes({"feedback": {"asked_claims": 0}}) is None


def test_signed() -> None:
    assert [signed(value, None) for value in (0.0, -2.0, 0.25, -0.0258732)] == [
        "0",
        "\N{MINUS SIGN}2",
        "0.25",
        "\N{MINUS SIGN}0.026",
    ]


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_data_uri_of_any_kind_of_image(mode: str) -> None:
    uri = data_uri(encoded(Image.new(mode, (2000, 900)), "JPEG"))
    assert re.match(r"data:image/webp;base64,[A-Za-z0-9+/=]+$", uri)


def test_histogram_bars_are_shares() -> None:
    svg = histogram([Group("a", "chosen", [0, 0, 0, 9])], low=0, high=10, bins=2, x_label="tokens")
    assert re.findall(r"<title>a, (.*?)</title>", svg) == ["0 to 5: 75.0%", "5 to 10: 25.0%"]


@pytest.mark.parametrize("values", [[5], [5, 5, 5], [0, 1000]])
def test_charts_of_hardly_any_data(values: list[float]) -> None:
    groups = [Group("a", "chosen", values), Group("b", "rejected", values)]
    bars = histogram(groups, low=0, high=1001, bins=7, x_label="x")
    shares = re.findall(r"<title>a, .*?: ([0-9.]+)%</title>", bars)
    assert sum(map(float, shares)) == pytest.approx(100)
    assert 'class="line tone-rejected"' in bars  # the outline of the second group
    mean = sum(values) / len(values)
    assert all(f"<title>mean of {name}: {mean:.1f}</title>" in bars for name in "ab")
    line = line_chart([Line("a", "chosen", [(1, value) for value in values])], x_label="step")
    assert all("nan" not in svg and "inf" not in svg for svg in (bars, line))


def test_names_in_charts_are_escaped() -> None:
    assert "<b>" not in line_chart([Line("<b>", "chosen", [(0, 1), (1, 2)])], x_label="<b>")


@pytest.mark.parametrize("sign", [1, -1])
def test_rewards_that_both_fall_are_explained(tmp_path: Path, sign: int) -> None:
    config, path = make_run(tmp_path)
    log = [
        {
            "step": step,
            "loss": 0.6,
            "rewards/chosen": 0.02 * sign * step,
            "rewards/rejected": -0.04 * step,
            "rewards/margins": 0.04 * step + 0.02 * sign * step,
            "logps/chosen": -50.0 + sign * step,
            "logps/rejected": -60.0 - step,
        }
        for step in range(40)
    ]
    (path / "dpo" / "log.json").write_text(json.dumps(log))
    page = report(config, path).read_text()
    assert "Log-probability of an answer" in page
    falling = "chosen -0.69, rejected -1.38"  # the last ten entries
    assert (falling in page) == ("Both rewards ended below 0" in page) == ("apo_zero" in page) == (sign < 0)
    assert ("add the loss" in page) == (sign < 0) and "more weight" not in page
    trained = {"settings": {"dpo": {"trainer": {"loss_type": ["sigmoid", "sft"]}}}}
    (path / "dpo.json").write_text(json.dumps(trained | {"outputs": [], "finished": True}))
    page = report(config, path).read_text()
    assert ("more weight" in page) == (sign < 0) and "add the loss" not in page
