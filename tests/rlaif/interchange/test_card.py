"""The card of an export."""

from pathlib import Path

import pytest

from rlaif.interchange.card import length_figures, size_category
from rlaif.storage.run import Run
from tests.support.exported_run import (
    export_config,
    exported,
    front_matter,
    labeled_run,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return labeled_run(tmp_path / "my run")


def test_the_card_by_hand(path: Path) -> None:
    folder = exported(path, "llama-factory")
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert front_matter(folder) == {
        "annotations_creators": ["machine-generated"],
        "size_categories": ["n<1K"],
        "task_categories": ["image-text-to-text"],
        "pretty_name": "my run",
        "tags": ["preference", "dpo", "rlaif", "hallucination", "llama-factory"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": "train", "path": "train.jsonl"},
                    {"split": "validation", "path": "validation.jsonl"},
                ],
            }
        ],
    }
    for line in (
        "# my run: preference pairs of a vision-language model",
        "- License: not specified; ask the author before you use this data set",
        "| pairs of split train | 2 |",
        "| pairs of split validation | 1 |",
        "| prompts of these splits | 4 |",
        "| distinct images of these splits | 3 |",
        "| responses of the run | 8 |",
        "| claims of the run | 5 |",
        "| pairs of the run | 4 |",
        "| generation | unreadable_image | 1 |",
        "| feedback | equal_text | 2 |",
        "| export-llama-factory | image_mark_in_text | 1 |",
        "| chosen | 3.0 | 3.0 | 3.9 |",  # words 3, 4, 2
        "| rejected | 3.7 | 2.0 | 7.4 |",  # words 8, 1, 2: 2 + 0.9 * 6
        "- Answers: `policy (revision aaaa)`",
        "- Claims and verdicts: `owner/labeler (revision bbbb)`",
        "seed: 3",
        "generation:",
        "  temperature: 0.5",
        "feedback:",
        "  score: rejected_count",
        "- The labeler makes errors. How many is not known: its verdicts were not compared with a known truth.",
        "- For 12.5% of the claims the probabilities of yes and no are small in sum; their verdicts count like the "
        "others.",
        "- The claims contain 90% of the content words of the answers; the rest was not verified.",
    ):
        assert line in card.splitlines()
    assert "The images are scenes" not in card
    assert "/secret/folder" not in card and "/home/somebody" not in card and str(path) not in card


def test_the_card_of_embedded_scenes_says_what_its_images_are(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "rlaif.interchange.card.first_value", lambda run, table, column: "scenes" if column == "source" else "a model"
    )
    text = (exported(path, "trl") / "README.md").read_text(encoding="utf-8")
    assert "- The images are scenes put together from small drawings of things: useful for testing a pipeline" in text


def test_the_card_has_figures_that_were_added_later(path: Path) -> None:
    exported(path, "trl")
    run = Run(path, export_config(), "evaluate")
    figures = {"claim_accuracy": 0.972, "split_accuracy": 0.5, "responses": 8, "claims": 5}
    run.update_metrics(labeler={**figures, "pairs": 4, "pair_agreement": 0.75, "pair_ties": 0.25})
    before = (path / "export" / "trl" / "train.parquet").stat()
    folder = exported(path, "trl", license="cc-by-4.0")
    assert (folder / "train.parquet").stat() == before
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert (
        "- The labeler makes errors. Compared with the known truth of 8 answers (5 claims), 97.2% of its verdicts are "
        "correct and 50.0% of the answers are divided correctly. Of 4 pairs, 75.0% have fewer false claims in the "
        "chosen answer and 25.0% the same number in both; the rest are in the wrong order." in card
    )
    assert front_matter(folder)["license"] == "cc-by-4.0" and "- License: cc-by-4.0" in card


def test_the_card_says_what_people_have_said(path: Path) -> None:
    exported(path, "trl")
    run = Run(path, export_config(), "evaluate")
    said = {"agreement": 0.931, "pair_agreement": 0.9, "judged": 1200, "pairs_judged": 60}
    begin = "- People have judged 1,200 claims and 60 pairs of a sample. Weighted to stand for all of them, "
    for people, end in (
        (said, "they share 93.1% of the labeler's verdicts and put 90.0% of the pairs in the same order."),
        (said | {"pair_agreement": None}, "they share 93.1% of the labeler's verdicts."),
        (said | {"agreement": None}, "they put 90.0% of the pairs in the same order."),
    ):
        run.update_metrics(people=people)
        lines = (exported(path, "trl") / "README.md").read_text(encoding="utf-8").splitlines()
        assert begin + end in lines and not any("How many is not known" in line for line in lines)
        assert lines[lines.index(begin + end) - 1] == ""
    run.update_metrics(people=said | {"agreement": None, "pair_agreement": None})
    assert "- People" not in (exported(path, "trl") / "README.md").read_text(encoding="utf-8")
    figures = {"claim_accuracy": 0.972, "split_accuracy": 0.5, "responses": 8, "claims": 5, "pair_agreement": None}
    run.update_metrics(people=said, labeler=figures)
    lines = (exported(path, "trl") / "README.md").read_text(encoding="utf-8").splitlines()
    (place,) = (index for index, line in enumerate(lines) if line.startswith("- People"))
    assert lines[place - 1].startswith("- The labeler makes errors. Compared with the known truth")


def test_the_hub_reads_the_card_back(path: Path) -> None:
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(exported(path, "trl", license="mit") / "README.md")
    assert (card.data.license, card.data.size_categories) == ("mit", ["n<1K"])


@pytest.mark.parametrize(
    ("rows", "name"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**8 - 1, "10M<n<100M"), (10**8, "100M<n<1B")],
)
def test_size_categories(rows: int, name: str) -> None:
    assert size_category(rows) == name


def test_lengths() -> None:
    assert length_figures([1, 2, 3, 10]) == {"mean": 4.0, "median": 2.5, "95th percentile": pytest.approx(8.95)}
