"""The benchmarks run, at a size at which their figures mean nothing."""

import io
import json
from argparse import Namespace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from bench import cost_estimate, growth
from bench.__main__ import main as bench
from bench.comparisons import claims, dpo, packing, pairs, responses, startup
from bench.figures.pages import pages as pages_of_documentation
from bench.models import Load
from bench.result import Result, compare_rates, read, table, write
from rlaif.config import Config
from tests.support import ROOT


@pytest.mark.slow
def test_a_result_is_the_median_of_the_ratios_and_their_ends() -> None:
    result = compare_rates([10.0, 30.0, 20.0], [10.0, 10.0, 5.0], "steps/s")
    assert result == Result(ratio=3.0, low=1.0, high=4.0, ours=20.0, peer=10.0, unit="steps/s")
    assert "| a | 3 | 1 to 4 | 20 | 10 | steps/s |" in table({"a": result})


@pytest.mark.slow
def test_results_stand_beside_those_of_other_names(tmp_path: Path) -> None:
    one, other = (Result(ratio, ratio, ratio, ratio, 1.0, "x/s") for ratio in (2.0, 3.0))
    write({"one": one, "other": one}, tmp_path)
    write({"other": other}, tmp_path)
    kept = json.loads((tmp_path / "latest.json").read_text())
    assert read(tmp_path) == {"one": one, "other": other} and "torch" in kept["one"]["machine"]


@pytest.mark.slow
def test_a_page_shows_the_results() -> None:
    assert any(table(read()) in page.read_text(encoding="utf-8") for page in pages_of_documentation())


@pytest.mark.slow
def test_an_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(["packing", "speed"]) == 2
    assert "unknown benchmark 'speed'; allowed: claims_small" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("method", "side"), [("full", 300), ("lora", 300), ("full", 0)])
def test_dpo_is_measured_against_stock_and_has_its_losses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, method: str, side: int
) -> None:
    """In this process: a new process per variant would take longer than the test."""
    monkeypatch.setattr(dpo, "run_isolated", lambda work, *arguments: work(*arguments))
    small = dpo.Load(side, prompt_words=5, answer_words=8, width=128, layers=1, resolution=84, queries=16, steps=3)
    result = dpo.compare(method, small, repeats=1)
    assert result.unit == "steps/s" and result.ratio > 0
    variants = [line.removeprefix("| ").split(" |")[0] for line in capsys.readouterr().out.splitlines()[2:]]
    assert variants == list(dpo.VARIANTS)


@pytest.mark.slow
def test_different_losses_stop_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {"stock": [0.6931, 0.7], "images once": [0.6931, 0.7002]}
    monkeypatch.setattr(dpo, "run_isolated", lambda work, variant, *_: dpo.Measured(1.0, 1.0, losses[variant]))
    with pytest.raises(SystemExit, match=r"images once: the losses differ from stock TRL's by 0\.0002"):
        dpo.measure(dpo.Load(width=128, layers=1), "full", 1, variants=list(losses))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_packing_is_measured_against_padding(capsys: pytest.CaptureFixture[str]) -> None:
    small = packing.Load(width=128, layers=1, sequence_length=768, batch=4, packed_batch=1, rows=12)
    result = packing.compare(1, small)
    printed = capsys.readouterr().out
    assert "12 rows" in printed and "padded: {" in printed and "packed: {" in printed
    assert result.unit == "content tokens/s" and result.ratio == pytest.approx(result.ours / result.peer, abs=0.01)


@pytest.mark.slow
def test_pairs_are_measured_against_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    pairs.main(["--responses", "30", "60", "--reference-up-to", "30"])
    lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert [line[:4] for line in lines[2:]] == [
        ["30", "300", "reference", "6"],
        ["30", "300", "ours", "6"],
        ["60", "600", "ours", "12"],
    ]
    assert float(lines[3][-1]) > 0  # the ratio


@pytest.mark.slow
def test_both_implementations_build_as_many_pairs(tmp_path: Path) -> None:
    pairs.write_run(tmp_path / "run", 200)
    pairs.write_reference_files(tmp_path / "files", 200)
    assert pairs.ours(tmp_path / "run") == pairs.reference(tmp_path / "files") == 40


@pytest.mark.slow
def test_the_cost_of_a_stage_by_hand() -> None:
    load = Namespace(images=10, slices=2, prompt_tokens=8, responses=3, answer_tokens=5, claims=4, claim_tokens=7)
    vars(load).update(question_tokens=6, pairs=2, batch=1, computing=0.5, reading=0.5)
    rates = cost_estimate.Rates(prompts=2, slices=4, rows=10, paired=5, operations=2, bytes=2)
    assert cost_estimate.stages(load, cost_estimate.Model(language=1, vision=1, token_bytes=1), rates) == [
        # 2 * (2 * 96 + 8 tokens + 2 * 1024 patches) and 15 steps of 2 bytes of weights and 202.5 of keys and values
        cost_estimate.Stage("sampling", 10 * (2 * (200 + 2048) + 15 * 204.5), 10 * 2 / 4, 10 * (1 / 2 + 3 / 10)),
        cost_estimate.Stage("dividing", 10 * (2 * 75 + 84 * (2 + 5 + 14)), 0, 0),
        cost_estimate.Stage("verifying", 10 * 2 * (192 + 72 + 2048), 10 * 2 / 4, 10 * 12 / 10),
        cost_estimate.Stage("pairs", 0, 0, 10 * 3 / 5),
        cost_estimate.Stage("training", 10 * 2 * (4 * 2 * 210 + 2 * 2048), 10 * 2 * 2 / 4, 0),
    ]


