"""The whole check of the embedded policy on 80 scenes: what each export must keep, and what happens without one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.check.measure import answer_pictures
from edge.check.reference import load_reference, reference_file
from edge.check.stage import check
from edge.gguf.names import language_file
from edge.policy import locked_folder
from edge.settings import Settings, write_settings
from rlaif.config import Config
from rlaif.errors import ModelError
from tests.support import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("llama_cpp")]

PICTURES = 80
# export -> least share of equal answers; 4 bits cost a model of 5 million parameters more of them than a large one
SHARES = {"f16": 1.0, "Q8_0": 0.95, "Q4_K_M": 0.8}


def config_of(*exports: str) -> Config:
    return Config.model_validate(
        {
            "policy": {"model": str(ROOT / "assets" / "policy"), "dtype": "float32"},
            "labeler": {"model": "l"},
            "evaluation": {"max_tokens": 96},
            "edge": {"pictures": PICTURES, "exports": list(exports)},
        }
    )


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    return {row["export"]: row for row in json.loads((path / "edge" / "check.json").read_text())}


@pytest.fixture(scope="module")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without a policy of its own."""
    path = tmp_path_factory.mktemp("check") / "run"
    write_settings(locked_folder(path), Settings(threads=1))  # the other cores have tests of their own
    return path


@pytest.fixture(scope="module")
def rows(run_path: Path) -> dict[str, dict[str, Any]]:
    """check.json of the run, by export."""
    check(config_of(*SHARES), run_path)
    return rows_of(run_path)


def test_answers_stay_the_same(rows: dict[str, dict[str, Any]]) -> None:
    assert list(rows) == ["policy", *SHARES]
    for export, share in SHARES.items():
        assert rows[export]["pictures"] == PICTURES
        assert rows[export]["same_answers"] >= share * PICTURES, export


def test_next_tokens_are_further_off_the_fewer_bits_there_are(rows: dict[str, dict[str, Any]]) -> None:
    means = [rows[export]["kl_mean"] for export in SHARES]
    assert 0 < means[0] < 1e-5 and means == sorted(means) and means[2] > 100 * means[0]
    assert all(row["kl_mean"] <= row["kl_max"] for row in rows.values())
    assert rows["f16"]["kl_max"] < 1e-3 and rows["policy"]["kl_max"] == 0.0


def test_files_get_smaller_and_features_stay_exact(rows: dict[str, dict[str, Any]], run_path: Path) -> None:
    sizes = [rows[export]["bytes"] for export in SHARES]
    assert sizes == [language_file(run_path, export).stat().st_size for export in SHARES]
    assert sizes == sorted(sizes, reverse=True)
    assert all(0 < rows[export]["feature_error"] < 1e-4 for export in SHARES)


def test_memory_and_speed_are_those_of_the_export(rows: dict[str, dict[str, Any]]) -> None:
    """Without torch, whose process is the policy's."""
    for export in SHARES:
        assert 0 < rows[export]["peak_bytes"] < rows["policy"]["peak_bytes"] / 2
        assert rows[export]["tokens_per_second"] > 0


def test_hallucination_is_beside_that_of_the_policy(rows: dict[str, dict[str, Any]]) -> None:
    for row in rows.values():
        for figure in ("mention_rate", "recall"):
            low, high = row["intervals"][figure]
            assert 0 < low < row[figure] < high < 1
    same = rows["f16"]
    assert (same["mention_rate"], same["recall"]) == (rows["policy"]["mention_rate"], rows["policy"]["recall"])


@pytest.mark.usefixtures("rows")
def test_features_of_other_pictures_give_other_answers(run_path: Path, tmp_path: Path) -> None:
    """The control of the first test: it does not pass because every picture gets the same answer."""
    references = [reference_file(run_path / "edge" / "check", index) for index in range(8)]
    others = references[1:] + references[:1]
    for file, other in zip(references, others, strict=True):
        slots, features = load_reference(file).prompt.slots, load_reference(other).features
        np.save(tmp_path / f"{file.stem}.npy", np.resize(features, (len(slots), *features.shape[1:])))
    answers = answer_pictures(language_file(run_path, "f16"), Settings(), references, tmp_path, [0.0] * 8, 96)
    assert sum(answer.comparison.same for answer in answers) <= 2


def test_what_cannot_be_measured_is_one_line_and_the_rest_is_written(
    rows: dict[str, dict[str, Any]], run_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No machine of ours has an Intel NPU. The policy does not answer again."""
    with pytest.raises(ModelError, match=r"could not measure 1 of 2 exports: openvino-npu \(.*remove them from edge.e"):
        check(config_of("openvino-npu", "f16"), run_path)
    again = rows_of(run_path)
    assert list(again) == ["policy", "f16"] and again["policy"] == rows["policy"]
    assert {**again["f16"], "peak_bytes": 0, "tokens_per_second": 0} == {
        **rows["f16"],
        "peak_bytes": 0,
        "tokens_per_second": 0,
    }
    shown = capsys.readouterr().out
    assert "the policy has answered these 80 pictures before" in shown and "| f16 " in shown
