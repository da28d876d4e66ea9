"""The table of ablations: its cells by hand, its runs by the stages' own commands."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlaif.config import AblationsConfig
from rlaif.errors import ConfigError
from rlaif.pipelines.ablations import load_variant, read_metrics, table
from tests.support import ROOT


def metrics(rate: float, seconds: float) -> dict[str, Any]:
    return {
        "before": {"mention_rate": 0.25, "response_rate": 0.5, "recall": 0.75, "mean_words": 24.0},
        "after": {"mention_rate": rate, "response_rate": 2 * rate, "recall": None, "mean_words": 24.04},
        "labeler": {"pair_agreement": 0.9},
        "intervals": {"before": {"recall": [0.7, 0.8]}, "after": {"mention_rate": [0, 1]}, "labeler": {}},
        "stages": {"generation": {"seconds": seconds}, "dpo": {"seconds": 2 * seconds}},
    }


def test_one_row_per_variant(tmp_path: Path) -> None:
    (tmp_path / "round-1").mkdir()
    (tmp_path / "metrics.json").write_text(json.dumps(metrics(0.08, 10)))
    assert read_metrics(tmp_path)["minutes"] == 0.5
    (tmp_path / "round-1" / "metrics.json").write_text(json.dumps(metrics(0.2, 20)))
    run = read_metrics(tmp_path)
    assert run["minutes"] == 1.5 and run["after"]["mention_rate"] == 0.08
    rounds = {**run, "labeler": {}}
    assert table({"demo": {**metrics(0.1, 0), "minutes": 6.0}, "four rounds": rounds}).splitlines() == [
        "| variant | false mentions | answers with one | recall | words | pairs in the right order | minutes |",
        "|---|---|---|---|---|---|---|",
        "| before alignment | 25.0% | 50.0% | 75.0% [70.0, 80.0] | 24.0 | - |  |",
        "| demo | 10.0% [0.0, 100.0] | 20.0% | - | 24.0 | 90.0% | 6.0 |",
        "| four rounds | 8.0% [0.0, 100.0] | 16.0% | - | 24.0 | - | 1.5 |",
    ]


@pytest.mark.parametrize(
    ("name", "variant", "message"),
    [
        ("a", {"set": ["feedback.scor=x"]}, r"variant 'a': .*unknown key 'feedback\.scor'; did you mean 'score'"),
        ("a", {"config": "none.yaml"}, r"variant 'a': no configuration file none\.yaml"),
        ("../a", {}, r"variant name '\.\./a' is not a valid folder name"),
    ],
)
def test_an_error_in_a_variant_names_it(name: str, variant: dict[str, Any], message: str) -> None:
    config = AblationsConfig(config=str(ROOT / "configs" / "demo.yaml"), variants={name: variant})
    with pytest.raises(ConfigError, match=message):
        load_variant(config, name)
