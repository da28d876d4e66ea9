"""The whole stage: hand-computed numbers with a scripted labeler, on vLLM, and its pairs in a stock TRL trainer."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import feedback.__main__ as command
import feedback.stage as stage
from feedback.verify import verify
from rlaif.config import Config
from rlaif.config.load import load_config
from rlaif.errors import RunMismatchError
from rlaif.inference.engine import Engine, Request
from rlaif.inference.open import open_engine
from rlaif.storage.files import make_id
from rlaif.storage.rows import read_located_parts, read_rows_at
from rlaif.storage.run import Run
from rlaif.storage.writer import TableWriter
from tests.support.small_run import write_labeled_run
from tests.support.two_images import (
    RESPONSES,
    TRUE,
    labeler,
    png,
    prompt_id,
    response_id,
    rows,
    run_stage,
    write_inputs,
)


def test_tables_by_hand(config_file: Path, run_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = run_stage(config_file, run_path)
    assert engine.closed

    circle, square = "There is a red circle.", "There is a blue square."
    red, blue = partial(response_id, "red"), partial(response_id, "blue")
    claims = {(row["response_id"], row["claim"]): row for row in rows(run_path, "claims")}
    assert {key: row["verdict"] for key, row in claims.items()} == {
        (red(0), circle): True,
        (red(0), square): False,
        (red(1), circle): True,
        (red(5), circle): True,
        (blue(0), square): True,
        (blue(1), square): True,
    }
    wrong = claims[red(0), square]
    assert wrong["claim_id"] == make_id(red(0), "1") and wrong["claim_index"] == 1
    assert wrong["question"] == "Is there a blue square?"
    assert [wrong[name] for name in ("p_yes", "p_no", "p_other")] == pytest.approx([0.2, 0.7, 0.1], abs=1e-6)

    scores = {row["response_id"]: row for row in rows(run_path, "scores")}
    assert {key: (row["num_claims"], row["num_rejected"], row["score"]) for key, row in scores.items()} == {
        red(0): (2, 1, -1.0),
        red(1): (1, 0, 0.0),
        red(5): (1, 0, 0.0),
        blue(0): (1, 0, 0.0),
        blue(1): (1, 0, 0.0),
    }
    assert scores[red(0)]["whole_response_score"] == pytest.approx(-0.5)  # it names the square: 0.2 - 0.7
    assert scores[red(1)]["whole_response_score"] == pytest.approx(0.5)
    assert (scores[red(0)]["coverage"], scores[red(1)]["coverage"]) == (4 / 5, 1.0)  # "nice" is not a claim

    dropped = {(row["row_id"], row["reason"]) for row in rows(run_path, "dropped") if row["stage"] == "feedback"}
    assert dropped == {
        (red(2), "empty_response"),
        (red(3), "response_truncated"),
        (red(4), "no_claims"),
        (red(5), "equal_text"),
        (blue(1), "duplicate_claim"),
        (prompt_id("blue"), "all_scores_equal"),
    }

    (pair,) = rows(run_path, "pairs")
    assert pair["pair_id"] == make_id(red(1), red(0))
    assert pair["images"] == [{"bytes": png("red"), "path": "red.png"}]
    assert pair["prompt"] == [{"role": "user", "content": "Describe."}]
    assert pair["chosen"] == [{"role": "assistant", "content": "There is a red circle."}]
    assert pair["rejected"] == [{"role": "assistant", "content": RESPONSES["red"][0][0]}]
    assert (pair["chosen_score"], pair["rejected_score"], pair["round"], pair["split"]) == (0.0, -1.0, 1, "train")
    assert [(claim["claim"], claim["verdict"]) for claim in pair["rejected_claims"]] == [
        (circle, True),
        (square, False),
    ]

    metrics = json.loads((run_path / "metrics.json").read_text())
    assert metrics["feedback"] == {
        "claims_per_response": 6 / 5,
        "asked_claims": 6,
        "restated_claims": 0,
        "unknown_claims": 0,
        "lost_responses": 0,
        "restated_share": 0.0,
        "unknown_share": 0.0,
        "rejected_share": 1 / 6,
        "weak_verdict_share": 0.0,
        "coverage": pytest.approx((4 / 5 + 4) / 5),  # red, circle, blue, square of the first response, but not "nice"
        "mean_words_chosen": 5.0,
        "mean_words_rejected": 13.0,
    }
    output = capsys.readouterr().out
    assert "mean length of chosen 5.0 words, of rejected 13.0" in output
    assert "next     make dpo" in output


def test_each_question_is_requested_once_per_image(config_file: Path, run_path: Path) -> None:
    requests = Counter(
        request.text for request in run_stage(config_file, run_path).requests if request.image == png("red")
    )
    assert requests == {
        "Is there a red circle? Answer yes or no.": 1,
        "Is there a blue square? Answer yes or no.": 1,
        f"Is this description correct? {RESPONSES['red'][0][0]} Answer yes or no.": 1,
        "Is this description correct? There is a red circle. Answer yes or no.": 1,
        "Is this description correct? There is  a red circle. Answer yes or no.": 1,
    }


def test_weak_verdicts_are_counted(config_file: Path, run_path: Path) -> None:
    run_stage(config_file, run_path, "feedback.min_yes_no_mass=0.95")  # p_yes + p_no is 0.9
    assert json.loads((run_path / "metrics.json").read_text())["feedback"]["weak_verdict_share"] == 1.0


def test_the_reference_is_not_read(config_file: Path, run_path: Path) -> None:
    prompts = pq.read_table(run_path / "prompts.parquet")
    pq.write_table(prompts.drop_columns(["reference"]), run_path / "prompts.parquet")
    run_stage(config_file, run_path)
    assert len(rows(run_path, "pairs")) == 1


def test_a_killed_stage_resumes_with_the_remaining_prompts(
    config_file: Path, run_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "PROMPTS_PER_CHUNK", 1)
    run_stage(config_file, run_path)
    whole = {table: rows(run_path, table) for table in ("claims", "scores", "pairs", "dropped")}

    def killed_at_blue(request: Request) -> Any:
        if request.image == png("blue"):
            raise KeyboardInterrupt
        return labeler(request)

    again = tmp_path / "again"
    write_inputs(load_config(config_file), again)
    with pytest.raises(KeyboardInterrupt):
        run_stage(config_file, again, answer=killed_at_blue)
    assert not (again / "claims.parquet").exists()
    engine = run_stage(config_file, again)
    assert {request.image for request in engine.requests} == {None, png("blue")}
    assert {table: rows(again, table) for table in whole} == whole
    stage.feedback(load_config(config_file), again, refuse_to_open)  # the stage is finished


def test_chunks_are_read_as_they_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve prompts in parts of seven rows; the fifth has no responses, the others have five each."""
    monkeypatch.setattr(stage, "PROMPTS_PER_CHUNK", 2)
    run = write_labeled_run(tmp_path, part_rows=7)
    parts: Counter[str] = Counter()

    def counted(run: Run[Config], table: str, columns: Sequence[str]) -> Iterator[pa.Table]:
        for part in read_located_parts(run, table, columns):
            parts[table] += 1
            yield part

    monkeypatch.setattr(stage, "read_located_parts", counted)
    assert stage.count_remaining(run, {"p00"}, ["responses"]) == 10
    chunks = stage.chunks(run, {"p00"}, ["responses"])
    monkeypatch.setattr("rlaif.storage.join.PROMPTS_AT_ONCE", 1)
    first = next(chunks)
    assert parts == {"prompts": 2 + 1, "responses": 8 + 3}  # a pass over all parts, then the parts of one chunk
    assert first.num_prompts == 2
    chunk_rows = [
        [[row["prompt_id"] for row in read_rows_at(tmp_path / f"{table}.parquet", where, ["prompt_id"])]
         for table, where in chunk.tables.items()]
        for chunk in (first, *chunks)
    ]  # fmt: skip
    prompts = [f"p{index:02}" for index in range(1, 12) if index != 4]
    assert [chunk[0] for chunk in chunk_rows] == [prompts[start : start + 2] for start in range(0, 10, 2)]
    assert [chunk[1] for chunk in chunk_rows] == [[name for name in chunk[0] for _ in range(5)] for chunk in chunk_rows]


