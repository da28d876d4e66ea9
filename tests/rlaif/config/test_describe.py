"""Descriptions of the configuration: every key is described, in the terminal and on the page in docs/."""

import subprocess
import sys

import pytest

from rlaif.config.describe import as_markdown, groups, main
from tests.support import ROOT


def output(section: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["--section", section]) == 0
    return capsys.readouterr().out


def test_every_key_is_described_in_a_sentence() -> None:
    for group in groups():
        assert group.text, group.name
        for name, info in group.kind.model_fields.items():
            assert info.description, f"{group.name}.{name}"
            assert info.description[0].isupper() or info.description[0] in "`", f"{group.name}.{name}"
            assert info.description.endswith("."), f"{group.name}.{name}"


def test_a_section_with_types_limits_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    text = output("data", capsys)
    assert text.startswith("data: The images and instructions")
    sources = "scenes, folder, table, parquet, datasets, import"
    assert f"\n  source: one of {sources}; default scenes\n      Kind of source: scenes = " in text
    assert "\n  image_hosts: list of strings; default []\n" in text
    assert "\n  test_share: number \u2265 0, < 1; default 0\n" in text
    assert "\n  limit: integer \u2265 1 or null; default null\n" in text
    assert "temperature" not in text


def test_sections_within_sections_and_sections_in_several_places(capsys: pytest.CaptureFixture[str]) -> None:
    text = output("labeler", capsys)
    assert text.startswith(
        "policy, labeler, splitter, reference_policy, benchmark.rater.model, rewriter: A vision-lang"
    )
    assert "\n  model: string; required\n" in text
    assert "\npolicy.endpoint, labeler.endpoint," in text and "concurrency: integer" in text
    assert "seed" not in text
    assert output("dpo.lora", capsys) == output("dpo.lora.r", capsys)
    assert "lora: section lora\n" in output("dpo", capsys)
    assert "rounds: true or false; default false" in output("variants", capsys)
    assert "seed: integer" in output("seed", capsys)
    assert len(output("", capsys)) > 10_000


def test_a_section_that_several_configurations_share_is_listed_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert output("engine", capsys).startswith("engine: ")
    assert "In `engine`" not in as_markdown(groups())
    for group in groups():
        assert len(group.paths) == len(set(group.paths)), group.paths


def test_an_unknown_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--section", "dpo.lor"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: unknown section 'dpo.lor'; did you mean 'dpo.lora'? sections: policy, labeler,")
    assert error.endswith(", rewrite, ablations, training, encoder\n")


def test_a_whole_configuration_is_a_section(capsys: pytest.CaptureFixture[str]) -> None:
    text = output("training", capsys)
    assert text.startswith("Training of MiniCPM-V: ") and "\n  packing: " in text
    assert "\n  rounds:" not in text


def test_the_page_in_docs_is_up_to_date() -> None:
    command = "python -m rlaif.config.describe --markdown docs/configuration.md"
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == as_markdown(groups()), f"run `{command}`"
    assert command in page


def test_it_can_be_piped_into_head() -> None:
    command = f"{sys.executable} -m rlaif.config.describe | head -n 1"
    result = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert result.stdout and not result.stderr
