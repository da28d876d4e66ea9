"""Tables: columns, parts, what a kill leaves behind, and that datasets and TRL read pairs as they are."""

import io
import json
from pathlib import Path
from random import Random
from typing import Any

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rlaif.errors import InputError, RunMismatchError
from rlaif.storage.run import Run
from rlaif.storage.schemas import SCHEMAS
from rlaif.storage.tables import count_rows, read_metadata, read_parts, read_rows
from rlaif.storage.writer import TableWriter
from tests.support.pair_rows import open_run, score_rows


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(tmp_path)


def pair_row(pair_id: str, prompt_id: str, image: bytes) -> dict[str, Any]:
    return {
        "pair_id": pair_id,
        "prompt_id": prompt_id,
        "images": [{"bytes": image, "path": "a.png"}],
        "prompt": [{"role": "user", "content": "What is it?"}],
        "chosen": [{"role": "assistant", "content": "It is red."}],
        "rejected": [{"role": "assistant", "content": "It is blue."}],
        "chosen_response_id": "c",
        "rejected_response_id": "r",
        "chosen_score": 0.0,
        "rejected_score": -1.0,
        "chosen_claims": [
            {"claim": "It is red.", "question": "Is it red?", "p_yes": 0.75, "p_no": 0.25, "verdict": True}
        ],
        "rejected_claims": [],
        "round": 1,
        "split": "train",
    }


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (255, 0, 0)).save(file, "PNG")
    return file.getvalue()


def test_columns_are_those_of_the_specification() -> None:
    columns = {table: " ".join(schema.names) for table, schema in SCHEMAS.items()}
    assert columns == {
        "prompts": "prompt_id image image_sha256 instruction source split reference",
        "responses": "response_id prompt_id sample_index seed text finish_reason num_tokens temperature top_p policy "
        "policy_revision round",
        "splits": "response_id prompt_id claims splitter splitter_revision",
        "claims": "claim_id response_id prompt_id claim_index claim question p_yes p_no p_other verdict labeler "
        "labeler_revision",
        "scores": "response_id prompt_id num_claims num_rejected score coverage whole_response_score",
        "pairs": "pair_id prompt_id images prompt chosen rejected chosen_response_id rejected_response_id chosen_score "
        "rejected_score chosen_claims rejected_claims round split",
        "rewards": "response_id prompt_id num_tokens log_prob reference_log_prob reward",
        "evaluations": "which prompt_id text finish_reason num_tokens split",
        "labeled_answers": "which prompt_id num_claims num_rejected",
        "answers": "question_id image_id question text finish_reason num_tokens model model_revision",
        "ratings": "question_id run_index seed rating text rater rater_revision",
        "rewrites": "caption_id image raw_caption question caption fluency repetition invented rewriter "
        "rewriter_revision",
        "dropped": "stage row_id reason detail",
    }


def test_rows_come_back_in_order_from_many_parts(run: Run) -> None:
    with TableWriter(run, "scores", key="prompt_id", part_rows=4) as writer:
        for prompt in "abcde":
            writer.write(score_rows(prompt))
        assert [path.name for path in sorted(writer.parts.glob("part-*"))] == [
            "part-00000.parquet",
            "part-00001.parquet",
        ]
        with pytest.raises(InputError, match=r"scores.parquet is missing; first run `make feedback RUN=.*run`"):
            count_rows(run, "scores")
    assert not writer.parts.exists()
    assert count_rows(run, "scores") == 10
    assert list(read_rows(run, "scores")) == [row for prompt in "abcde" for row in score_rows(prompt)]
    assert list(read_rows(run, "scores", ["score"], filter={"prompt_id": "c"})) == [{"score": 0.0}, {"score": -1.0}]
    assert len(list(read_rows(run, "scores", ["score"], filter={"prompt_id": ["c", "a", "no"]}))) == 4
    assert list(pandas.read_parquet(writer.path)["num_rejected"]) == [0, 1] * 5


def test_a_killed_writer_leaves_whole_parts_and_the_next_goes_on(tmp_path: Path) -> None:
    killed = TableWriter(open_run(tmp_path), "scores", key="prompt_id")
    killed.write(score_rows("a"))
    killed.flush()
    killed.write(score_rows("b"))  # never flushed: lost
    (killed.parts / ".part-00001.parquet.tmp").write_bytes(b"half a part")

    run = open_run(tmp_path)
    with TableWriter(run, "scores", key="prompt_id") as writer:
        assert writer.done == {"a"}
        for prompt in "bc":
            writer.write(score_rows(prompt))
    assert [row["prompt_id"] for row in read_rows(run, "scores")] == ["a", "a", "b", "b", "c", "c"]


