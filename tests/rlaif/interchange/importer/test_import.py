"""`make import` without an engine: every layout, what is dropped, resuming, refusals."""

import importlib
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rlaif.config import Config
from rlaif.errors import ConfigError, InputError, RunMismatchError
from rlaif.interchange.importer.stage import import_data
from rlaif.storage.files import read_json
from tests.support.published.layouts import IMAGES, PAIRS, PUBLISHED, ROWS, mm_rlhf, write, write_lines


def config_of(data: Path | str, **values: Any) -> Config:
    section = {"source": "import", "path": str(data), **values}
    return Config.model_validate({"policy": {"model": "p"}, "labeler": {"model": "l"}, "data": section})


def rows_of(path: Path, table: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path / f"{table}.parquet").to_pylist()
    return rows


def reasons(path: Path) -> dict[str, str]:
    return {row["row_id"]: row["reason"] for row in rows_of(path, "dropped")}


@pytest.mark.parametrize("layout", [*PUBLISHED, "ms-swift"])
def test_every_layout_gives_the_same_pairs(tmp_path: Path, layout: str) -> None:
    data = write(tmp_path, layout)
    import_data(config_of(data), tmp_path / "run")
    pairs = rows_of(tmp_path / "run", "pairs")
    read = [
        (
            IMAGES.index(row["images"][0]["bytes"]),
            row["prompt"][0]["content"],
            row["chosen"][0]["content"],
            row["rejected"][0]["content"],
        )
        for row in pairs
    ]
    assert read == PAIRS
    assert {row["chosen_score"] for row in pairs} == {None} and all(row["chosen_claims"] == [] for row in pairs)
    prompts = rows_of(tmp_path / "run", "prompts")
    assert [row["prompt_id"] for row in prompts] == [row["prompt_id"] for row in pairs]
    assert {row["split"] for row in prompts} == {"train"}
    assert read_json(tmp_path / "run" / "metrics.json")["import"]["layout"] == layout
    assert reasons(tmp_path / "run") == {}
    assert not (tmp_path / "run" / "import").exists()


def imported(tmp_path: Path, rows: list[dict[str, Any]], layout: str = "mm-rlhf", **values: Any) -> Path:
    import_data(config_of(write(tmp_path / "data", layout, rows), **values), tmp_path / "run")
    return tmp_path / "run"


def test_rows_that_cannot_be_used_are_dropped_with_their_reason_and_change_no_other(tmp_path: Path) -> None:
    good = mm_rlhf(0)
    bad: dict[str, dict[str, Any]] = {
        "missing_image": {**good, "image": "long/none.png"},
        "image_outside_folder": {**good, "image": "../../secret.png"},
        "video": {**{name: cell for name, cell in good.items() if name != "image"}, "video": "short/a.mp4"},
        "several_images": {**good, "image": ["long/0.png", "long/1.png"]},
        "empty_response": {**good, "rejected": " "},
        "equal_text": {**good, "rejected": "A  red square. "},
        "missing_instruction": {**good, "prompt": "<image>"},
        "instruction_too_long": {**good, "prompt": "What? " * 20},
        "response_too_long": {**good, "chosen": "Red. " * 20},
        "duplicate_pair": good,
        "unfit_row": {**good, "chosen": {"text": "Red."}},
        "no_image": {**good, "image": None},
    }
    path = imported(tmp_path, [good, *bad.values(), mm_rlhf(2)], max_instruction_chars=100, max_response_chars=90)
    names = [f"dpo_pairs.jsonl:{index}" for index in range(1, len(bad) + 1)]
    assert reasons(path) == dict(zip(names, bad, strict=True))
    assert [row["chosen"][0]["content"] for row in rows_of(path, "pairs")] == [PAIRS[0][2], PAIRS[2][2]]
    details = {row["reason"]: row["detail"] for row in rows_of(path, "dropped")}
    assert details["unfit_row"] == "dpo_pairs.jsonl, line 12: the answer is dict, expected text"
    assert details["video"] == "dpo_pairs.jsonl, line 4: the row is about the video short/a.mp4"


@pytest.mark.parametrize(
    ("layout", "change"),
    [
        ("conversations", {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}] * 2}),
        ("conversations", {"chosen": {"from": "human", "value": "A red square."}}),
        ("messages", {"prompt": [{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}]}),
        ("messages", {"rejected": [{"role": "assistant", "content": [{"type": "text", "text": "No."}]}] * 2}),
    ],
)
def test_conversations_of_several_turns_are_dropped(tmp_path: Path, layout: str, change: dict[str, Any]) -> None:
    path = imported(tmp_path, [ROWS[layout](0), {**ROWS[layout](2), **change}], layout)
    assert list(reasons(path).values()) == ["several_turns"] and len(rows_of(path, "pairs")) == 1


