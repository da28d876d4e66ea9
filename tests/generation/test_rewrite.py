"""Caption rewriting."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import generation.rewrite
from evaluation.caption_errors import measure
from evaluation.caption_errors import raw_captions as rows_of
from generation.rewrite import main, rewrite
from rlaif.config import RewriteConfig, RewriteSection
from rlaif.config.load import load_config_of
from rlaif.errors import RunMismatchError
from rlaif.inference.engine import Request
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
from scenes.recipe import raw_captions
from tests.support import ROOT
from tests.support.captions.rewriting import ANSWERS, make_config, raw_table, rewritten
from tests.support.captions.scene_truth import reference_of
from tests.support.doubles import ScriptedEngine
from tests.support.photographs import encoded, photo
from training.conversations import read_table

PROMPT = ROOT / "generation" / "rewrite.txt"
RULES = RewriteSection()


def test_kept_captions_make_a_training_table_and_others_have_a_reason(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = raw_table(tmp_path / "raw.parquet", [*ANSWERS, None, " <s> ", "a red book", "no json"])
    config = make_config(tiny_model, table, max_invented=0.3)
    double = ScriptedEngine(
        lambda request: ["{"] if "no json" in request.text else rewritten(request), unlikely={"zzz", "small"}
    )
    rewrite(config, tmp_path / "run", lambda *_: double)
    run = Run(tmp_path / "run", config, "x")
    rows = list(read_rows(run, "rewrites"))
    assert [(row["caption_id"], row["raw_caption"], row["caption"]) for row in rows] == [
        ("raw.parquet:0", "redcar at teh tpo", "A red car at the top."),
        ("raw.parquet:7", "a red book", "a red book"),
    ]
    assert rows[0]["question"] == "What is it?" and rows[0]["rewriter"] == str(tiny_model)
    assert rows[0]["fluency"] == pytest.approx(-0.1) and (rows[0]["invented"], rows[0]["repetition"]) == (0, 0)
    assert {row["row_id"].partition(":")[2]: row["reason"] for row in read_rows(run, "dropped")} == {
        "1": "no_description",
        "2": "invented",
        "3": "not_fluent",
        "4": "answer_truncated",
        "5": "empty_caption",
        "6": "too_short",
        "8": "answer_invalid",
    }
    request = double.requests[0]
    assert request.text == PROMPT.read_text().strip().replace("{caption}", "redcar at teh tpo")
    assert request.token_logprobs and request.temperature == 0 and request.image is None
    assert read_table(str(tmp_path / "run" / "rewrites.parquet"))[1]["caption"] == "a red book"
    printed = capsys.readouterr().out
    assert "kept     2 rewrites" in printed and "1 invented" in printed
    assert f'make pretrain STAGE=1 SET="data=[{tmp_path}/run/rewrites.parquet]"' in printed


def test_a_caption_that_is_no_text_is_dropped_and_measured_around(tiny_model: Path, tmp_path: Path) -> None:
    images = [{"bytes": encoded(photo(9 + index, 9), "PNG"), "path": None} for index in range(2)]
    captions = pa.array([b"a red \xed\xa0\x80", b"a red book"]).view(pa.string())
    truth = {"source": ["scenes"] * 2, "reference": [reference_of()] * 2}
    table = pa.table({"image": images, "caption": captions, **truth})
    pq.write_table(table, tmp_path / "raw.parquet")
    config = make_config(tiny_model, tmp_path / "raw.parquet")
    rewrite(config, tmp_path / "run", lambda *_: ScriptedEngine(rewritten))
    (dropped,) = read_rows(Run(tmp_path / "run", config, "x"), "dropped")
    assert (dropped["row_id"], dropped["reason"]) == ("raw.parquet:0", "broken_text")
    assert [text for _, text, _ in rows_of(config.captions)] == ["a red \ufffd\ufffd\ufffd", "a red book"]


def test_captions_of_broken_images_are_dropped(tiny_model: Path, tmp_path: Path) -> None:
    images = [
        {"bytes": b"x", "path": None},
        {"bytes": None, "path": None},
        {"bytes": encoded(photo(9, 9), "PNG"), "path": "p"},
    ]
    pq.write_table(pa.table({"image": images, "caption": ["a", "b", "a red book"]}), tmp_path / "raw.parquet")
    config = make_config(tiny_model, tmp_path / "raw.parquet")
    double = ScriptedEngine(rewritten)
    rewrite(config, tmp_path / "run", lambda *_: double)
    run = Run(tmp_path / "run", config, "x")
    assert [row["image"]["path"] for row in read_rows(run, "rewrites")] == ["p"]
    assert [row["reason"] for row in read_rows(run, "dropped")] == ["unreadable_image", "no_image"]
    assert len(double.requests) == 1


def test_a_stopped_stage_resumes_without_repeated_requests(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation.rewrite, "CAPTIONS_PER_CHUNK", 2)
    captions: list[str | None] = ["a red book", "IMG_1.jpg", "a blue book", "IMG_1.jpg", "a green book"]
    config = make_config(tiny_model, raw_table(tmp_path / "raw.parquet", captions))
    rewrite(config, tmp_path / "whole", lambda *_: ScriptedEngine(rewritten))

    def stopping(request: Request) -> list[str]:
        if "blue" in request.text:
            raise KeyboardInterrupt
        return rewritten(request)

    with pytest.raises(KeyboardInterrupt):
        rewrite(config, tmp_path / "stopped", lambda *_: ScriptedEngine(stopping))
    double = ScriptedEngine(rewritten)
    rewrite(config, tmp_path / "stopped", lambda *_: double)
    assert len(double.requests) == 3
    for table in ("rewrites", "dropped"):
        whole, stopped = (list(read_rows(Run(tmp_path / name, config, "x"), table)) for name in ("whole", "stopped"))
        assert whole == stopped
    rewrite(config, tmp_path / "stopped", lambda *_: pytest.fail("nothing is left to ask"))
    with pytest.raises(RunMismatchError, match=r"rewrite\.min_words: 3 -> 4"):
        rewrite(make_config(tiny_model, tmp_path / "raw.parquet", min_words=4), tmp_path / "stopped")


def test_a_limit_and_a_folder_of_tables(tiny_model: Path, tmp_path: Path) -> None:
    for part in ("a", "b"):
        (tmp_path / "raw" / part).mkdir(parents=True)
        raw_table(tmp_path / "raw" / part / "0.parquet", ["a red book", "a blue book"])
    config = make_config(tiny_model, tmp_path / "raw")
    config = config.model_copy(update={"captions": config.captions.model_copy(update={"limit": 3})})
    rewrite(config, tmp_path / "run", lambda *_: ScriptedEngine(rewritten))
    rows = list(read_rows(Run(tmp_path / "run", config, "x"), "rewrites", ["caption_id"]))
    assert [row["caption_id"] for row in rows] == ["a/0.parquet:0", "a/0.parquet:1", "b/0.parquet:0"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"captions.path": "no.parquet"}, "no parquet file at no.parquet; set captions.path to a .parquet file or a"),
        ({"captions.path": "c.yaml"}, "c.yaml is not a parquet file"),
        ({"captions.caption_column": "text"}, "raw.parquet has no column 'text'; it has: image, caption, count; set"),
        ({"captions.caption_column": "text"}, "set captions.caption_column"),
        (
            {"captions.image_column": "picture"},
            "has no column 'picture'; it has: image, caption, count; set captions.i",
        ),
        (
            {"captions.caption_column": "count"},
            "column 'count' has type int64; expected text or turns; set captions.capt",
        ),
        ({"captions.path": "empty.parquet"}, "no usable caption in empty.parquet (it is empty); correct"),
        ({"captions.path": "blank.parquet"}, "no usable caption in blank.parquet (2 empty_caption); correct"),
        (
            {"rewrite.prompt": "no.txt"},
            "no.txt is missing; rewrite.prompt must name a text file that",
        ),
        ({"rewrite.prompt": "c.yaml"}, "c.yaml lacks the placeholder {caption}; add it where the raw caption belongs"),
        ({"rewriter.model": "nowhere"}, "no model folder nowhere; give a folder with config.json"),
        ({"rewrite.min_word": "3"}, "unknown key 'rewrite.min_word'; did you mean 'min_words'?"),
    ],
)
def test_bad_input_is_one_clear_line(
    settings: dict[str, str],
    message: str,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    raw_table(Path("raw.parquet"), ["a red book"], count=[1])
    raw_table(Path("blank.parquet"), ["", None])
    pq.write_table(pq.read_table("raw.parquet").slice(0, 0), "empty.parquet")
    Path("c.yaml").write_text(f"rewriter: {{model: {tiny_model}}}\ncaptions: {{path: raw.parquet}}\n")
    changes = [f"{key}={value}" for key, value in settings.items()]
    assert main(["--config", "c.yaml", "--run", "run", "--set", *changes]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in line
    assert not list(tmp_path.glob("run/*.parquet"))


# --- against the truth -------------------------------------------------------------------------------------------


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")
def test_a_text_only_model_rewrites_for_real(tmp_path: Path) -> None:
    """vLLM serves a Llama of random weights; what it says is not worth keeping, and each caption has its reason."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.support.tiny import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=128, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2, vocab_size=len(tokenizer)
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    tokenizer.save_pretrained(tmp_path / "llama")
    table = raw_table(tmp_path / "raw.parquet", ["a red book", "blue car"])
    settings = make_config(tmp_path / "llama", table)
    rewrite(settings, tmp_path / "run")
    run = Run(tmp_path / "run", settings, "x")
    ids = [row["caption_id"] for row in read_rows(run, "rewrites")] + [
        row["row_id"] for row in read_rows(run, "dropped")
    ]
    assert sorted(ids) == ["raw.parquet:0", "raw.parquet:1"]


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")
def test_the_rewriter_that_ships_mends_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw_captions.main(["--out", str(tmp_path), "--raw", "40", "--seeds", "4", "--seed", "7"])
    monkeypatch.chdir(ROOT)
    settings = load_config_of(RewriteConfig, "configs/rewrite.yaml", [f"captions.path={tmp_path / 'raw.parquet'}"])
    rewrite(settings, tmp_path / "run")
    measure(settings, tmp_path / "run")
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())["rewrites"]
    assert figures["kept_after"]["captions"] > 20
    assert figures["kept_after"]["error"] < figures["kept_before"]["error"] / 2
    assert figures["kept_after"]["stray"] == 0