def test_a_part_that_is_not_on_the_list_is_made_again(tmp_path: Path) -> None:
    killed = TableWriter(open_run(tmp_path), "scores", key="prompt_id", part_rows=1)
    killed.write(score_rows("a"))
    listed = (killed.parts / "manifest.json").read_bytes()
    killed.write(score_rows("b"))
    (killed.parts / "manifest.json").write_bytes(listed)  # killed after part-00001 had its name, before it was listed

    again = TableWriter(open_run(tmp_path), "scores", key="prompt_id", part_rows=1)
    assert again.done == {"a"}
    assert sorted(path.name for path in again.parts.iterdir()) == ["manifest.json", "part-00000.parquet"]


def test_parts_ahead_of_the_table_that_is_written_last_are_made_again(tmp_path: Path) -> None:
    killed = TableWriter(open_run(tmp_path), "scores", key="prompt_id", part_rows=1)
    for prompt in "abc":
        killed.write(score_rows(prompt))
    again = TableWriter(open_run(tmp_path), "scores", key="prompt_id", limit_to={"a"}, part_rows=1)
    assert again.done == {"a"}
    again.write(score_rows("b"))
    assert again.finish() == 4


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_part_whose_bytes_changed_is_noticed(harm: str, tmp_path: Path) -> None:
    killed = TableWriter(open_run(tmp_path), "scores", key="prompt_id", part_rows=1)
    killed.write(score_rows("a"))
    part = killed.parts / "part-00000.parquet"
    content = bytearray(part.read_bytes())
    content[10] ^= 1
    part.unlink()
    if harm != "remove":
        part.write_bytes(content if harm == "flip" else content[:50])
    with pytest.raises(
        InputError, match=r"part-00000\.parquet is missing, or its bytes have changed .*; restore it, or delete .*parts"
    ):
        TableWriter(open_run(tmp_path), "scores", key="prompt_id")


def test_a_table_whose_bytes_changed_is_noticed(run: Run) -> None:
    with TableWriter(run, "scores", key="prompt_id") as writer:
        writer.write(row for prompt in range(100) for row in score_rows(str(prompt)))
    content = bytearray(writer.path.read_bytes())
    content[300] ^= 1
    writer.path.write_bytes(content)
    with pytest.raises(InputError, match=r"scores\.parquet is damaged .*CRC.*; delete it and run `make feedback RUN="):
        list(read_rows(run, "scores"))


def test_what_is_done_can_be_told_by_two_columns(tmp_path: Path) -> None:
    killed = TableWriter(open_run(tmp_path), "scores", key="prompt_id")
    killed.write(score_rows("a") + score_rows("b", 1))
    killed.flush()
    writer = TableWriter(open_run(tmp_path), "scores", key=("prompt_id", "num_rejected"))
    assert writer.done == {("a", 0), ("a", 1), ("b", 0)}


def test_a_table_of_columns_is_checked_as_rows_are(run: Run) -> None:
    with TableWriter(run, "scores", key="prompt_id") as writer:
        writer.write_table(pa.Table.from_pylist(score_rows("a"), schema=SCHEMAS["scores"]))
        writer.write(score_rows("b"))
        missing = pa.Table.from_pylist([row | {"score": None} for row in score_rows("c")], schema=SCHEMAS["scores"])
        with pytest.raises(ValueError, match="table scores: column 'score' is None; it needs a value"):
            writer.write_table(missing)
    assert list(read_rows(run, "scores")) == score_rows("a") + score_rows("b")


def test_parts_come_one_at_a_time_and_an_empty_table_has_one(run: Run) -> None:
    with TableWriter(run, "scores", key="prompt_id", part_rows=2) as writer:
        for prompt in "ab":
            writer.write(score_rows(prompt))
    names = ["score", "prompt_id"]
    assert [part.to_pydict() for part in read_parts(run, "scores", names)] == [
        {"score": [0.0, -1.0], "prompt_id": [prompt] * 2} for prompt in "ab"
    ]
    assert TableWriter(run, "pairs", key="prompt_id").finish() == 0
    (part,) = read_parts(run, "pairs", ["prompt_id"])
    assert (part.num_rows, part.schema.names) == (0, ["prompt_id"])


def test_an_error_in_the_block_keeps_the_parts_and_makes_no_table(run: Run) -> None:
    with pytest.raises(RuntimeError), TableWriter(run, "scores", key="prompt_id", part_rows=1) as writer:
        writer.write(score_rows("a"))
        raise RuntimeError
    assert not writer.path.exists()
    assert len(list(writer.parts.glob("part-*"))) == 1


def test_a_finished_table_counts_as_done_when_the_stage_is_started_again(tmp_path: Path) -> None:
    with TableWriter(open_run(tmp_path), "scores", key="prompt_id") as writer:
        writer.write(score_rows("a"))
    writer.parts.mkdir()  # killed between the rename and the removal of the parts
    with TableWriter(open_run(tmp_path), "scores", key="prompt_id") as again:
        assert again.done == {"a"}
    assert again.finish() == 2
    assert not again.parts.exists()


def test_an_empty_table_has_its_columns(run: Run) -> None:
    assert TableWriter(run, "scores", key="prompt_id").finish() == 0
    assert pq.read_schema(run.path / "scores.parquet").names == SCHEMAS["scores"].names
    assert list(read_rows(run, "scores")) == []


