"""The prompts of the labeler: what they contain, how long they are, and that text in a placeholder stays text."""

from pathlib import Path

import pytest

from feedback.labeler_prompts import LabelerPrompts, read_prompts
from rlaif.errors import ConfigError
from tests.support import EMBEDDED_PROMPTS, ROOT

FILES = ("split", "resplit", "supported", "verify", "statement", "whole")


@pytest.fixture(params=[None, EMBEDDED_PROMPTS], ids=["general", "embedded"])
def prompts(request: pytest.FixtureRequest) -> LabelerPrompts:
    return read_prompts(request.param)


def test_every_prompt_contains_what_it_is_about(prompts: LabelerPrompts) -> None:
    source = ("What color is it?", "It is {claim} red.")
    assert source[1] in prompts.format_split(*source) and source[1] in prompts.format_whole(*source)
    assert "It is red." in prompts.format_resplit(*source, "It is red.")
    supported = prompts.format_supported(*source, "It is red.")
    assert supported.index(source[1]) < supported.index("It is red."), "the shared text comes first"
    assert "Is it red?" in prompts.format_verify("Is it red?")
    assert "It is red." in prompts.format_statement("It is red.")


def test_questions_ask_for_yes_or_no(prompts: LabelerPrompts) -> None:
    for name in ("supported", "verify", "statement", "whole"):
        assert getattr(prompts, name).lower().rstrip(".").endswith("yes or no"), name


def test_placeholders_are_replaced_once() -> None:
    prompts = LabelerPrompts(*["{instruction}|{response}|{claim}|{other} {x: 1}"] * 6)
    filled = prompts.format_split("{response}", "{instruction} {claim}")
    assert filled == "{response}|{instruction} {claim}|{claim}|{other} {x: 1}"
    assert prompts.format_resplit("", "{claim}\\1", "{response}") == "|{claim}\\1|{response}|{other} {x: 1}"


def test_the_general_prompts_have_instruction_and_examples() -> None:
    prompts = read_prompts(None)
    for name in ("split", "resplit", "supported", "whole"):
        assert "{instruction}" in getattr(prompts, name), name
    for part in ("opinion", '"claims"', '"question"', "language of the answer", "tense", "quot", "\u56fe\u4e2d"):
        assert part in prompts.split, part
    questions = [line for line in prompts.split.splitlines() if line.startswith("Question: ")]
    assert len(questions) >= 6, "five examples, and what is to be divided"


def test_the_embedded_prompts_do_not_mention_the_instruction() -> None:
    """The embedded labeler was trained without it; tests/scenes compares the prompts with those of its training."""
    prompts = read_prompts(EMBEDDED_PROMPTS)
    assert not any("{instruction}" in getattr(prompts, name) for name in FILES)


@pytest.mark.parametrize(("folder", "most"), [(None, 6000), (EMBEDDED_PROMPTS, 60)])
def test_prompts_are_short(folder: str | None, most: int) -> None:
    """In tokens of the shipped tokenizer, which has 1,300 entries and spends about three on an English word."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(ROOT / "assets" / "labeler" / "tokenizer.json"))
    prompts = read_prompts(folder)
    lengths = {name: len(tokenizer.encode(getattr(prompts, name)).ids) for name in FILES}
    assert lengths["split"] <= most
    assert all(length <= most / 5 or folder for name, length in lengths.items() if name != "split"), lengths


def test_a_folder_of_your_own_must_be_complete(tmp_path: Path) -> None:
    for name in ("split", "whole"):
        (tmp_path / f"{name}.txt").write_text('Like {"claims": []}: {response}\n')
    with pytest.raises(ConfigError, match=r"resplit\.txt is missing; the folder must contain split\.txt, resplit"):
        read_prompts(str(tmp_path))
    for name in FILES[1:5]:
        (tmp_path / f"{name}.txt").write_text("{response} {claim} {statement}")
    with pytest.raises(ConfigError, match=r"verify\.txt lacks the placeholder \{question\}"):
        read_prompts(str(tmp_path))
    (tmp_path / "verify.txt").write_text("{question}")
    assert read_prompts(str(tmp_path)).format_split("Describe.", "A dog.") == 'Like {"claims": []}: A dog.'
    (tmp_path / "split.txt").write_bytes(b"{response} \xff")
    with pytest.raises(ConfigError, match=r"split\.txt is not UTF-8 text"):
        read_prompts(str(tmp_path))
