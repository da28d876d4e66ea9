"""Columns of the tables; datasets and TRL read them."""

import json
from pathlib import Path

import pytest

from rlaif.storage.run import Run
from rlaif.storage.schemas import SCHEMAS
from rlaif.storage.writer import TableWriter
from tests.support.pair_rows import open_run, pair_row


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(tmp_path)


def test_columns_of_the_tables() -> None:
    columns = {table: " ".join(schema.names) for table, schema in SCHEMAS.items()}
    assert columns == {
        "prompts": "prompt_id image image_sha256 instruction source split reference",
        "responses": "response_id prompt_id sample_index seed text finish_reason num_tokens temperature top_p policy "
        "policy_revision round",
        "splits": "response_id prompt_id claims splitter splitter_revision",
        "claims": "claim_id response_id prompt_id claim_index claim question outcome reason p_yes p_no p_other "
        "verdict labeler labeler_revision",
        "scores": "response_id prompt_id num_claims num_rejected num_restated num_unknown score score_low score_high "
        "coverage whole_response_score",
        "pairs": "pair_id prompt_id images prompt chosen rejected chosen_response_id rejected_response_id chosen_score "
        "rejected_score chosen_claims rejected_claims round split",
        "rewards": "response_id prompt_id num_tokens log_prob reference_log_prob reward",
        "evaluations": "which prompt_id text finish_reason num_tokens split",
        "labeled_answers": "which prompt_id num_claims num_rejected num_unknown",
        "short_answers": "which question_id image_id kind question expected text correct finish_reason num_tokens",
        "answers": "question_id image_id question text finish_reason num_tokens model model_revision",
        "ratings": "question_id run_index seed rating text rater rater_revision",
        "rewrites": "caption_id image raw_caption question caption fluency repetition invented rewriter "
        "rewriter_revision",
        "audits": "sample kind item_id answer person answered seconds",
        "audited_claims": "claim_id prompt_id image instruction claim question outcome truth people agreeing stratum "
        "weight p_yes p_no verdict labeler labeler_revision",
        "dropped": "stage row_id reason detail",
    }


@pytest.mark.parametrize("table", sorted(SCHEMAS))
def test_datasets_reads_the_features(table: str) -> None:
    from datasets import Features

    schema = SCHEMAS[table]
    features = Features.from_arrow_schema(schema)
    assert features.arrow_schema.types == schema.types
    assert json.loads(features.arrow_schema.metadata[b"huggingface"]) == json.loads(schema.metadata[b"huggingface"])


def test_pairs_are_the_conversational_preference_format_of_trl(run: Run, tmp_path: Path) -> None:
    from datasets import load_dataset
    from trl.data_utils import is_conversational, prepare_multimodal_messages

    texts = {"claim": "It is red.", "question": "Is it red?", "outcome": "asked"}
    claim = {**texts, "p_yes": 0.75, "p_no": 0.25, "verdict": True}
    row = pair_row("p", "What is it?", "It is red.", "It is blue.", (4, 3)) | {"chosen_claims": [claim]}
    with TableWriter(run, "pairs", key="prompt_id") as writer:
        writer.write([row])
    data = load_dataset("parquet", data_files=str(writer.path), split="train", cache_dir=str(tmp_path / "cache"))
    (example,) = list(data)
    assert is_conversational(example)
    (image,) = example["images"]
    assert image.size == (4, 3)
    assert example["chosen_claims"] == [claim]
    messages = prepare_multimodal_messages(example["prompt"], images=example["images"])
    assert [part["type"] for part in messages[0]["content"]] == ["image", "text"]