def test_parts_of_other_settings_are_not_mixed_in(tmp_path: Path) -> None:
    writer = TableWriter(open_run(tmp_path, score="a"), "scores", key="prompt_id")
    writer.write(score_rows("a"))
    writer.flush()
    (tmp_path / "run" / "feedback.json").unlink()
    with pytest.raises(RunMismatchError, match=r"part-00000.parquet was made with other settings; use another RUN="):
        TableWriter(open_run(tmp_path, score="b"), "scores", key="prompt_id")


def test_rows_that_do_not_fit_the_schema(run: Run) -> None:
    writer = TableWriter(run, "scores", key="prompt_id")
    (row,) = score_rows("a", 1)
    with pytest.raises(ValueError, match=r"table scores: missing columns \['score'\], unknown columns \['points'\]"):
        writer.write([{"points" if name == "score" else name: value for name, value in row.items()}])
    with pytest.raises(ValueError, match="table scores: column 'score' is None; it needs a value"):
        writer.write([row | {"score": None}])
    assert writer.finish() == 0


def test_damaged_and_foreign_files(run: Run) -> None:
    path = run.path / "scores.parquet"
    path.write_bytes(b"not parquet at all")
    with pytest.raises(InputError, match=r"scores.parquet is damaged .*delete it and run `make feedback RUN="):
        count_rows(run, "scores")
    pandas.DataFrame({"response_id": ["a"]}).to_parquet(path)
    with pytest.raises(InputError, match=r"has no column 'score'; it has: response_id"):
        list(read_rows(run, "scores", ["score"]))
    with pytest.raises(InputError, match="was not written by this project"):
        read_metadata(run, "scores")


def test_metadata_tells_what_made_a_table(tmp_path: Path) -> None:
    run = open_run(tmp_path, score="rejected_count")
    TableWriter(run, "scores", key="prompt_id").finish()
    made = read_metadata(run, "scores")
    assert (made["table"], made["stage"], made["config"], made["inputs"]) == (
        "scores",
        "feedback",
        {"score": "rejected_count"},
        {},
    )
    assert made["identity"] == run.identity("scores")
    assert made["versions"]["pyarrow"]
    assert made["code_version"].startswith("0.1.0+")
    assert made["created"]


@pytest.mark.parametrize("table", sorted(SCHEMAS))
def test_datasets_reads_the_features_we_write(table: str) -> None:
    from datasets import Features

    schema = SCHEMAS[table]
    features = Features.from_arrow_schema(schema)
    assert features.arrow_schema.types == schema.types
    assert json.loads(features.arrow_schema.metadata[b"huggingface"]) == json.loads(schema.metadata[b"huggingface"])


def test_pairs_are_the_conversational_preference_format_of_trl(run: Run, tmp_path: Path) -> None:
    from datasets import load_dataset
    from trl.data_utils import is_conversational, prepare_multimodal_messages

    row = pair_row("p", "q", png())
    with TableWriter(run, "pairs", key="prompt_id") as writer:
        writer.write([row])
    data = load_dataset("parquet", data_files=str(writer.path), split="train", cache_dir=str(tmp_path / "cache"))
    (example,) = list(data)
    assert is_conversational(example)
    (image,) = example["images"]
    assert image.size == (4, 3)
    assert example["chosen_claims"] == row["chosen_claims"]
    messages = prepare_multimodal_messages(example["prompt"], images=example["images"])
    assert [part["type"] for part in messages[0]["content"]] == ["image", "text"]


@pytest.mark.parametrize(("prompts", "image_bytes"), [(30, 200_000), (800, 4_000)])
def test_an_image_is_stored_once_for_all_pairs_of_a_prompt(run: Run, prompts: int, image_bytes: int) -> None:
    """800 prompts: parquet writes 1,024 rows at a time, and by default gives up its dictionary at 1 MB after them."""
    random = Random(0)
    images = {f"prompt-{index}": random.randbytes(image_bytes) for index in range(prompts)}
    with TableWriter(run, "pairs", key="prompt_id") as writer:
        for prompt_id, image in images.items():
            rows = [pair_row(f"{prompt_id}-{index}", prompt_id, image) for index in range(2)]
            writer.write(rows)
        writer.flush()
        (part,) = writer.parts.glob("*.parquet")
        stored_once = prompts * image_bytes
        assert stored_once < part.stat().st_size < 1.1 * stored_once
    assert stored_once < writer.path.stat().st_size < 1.1 * stored_once

    rows = list(read_rows(run, "pairs", ["prompt_id", "images"]))
    assert [row["prompt_id"] for row in rows] == [prompt_id for prompt_id in images for _ in range(2)]
    assert all(row["images"] == [{"bytes": images[row["prompt_id"]], "path": "a.png"}] for row in rows)
    read = pandas.read_parquet(writer.path, columns=["images"])
    assert [image[0]["bytes"] for image in read["images"]] == [row["images"][0]["bytes"] for row in rows]
