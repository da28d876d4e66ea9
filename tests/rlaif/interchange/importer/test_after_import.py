"""What comes after an import: DPO, report, exports, feedback."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rlaif.config import Config
from rlaif.errors import InputError
from rlaif.interchange.export import export
from rlaif.interchange.importer.stage import import_data
from rlaif.report.page import report
from tests.support.exported_run import front_matter
from tests.support.published.layouts import PUBLISHED, write, write_lines

NAME = "openbmb/RLAIF-V-Dataset: data.parquet"  # the folder is named like the data set


def imported(folder: Path, layout: str, **values: Any) -> Path:
    data = {"source": "import", "path": str(write(folder / "RLAIF-V-Dataset", layout))}
    config = {"policy": {"model": "p"}, "labeler": {"model": "l"}, "data": data, **values}
    import_data(Config.model_validate(config), folder / "run")
    return folder / "run"


def plain_config(**values: Any) -> Config:
    return Config.model_validate({"policy": {"model": "p"}, "labeler": {"model": "l"}, **values})


def test_the_report_says_that_nothing_was_verified(tmp_path: Path) -> None:
    path = imported(tmp_path, "rlaif-v")
    page = report(plain_config(), path).read_text()
    assert "<h2>Imported data</h2>" in page and f"Pairs of <b>{NAME}</b>, layout rlaif-v." in page
    assert "License of the source: <b>cc-by-nc-4.0</b>" in page
    assert page.count("<span>not scored</span>") == 6 and page.count("no claims</span>") == 6
    assert "Certainty of the labeler" not in page and ">words</text>" in page


@pytest.mark.parametrize("kind", ["trl", "rlaif-v", "llama-factory", "ms-swift"])
def test_exports_carry_origin_and_license(tmp_path: Path, kind: str) -> None:
    path = imported(tmp_path, "rlaif-v")
    folder = export(plain_config(export={"format": kind}), path)
    card = (folder / "README.md").read_text()
    assert front_matter(folder)["license"] == "cc-by-nc-4.0" and "License of the source: cc-by-nc-4.0." in card
    assert f"imported from {NAME}, layout `rlaif-v`." in card and "The labeler makes errors" not in card
    if kind == "rlaif-v":
        rows = pq.read_table(folder / "train.parquet").to_pylist()
        assert {row["origin_dataset"] for row in rows} == {NAME}
    other = export(plain_config(export={"format": kind, "license": "mit"}), path)
    assert front_matter(other)["license"] == "mit" and "License of the source: cc-by-nc-4.0." in card


def test_feedback_on_imported_pairs_says_what_is_missing(tmp_path: Path) -> None:
    from feedback.stage import feedback

    path = imported(tmp_path, "rlaif-v")
    with pytest.raises(InputError, match=r"has no responses; import them into another RUN="):
        feedback(plain_config(labeler={"model": "assets/labeler"}), path)


@pytest.mark.slow
def test_dpo_trains_on_every_layout(tmp_path: Path, tiny_model: Path) -> None:
    from dpo.stage import run_dpo
    from rlaif.storage.run import Run
    from tests.support.alignment import config_of, moved

    for layout in PUBLISHED:
        path = imported(tmp_path / layout, layout)
        run_dpo(Run(path, config_of(tiny_model, {"max_steps": 1}), "dpo"))
        assert moved(tiny_model, path / "policy")


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")  # libraries of vLLM warn
@pytest.mark.usefixtures("shared_engines")
def test_imported_responses_are_labeled_by_the_embedded_labeler(tmp_path: Path) -> None:
    from scenes.source import scene_rows
    from tests.support.engines import run_command

    (scene,) = scene_rows("test", 1, seed=3)
    (tmp_path / "scene.png").write_bytes(scene.png)
    true = "There is a small green book at the bottom"
    texts = [f"{true} and a large yellow clock at the bottom right.", f"{true} and a large dog on the left."]
    rows = [{"image": "scene.png", "question": scene.instruction, "response": text} for text in texts]
    data = write_lines(tmp_path / "responses.jsonl", rows)
    arguments = ["--config", "configs/demo.yaml", "--run", str(tmp_path / "run")]
    run_command("rlaif.interchange.importer", *arguments, "--set", "data.source=import", f"data.path={data}")
    run_command("feedback", *arguments)
    scores = pq.read_table(tmp_path / "run" / "scores.parquet").to_pylist()
    assert len(scores) == 2 and all(row["num_claims"] for row in scores)
    page = report(plain_config(), tmp_path / "run").read_text()
    assert "Responses of <b>responses.jsonl</b>" in page and "Certainty of the labeler" in page