def test_an_answer_stays_as_it_is_and_an_instruction_loses_its_marks(tmp_path: Path) -> None:
    row = {**mm_rlhf(0), "chosen": "The mark <image> is text here.\n"}
    (pair,) = rows_of(imported(tmp_path, [row]), "pairs")
    assert pair["chosen"][0]["content"] == row["chosen"] and pair["prompt"][0]["content"] == "What is it?"


def test_names_and_texts_that_no_table_can_hold(tmp_path: Path) -> None:
    """Half a character, escaped in JSON within a text; a file name that is not UTF-8."""
    rows = [{**ROWS["rlhf-v"](index), "image": "long/0.png"} for index in range(3)]
    rows[0]["text"] = rows[0]["text"].replace("red", r"\ud800")
    data = write(tmp_path / "data", "mm-rlhf", rows)
    data = data.rename(os.fsdecode(bytes(data.parent) + b"/\xff.jsonl"))
    import_data(config_of(data), tmp_path / "run")
    assert list(reasons(tmp_path / "run").values()) == ["broken_text"] and len(rows_of(tmp_path / "run", "pairs")) == 2
    assert {row["source"] for row in rows_of(tmp_path / "run", "prompts")} == {"\ufffd.jsonl"}


def test_rows_of_one_prompt_stand_together_wherever_they_are_in_the_source(tmp_path: Path) -> None:
    rows = [mm_rlhf(index) for index in (0, 2, 1, 0, 2)]
    for number, row in enumerate(rows):
        row["chosen"] += f" {number}"
    pairs = rows_of(imported(tmp_path, rows), "pairs")
    assert [row["chosen"][0]["content"][-1] for row in pairs] == ["0", "3", "1", "4", "2"]
    prompts = [row["prompt_id"] for row in rows_of(tmp_path / "run", "prompts")]
    assert [row["prompt_id"] for row in pairs] == [prompts[index] for index in (0, 0, 1, 1, 2)]


def test_images_are_divided_by_their_hash_and_the_limit_counts_prompts(tmp_path: Path) -> None:
    rows = [mm_rlhf(index) for index in (0, 0, 1, 2)]
    rows[1]["chosen"] = "Another answer."
    path = imported(tmp_path, rows, test_share=0.999, limit=2)
    assert {row["split"] for row in rows_of(path, "pairs")} == {"test"}
    assert len(rows_of(path, "prompts")) == 2 and len(rows_of(path, "pairs")) == 3


def test_unknown_layouts_are_refused_with_the_nearest_one(tmp_path: Path) -> None:
    def message(rows: list[dict[str, Any]], **values: Any) -> str:
        with pytest.raises(InputError) as caught:
            import_data(config_of(write_lines(tmp_path / "rows.jsonl", rows), **values), tmp_path / "run")
        assert not (tmp_path / "run").exists()
        return str(caught.value)

    half = message([{"image": "a.png", "prompt": "What?", "chosen": "Red.", "reject": "Blue."}])
    assert half.endswith(
        "rows.jsonl has the columns image, prompt, chosen, reject, which fit none of the layouts messages, "
        "conversations, ms-swift, mmpr, rlaif-v, mm-rlhf, rlhf-v, responses; the nearest, mm-rlhf, also needs "
        "rejected (text); "
        "rename the columns, or give another DATA="
    )
    other_kind = message([{"image": "a.png", "question": "What?", "chosen": ["Red."], "rejected": "Blue."}])
    assert "the nearest, mmpr, also needs chosen as text, not a list" in other_kind
    forced = message([{"image": "a.png", "prompt": "What?", "chosen": "Red.", "rejected": "Blue."}], layout="rlhf-v")
    assert "layout rlhf-v also needs text (JSON of question, chosen and rejected); rename the columns" in forced
    assert "it was cut short" in message_of_cut_file(tmp_path)
    with pytest.raises(ConfigError, match=r"data\.source is 'scenes'; expected import; run `make import DATA="):
        import_data(Config.model_validate({"policy": {"model": "p"}, "labeler": {"model": "l"}}), tmp_path / "run")


def message_of_cut_file(folder: Path) -> str:
    (folder / "cut.json").write_text('[{"image": "a.png", "question": "Wh')
    with pytest.raises(InputError) as caught:
        import_data(config_of(folder / "cut.json"), folder / "run")
    return str(caught.value)


def test_a_layout_can_be_forced(tmp_path: Path) -> None:
    row = {**ROWS["mmpr"](0), "image": "long/0.png", "response": "Green."}
    data = write(tmp_path / "data", "mm-rlhf", [row])
    for layout, table in (("rlaif-v", "pairs"), ("responses", "responses")):
        import_data(config_of(data, layout=layout), tmp_path / layout)
        assert len(rows_of(tmp_path / layout, table)) == 1


