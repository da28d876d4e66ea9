"""The picture of a pair: the clearest one, in a file that needs nothing else."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rlaif.report.picture import draw, main, preference, text_width, wrap
from tests.support.pair_rows import png
from tests.support.synthetic_run import make_run


def claim(text: str, verdict: bool, p_yes: float = 0.9) -> dict[str, object]:
    return {
        "claim": text,
        "question": text,
        "p_yes": p_yes if verdict else 1 - p_yes,
        "p_no": 1 - p_yes if verdict else p_yes,
        "verdict": verdict,
    }


UNKNOWN: dict[str, object] = {
    "claim": "There is a bird.",
    "question": "?",
    "p_yes": None,
    "p_no": None,
    "verdict": None,
}


def pair(chosen: list[dict[str, object]], rejected: list[dict[str, object]]) -> dict[str, object]:
    return {
        "images": [{"bytes": png((56, 112)), "path": None}],
        "prompt": [{"role": "user", "content": "What <is> it?"}],
        "chosen": [{"role": "assistant", "content": "A dog & a cat."}],
        "rejected": [{"role": "assistant", "content": "A dog."}],
        "chosen_claims": chosen,
        "rejected_claims": rejected,
        "chosen_score": 0.0,
        "rejected_score": -1.0,
    }


def test_a_picture_is_whole_and_shows_every_claim() -> None:
    svg = draw(pair([claim("There is a dog.", True, 0.97)], [claim("There is a cat.", False, 0.88)]))
    root = ElementTree.fromstring(svg)
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    for shown in (
        "What <is> it?",
        "A dog & a cat.",
        "There is a dog.",
        "97%",
        "12%",
        "score 0",
        "score \N{MINUS SIGN}1",
    ):
        assert shown in texts
    assert re.search('class="claim struck"[^>]*>There is a cat', svg)
    assert re.search('class="claim"[^>]*>There is a dog', svg)
    hrefs = [value for element in root.iter() for key, value in element.attrib.items() if key.endswith("href")]
    assert len(hrefs) == 1 and hrefs[0].startswith("data:image/png;base64,")
    assert "<script" not in svg and "url(" not in svg and "@import" not in svg


def test_an_unknown_claim_is_neither_struck_nor_marked_as_true() -> None:
    svg = draw(pair([claim("There is a dog.", True)], [claim("There is a cat.", False), UNKNOWN]))
    texts = [text.text for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert "There is a bird." in texts and "unknown" in texts
    assert re.search('tone-margin.*class="claim"[^>]*>There is a bird', svg)


def test_the_pair_that_shows_most_is_taken() -> None:
    true, false = claim("a", True), claim("b", False)
    clear = pair([true, true], [true, false, false])
    others = [
        pair([true, false], [true, false, false]),  # an error in the chosen answer
        pair([true, true], [false, false]),  # nothing right in the rejected one
        pair([true, true], [true, false]),
        pair([true] * 6, [true, false, false]),  # too long
        pair([true, true], [true, false, false, UNKNOWN]),
    ]
    assert min([*others, clear], key=preference) is clear


def test_lines_are_as_wide_as_they_may_be() -> None:
    text = "one two three four five six\nseven"
    lines = list(wrap(text, 80, 10))
    assert " ".join(lines) == text.replace("\n", " ") and lines[-1] == "seven"
    assert all(text_width(line, 10) <= 80 for line in lines)
    assert list(wrap("x" * 50, 80, 10)) == ["x" * 50]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, run = make_run(tmp_path)
    out = tmp_path / "assets" / "pair.svg"
    assert main(["--run", str(run), "--out", str(out)]) == 0
    first = out.read_text(encoding="utf-8")
    assert ElementTree.fromstring(first).tag.endswith("svg")
    assert main(["--run", str(run), "--out", str(out)]) == 0
    assert out.read_text(encoding="utf-8") == first
    assert main(["--run", str(run), "--out", str(out), "--pair", "other"]) == 2
    assert main(["--run", str(tmp_path / "none"), "--out", str(out)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "has no pair 'other'; report.html shows ids as `pair-ID`" in errors[0]
    assert "pairs.parquet is missing; first run `make feedback" in errors[1]