@pytest.mark.slow
def test_the_bottleneck_of_a_stage() -> None:
    stage = cost_estimate.Stage("sampling", gpu=100, cutting=10, writing=20)
    assert stage.seconds(1, start=5) == (105, "GPU")
    assert stage.seconds(8, start=5) == (25, "tables")
    assert stage.seconds(8, start=30) == (50, "start")
    assert "| sampling | 0.03 h, GPU | 0.01 h, tables | 0.01 h, tables |" in cost_estimate.table([stage], start=5)


@pytest.mark.slow
def test_the_full_size_model_is_counted() -> None:
    """Llama-3 8B less its embeddings; 32 layers of 8 heads of 128, keys and values, 2 bytes each."""
    result = cost_estimate.full_size()
    assert result.language == 7_504_924_672 and result.token_bytes == 32 * 8 * 128 * 2 * 2


@pytest.mark.slow
def test_the_cost_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(cost_estimate.main(["--sample", "2", "--pixels", "600"])) == 5
    printed = capsys.readouterr().out
    assert "one process, per second:" in printed and "| total |" in printed and "GPU hours" in printed


@pytest.mark.slow
def test_different_verdicts_stop_the_benchmark() -> None:
    p_yes = {("0", "a"): 0.7, ("0", "b"): 0.4}
    claims.agree(p_yes, {**p_yes, ("0", "a"): 0.7015})
    with pytest.raises(SystemExit, match=r"p_yes differs by 0\.1 \(allowed: 0\.002\), 0 verdicts differ"):
        claims.agree(p_yes, {**p_yes, ("0", "a"): 0.6})
    with pytest.raises(SystemExit, match="1 verdicts differ"):
        claims.agree(p_yes, {**p_yes, ("0", "b"): 0.6})


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("peer", ["forward passes", "no cache"])
def test_all_implementations_give_equal_verdicts(monkeypatch: pytest.MonkeyPatch, peer: str) -> None:
    """The shipped labeler for real, on one picture with slices."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(claims, "run_isolated", lambda work, *arguments: work(*arguments))
    assert len(set(claims.QUESTIONS)) == 60
    assert claims.compare(Load(images=1, side=160), peer, repeats=1).unit == "claims/s"


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")
def test_responses_end_where_answers_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    load = Load(images=2, side=160)
    for _, length in (responses.by_vllm("assets/policy", load), responses.by_generate("assets/policy", load, 2)):
        assert 10 < length < responses.MAX_TOKENS


@pytest.mark.slow
def test_different_lengths_stop_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = {responses.by_vllm: 30.0, responses.by_generate: 34.0}
    monkeypatch.setattr(responses, "run_isolated", lambda work, *_: (2.0, lengths[work]))
    with pytest.raises(SystemExit, match="mean lengths differ by more than 10%"):
        responses.compare(responses.SMALL, "one item", repeats=1)
    lengths[responses.by_generate] = 32.0
    assert responses.compare(responses.SMALL, "one item", repeats=2).ratio == 1.0


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")
def test_both_implementations_start_an_engine(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(startup, "run_isolated", lambda work: work())
    monkeypatch.setattr(startup, "STAGES", ("rlaif.report",))
    assert startup.compare(1).unit == "starts/min"
    printed = capsys.readouterr().out
    assert "python -m rlaif.report --help: " in printed and "our_start: " in printed and "vllm_start: " in printed


@pytest.mark.slow
def test_growth_is_a_line_through_what_the_stages_take(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stages are not run; the settings and the scaled scenes that they would get are looked at."""
    sizes = {}

    def seconds(config: Config, folder: Path) -> dict[str, float]:
        count = config.data.train_prompts
        if config.data.path:
            rows = pq.read_table(config.data.path).to_pylist()
            sizes[Image.open(io.BytesIO(rows[0]["image"])).size] = count = len(rows)
        return {"generation": 10.0 + 0.5 * count, "feedback": 20.0 + count, "dpo": 5.0 + 0.01 * count}

    monkeypatch.setattr(growth, "seconds", seconds)
    assert growth.main(["--images", "100", "300", "--sides", "84", "118", "--scaled", "3", "--set", "seed=4"]) == 0
    printed = capsys.readouterr().out
    assert "| 300 | 160.0 s | 320.0 s | 8.0 s |" in printed
    assert "| line | 10.0 s + 0.500 s each | 20.0 s + 1.000 s each | 5.0 s + 0.010 s each |" in printed
    assert sizes == {(84, 84): 3, (118, 118): 3} and "| 3 | 11.5 s" in printed  # 118 x 118: two slices and the overview
    for arguments, message in (
        (["--set", "seed=many"], "seed is 'many'"),
        (["--sides", "84", "80"], "got sides [84, 80], of which some have equal slices"),
    ):
        assert growth.main(arguments) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        growth.main(["--images", "0"])
    assert "'0' is not a whole number from 1 on" in capsys.readouterr().err