def test_nothing_usable_is_an_error_that_counts_the_reasons(tmp_path: Path) -> None:
    row = {**mm_rlhf(0), "image": None}
    with pytest.raises(InputError, match=r"no usable row in .* \(2 no_image; the first: .*\); correct it"):
        imported(tmp_path, [row, row])
    assert not (tmp_path / "run" / "prompts.parquet").exists()
    data = write(tmp_path / "other", "mm-rlhf", [mm_rlhf(0)])  # as the error says: the run folder takes other data
    import_data(config_of(data), tmp_path / "run")
    assert len(rows_of(tmp_path / "run", "pairs")) == 1


@pytest.mark.parametrize("forced", [None, "mm-rlhf"])
def test_a_bad_first_row_is_dropped_alone(tmp_path: Path, forced: str | None) -> None:
    path = imported(
        tmp_path, [{**mm_rlhf(0), "prompt": 5}, mm_rlhf(1), mm_rlhf(2)], **({"layout": forced} if forced else {})
    )
    assert len(rows_of(path, "pairs")) == 2 and list(reasons(path).values()) == ["unfit_row"]


def test_an_import_that_was_stopped_writes_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{**mm_rlhf(index % 3), "chosen": f"Answer {index}."} for index in range(9)]
    data = write(tmp_path / "data", "mm-rlhf", [*rows, {**mm_rlhf(0), "image": None}])
    import_data(config_of(data), tmp_path / "whole")
    monkeypatch.setattr("rlaif.storage.writer.PART_BYTES", 0)  # every write survives
    for place in ("prompts.prompt_row", "stage.write_pairs", "tables.pair_rows"):
        path = tmp_path / place
        with monkeypatch.context() as patch:
            stop_at_second_call(patch, f"rlaif.interchange.importer.{place}")
            with pytest.raises(KeyboardInterrupt):
                import_data(config_of(data), path)
        assert ("prompts.parts" in {item.name for item in path.iterdir()}) == (place == "prompts.prompt_row")
        import_data(config_of(data), path)
        for table in ("prompts", "pairs", "dropped"):
            assert rows_of(path, table) == rows_of(tmp_path / "whole", table)


def stop_at_second_call(patch: pytest.MonkeyPatch, name: str) -> None:
    """As a kill would; `write_pairs`, which is called once, is stopped at once."""
    module, _, function = name.rpartition(".")
    original = getattr(importlib.import_module(module), function)
    calls = 0

    def stopped(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2 or function == "write_pairs":
            raise KeyboardInterrupt
        return original(*args)

    patch.setattr(name, stopped)


def test_a_run_with_other_settings_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "data", "rlaif-v")
    import_data(config_of(data), tmp_path / "run")
    before = (tmp_path / "run" / "pairs.parquet").read_bytes()
    import_data(config_of(data), tmp_path / "run")
    assert "import: nothing to do" in capsys.readouterr().out
    with pytest.raises(RunMismatchError, match=r"data\.test_share: 0\.0 -> 0\.5"):
        import_data(config_of(data, test_share=0.5), tmp_path / "run")
    write(tmp_path / "data", "rlaif-v", [ROWS["rlaif-v"](0)])
    with pytest.raises(RunMismatchError, match="files_digest"):
        import_data(config_of(data), tmp_path / "run")
    assert (tmp_path / "run" / "pairs.parquet").read_bytes() == before


def test_responses_in_lists_or_in_rows(tmp_path: Path) -> None:
    one = {"image": "long/0.png", "instruction": "What is it?"}
    rows = [
        {**one, "response": "Red.", "model": "a/b"},
        {**one, "image": "long/1.png", "response": "Blue."},
        {**one, "response": "A square.", "model": "c/d"},
        {**one, "response": "Red."},
        {**one, "response": ""},
    ]
    path = imported(tmp_path / "rows", rows, "responses")
    written = rows_of(path, "responses")
    assert [(row["text"], row["policy"], row["sample_index"]) for row in written] == [
        ("Red.", "a/b", 0),
        ("A square.", "c/d", 1),
        ("Blue.", None, 0),
    ]
    assert {row["finish_reason"] for row in written} == {"stop"} and {row["num_tokens"] for row in written} == {None}
    assert reasons(path) == {"dpo_pairs.jsonl:3": "equal_text", "dpo_pairs.jsonl:4": "empty_response"}
    assert read_json(path / "metrics.json")["import"]["policies"] == {"a/b": 1, "c/d": 1, "not named": 1}
    row = {**one, "responses": ["Red.", " ", "Red.", "Blue."], "policy": "a/b"}
    lists = imported(tmp_path / "lists", [row], "responses")
    assert [row["text"] for row in rows_of(lists, "responses")] == ["Red.", "Blue."]
    assert reasons(lists) == {"dpo_pairs.jsonl:0/1": "empty_response", "dpo_pairs.jsonl:0/2": "equal_text"}
