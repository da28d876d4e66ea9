"""The table of ablations: its cells by hand, its runs by the stages' own commands."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlaif.config import AblationsConfig
from rlaif.errors import ConfigError
from rlaif.pipelines.ablations import load, read_metrics, table
from tests.support import ROOT


def metrics(rate: float, seconds: float) -> dict:
    return {
        "before": {"mention_rate": 0.25, "response_rate": 0.5, "recall": 0.75, "mean_words": 24.0},
        "after": {"mention_rate": rate, "response_rate": 2 * rate, "recall": None, "mean_words": 24.04},
        "labeler": {"pair_agreement": 0.9},
        "intervals": {"before": {"recall": [0.7, 0.8]}, "after": {"mention_rate": [0, 1]}, "labeler": {}},
        "stages": {"generation": {"seconds": seconds}, "dpo": {"seconds": 2 * seconds}},
    }


def test_a_row_a_variant(tmp_path: Path) -> None:
    (tmp_path / "round-1").mkdir()
    (tmp_path / "metrics.json").write_text(json.dumps(metrics(0.08, 10)))
    assert read_metrics(tmp_path)["minutes"] == 0.5
    (tmp_path / "round-1" / "metrics.json").write_text(json.dumps(metrics(0.2, 20)))
    found = read_metrics(tmp_path)
    assert found["minutes"] == 1.5 and found["after"]["mention_rate"] == 0.08
    rounds = {**found, "labeler": {}}
    assert table({"demo": {**metrics(0.1, 0), "minutes": 6.0}, "four rounds": rounds}).splitlines() == [
        "| variant | false mentions | answers with one | recall | words | pairs in the right order | minutes |",
        "|---|---|---|---|---|---|---|",
        "| before alignment | 25.0% | 50.0% | 75.0% [70.0, 80.0] | 24.0 | - |  |",
        "| demo | 10.0% [0.0, 100.0] | 20.0% | - | 24.0 | 90.0% | 6.0 |",
        "| four rounds | 8.0% [0.0, 100.0] | 16.0% | - | 24.0 | - | 1.5 |",
    ]


@pytest.mark.parametrize(
    ("name", "variant", "told"),
    [
        ("a", {"set": ["feedback.scor=x"]}, r"variant 'a': .*unknown key 'feedback\.scor'; did you mean 'score'"),
        ("a", {"config": "none.yaml"}, r"variant 'a': no configuration file none\.yaml"),
        ("../a", {}, r"variant '\.\./a' is to be the name of a folder too"),
    ],
)
def test_what_is_wrong_with_a_variant(name: str, variant: dict[str, Any], told: str) -> None:
    config = AblationsConfig(config=str(ROOT / "configs" / "demo.yaml"), variants={name: variant})
    with pytest.raises(ConfigError, match=told):
        load(config, name)