def test_killed_between_claims_and_scores_writes_no_claim_twice(
    config_file: Path, run_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = TableWriter.flush

    def killed_at_scores(writer: TableWriter) -> None:
        if writer.parts.name == "scores.parts":
            raise KeyboardInterrupt
        flush(writer)

    with monkeypatch.context() as patch:
        patch.setattr(TableWriter, "flush", killed_at_scores)
        with pytest.raises(KeyboardInterrupt):
            run_stage(config_file, run_path)
    run_stage(config_file, run_path)
    assert len(rows(run_path, "claims")) == 6 and len(rows(run_path, "scores")) == 5


def test_cost_of_labeling(config_file: Path, run_path: Path) -> None:
    engine = run_stage(config_file, run_path)
    cost = json.loads((run_path / "metrics.json").read_text())["labeling"]
    assert cost.pop("seconds") >= 0
    assert [cost.pop(f"engine_{name}") for name in ("steps", "step_seconds", "idle_share")] == [None] * 3
    # the double counts words as tokens: those of every prompt, one per answer to a question, those of every split
    splits = [request for request in engine.requests if request.json_schema is not None]
    split_words = sum(len(str(text).split()) for request in splits for text in labeler(request))
    assert cost == {
        "claims": 6,
        "prompt_tokens": sum(len(request.text.split()) for request in engine.requests),
        "answer_tokens": split_words + len(engine.requests) - len(splits),
    }


def refuse_to_open(*_: Any) -> Engine:
    raise AssertionError("no model is needed")


def test_other_settings_are_refused_and_nothing_is_overwritten(config_file: Path, run_path: Path) -> None:
    run_stage(config_file, run_path)
    before = (run_path / "pairs.parquet").read_bytes()
    with pytest.raises(RunMismatchError, match=r'feedback\.score: "rejected_count" -> "mean_log_odds"'):
        run_stage(config_file, run_path, "feedback.score=mean_log_odds")
    assert (run_path / "pairs.parquet").read_bytes() == before


def test_command_line_errors_are_one_line(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--config", str(config_file), "--run", str(tmp_path / "nothing")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "make generate" in error
    assert not (tmp_path / "nothing" / "claims.parquet").exists()


def test_pairs_feed_a_stock_trl_trainer(config_file: Path, run_path: Path, tiny_model: Path, tmp_path: Path) -> None:
    from datasets import Image as ImageFeature
    from datasets import List, load_dataset
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from trl import DPOConfig, DPOTrainer

    import model  # noqa: F401  registers the architecture

    run_stage(config_file, run_path)
    pairs = load_dataset(
        "parquet", data_files=str(run_path / "pairs.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert pairs.features["images"] == List(ImageFeature())
    (image,) = pairs[0]["images"]
    assert isinstance(image, Image.Image) and image.size == (60, 40)
    trainer = DPOTrainer(
        model=AutoModelForImageTextToText.from_pretrained(tiny_model),
        ref_model=AutoModelForImageTextToText.from_pretrained(tiny_model),
        args=DPOConfig(
            output_dir=str(tmp_path / "out"), max_steps=1, max_length=None, use_cpu=True, report_to=[], bf16=False
        ),
        train_dataset=pairs,
        processing_class=AutoProcessor.from_pretrained(tiny_model),
    )
    assert trainer.train().training_loss == pytest.approx(math.log(2), abs=1e-4)


def test_pairs_read_well_in_pandas(config_file: Path, run_path: Path) -> None:
    run_stage(config_file, run_path)
    pairs = pd.read_parquet(run_path / "pairs.parquet")
    assert pairs["chosen"][0][0]["content"] == "There is a red circle."
    assert pairs["rejected_claims"][0][1]["question"] == "Is there a blue square?"


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")  # vLLM and what it imports
def test_on_vllm_probabilities_are_read_and_an_untrained_labeler_is_quarantined(
    config_file: Path, run_path: Path, tiny_model: Path
) -> None:
    config = load_config(
        config_file,
        [
            f"labeler.model={tiny_model}",
            "feedback.max_claim_tokens=8",
            "feedback.max_retries=1",
            "engine.max_num_seqs=8",
        ],
    )
    engine = open_engine(config.labeler, config.engine, config.seed)
    images = {color: png(color) for color in TRUE}
    questions = [(color, "Is there a red circle?") for color in images]
    verdicts = engine.run(verify(engine, questions, images))
    assert set(verdicts) == {("red", "Is there a red circle?"), ("blue", "Is there a red circle?")}
    assert all(0 < verdict.p_yes < 1 and 0 < verdict.p_no < 1 and verdict.p_other > 0 for verdict in verdicts.values())

    stage.feedback(config, run_path, lambda *_: engine)
    assert rows(run_path, "claims") == rows(run_path, "scores") == rows(run_path, "pairs") == []
    reasons = Counter(row["reason"] for row in rows(run_path, "dropped"))
    assert reasons["split_truncated"] == 6  # {"claims":[ takes more than 8 tokens of this tokenizer
