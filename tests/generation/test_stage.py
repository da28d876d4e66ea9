"""Sampling, and the stage for real on a tiny random MiniCPM-V."""

import json
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import generation.sampling
from generation.__main__ import main
from generation.stage import generate
from rlaif.config import Config, DataSection, EngineSection, GenerationSection, ModelSection
from rlaif.errors import InputError, RunMismatchError
from rlaif.inference.engine import PROMPT_TOO_LONG, Completion, Request
from rlaif.storage.files import make_id
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
from tests.support.doubles import ScriptedEngine
from tests.support.photographs import as_bytes, encoded, folder_data, good_photos, parquet_file, photo, write_files


def make_config(model: Path, data: DataSection, **generation: Any) -> Config:
    section = ModelSection(model=str(model), dtype="float32")
    sampling = GenerationSection(**{"num_responses": 3, "temperature": 1.0, "max_tokens": 8, **generation})
    engine = EngineSection(max_model_len=512, max_num_seqs=8)
    return Config(policy=section, labeler=section, data=data, generation=sampling, engine=engine)


def scripted(request: Request) -> list[str]:
    return [["one two", "cut off...", ""][index % 3] for index in range(request.n)]


SCENES = DataSection(train_prompts=5, test_prompts=2)


def test_responses_record_how_they_were_sampled(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, double = make_config(tiny_model, SCENES), ScriptedEngine(scripted)
    generate(config, tmp_path / "run", lambda *_: double)
    run = Run(tmp_path / "run", config, "test")
    prompts = {row["prompt_id"]: row for row in read_rows(run, "prompts")}
    rows = list(read_rows(run, "responses"))
    assert len(prompts) == 7 and len(rows) == 15 and len(double.requests) == 5
    assert {prompts[row["prompt_id"]]["split"] for row in rows} == {"train"}
    for index, row in enumerate(rows):
        assert row["sample_index"] == index % 3
        assert row["response_id"] == make_id(row["prompt_id"], "1", str(index % 3))
        assert row["seed"] == int(make_id("0", row["prompt_id"]), 16) % 2**31
        assert (row["text"], row["finish_reason"], row["num_tokens"]) == [
            ("one two", "stop", 2),
            ("cut off...", "length", 2),
            ("", "stop", 0),
        ][index % 3]
        assert (row["temperature"], row["top_p"], row["round"]) == (1.0, 1.0, 1)
        assert row["policy"] == str(tiny_model) and len(row["policy_revision"]) == 16
    assert len({row["seed"] for row in rows}) == 5
    assert double.closed
    request = double.requests[0]
    prompt = prompts[rows[0]["prompt_id"]]
    assert (request.image, request.text) == (prompt["image"]["bytes"], prompt["instruction"])
    assert run.metrics()["generation"] == {"responses_cut_off": 5, "responses_empty": 5}
    printed = capsys.readouterr().out
    assert "15 responses: 5 cut off by max_tokens, 5 empty; feedback will drop both" in printed
    assert re.search(r"next     make feedback RUN=\S+, with the same CONFIG and SET\n", printed)


def test_sampling_never_reads_the_reference(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns: set[str] = set()

    def spy(read: Callable[..., Any]) -> Callable[..., Any]:
        def reading(source: Any, what: Any, names: list[str]) -> Any:
            columns.update(names)
            return read(source, what, names)

        return reading

    for name in ("read_located_parts", "read_rows_at"):
        monkeypatch.setattr(generation.sampling, name, spy(getattr(generation.sampling, name)))
    generate(make_config(tiny_model, SCENES), tmp_path / "run", lambda *_: ScriptedEngine(scripted))
    assert columns == {"prompt_id", "image", "image_sha256", "instruction", "split"}


def test_a_stopped_stage_resumes_to_the_same_tables(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generation.sampling, "PROMPTS_PER_CHUNK", 2)
    config = make_config(tiny_model, SCENES)
    generate(config, tmp_path / "whole", lambda *_: ScriptedEngine(scripted))
    count = 0

    def stopping(request: Request) -> list[str]:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return scripted(request)

    with pytest.raises(KeyboardInterrupt):
        generate(config, tmp_path / "stopped", lambda *_: ScriptedEngine(stopping))
    double = ScriptedEngine(scripted)
    generate(config, tmp_path / "stopped", lambda *_: double)
    assert len(double.requests) == 3, "the first two prompts were on disk"
    bar = capsys.readouterr().err.rpartition("responses:")[2]
    assert "5/5" in bar, "the progress bar counts the prompts on disk"
    for table in ("prompts", "responses"):
        whole, stopped = (list(read_rows(Run(tmp_path / name, config, "x"), table)) for name in ("whole", "stopped"))
        assert whole == stopped


def test_a_prompt_that_is_too_long_is_dropped(tiny_model: Path, tmp_path: Path) -> None:
    class Short(ScriptedEngine):
        def complete(self, request: Request) -> list[Completion]:
            return (
                [Completion("", 0, PROMPT_TOO_LONG)]
                if len(self.requests[0].text) == len(request.text)
                else super().complete(request)
            )

    config = make_config(tiny_model, DataSection(train_prompts=8, test_prompts=0))
    double = Short(scripted)
    generate(config, tmp_path / "run", lambda *_: double)
    run = Run(tmp_path / "run", config, "x")
    dropped = [row for row in read_rows(run, "dropped") if row["reason"] == PROMPT_TOO_LONG]
    answered = {row["prompt_id"] for row in read_rows(run, "responses")}
    assert dropped and len(dropped) + len(answered) == 8
    assert not answered & {row["row_id"] for row in dropped}


def test_a_finished_stage_does_nothing_and_other_settings_are_refused(
    tiny_model: Path, tmp_path: Path, instructions: str
) -> None:
    write_files(tmp_path / "photos", {"1.png": encoded(photo(40, 40), "PNG")})
    config = make_config(tiny_model, folder_data(tmp_path / "photos", instructions))
    generate(config, tmp_path / "run", lambda *_: ScriptedEngine(scripted))
    generate(config, tmp_path / "run", lambda *_: pytest.fail("the stage is finished"))
    hotter = make_config(tiny_model, config.data, temperature=0.9)
    with pytest.raises(RunMismatchError, match=r"generation\.temperature: 1\.0 -> 0\.9"):
        generate(hotter, tmp_path / "run", lambda *_: ScriptedEngine(scripted))
    write_files(tmp_path / "photos", {"2.png": encoded(photo(50, 40), "PNG")})
    with pytest.raises(RunMismatchError, match=r"data\.files_digest"):
        generate(config, tmp_path / "run", lambda *_: ScriptedEngine(scripted))


def test_every_image_broken_is_an_error(tiny_model: Path, tmp_path: Path, instructions: str) -> None:
    write_files(tmp_path / "photos", {"1.png": b"x", "2.png": b"y"})
    config = make_config(tiny_model, folder_data(tmp_path / "photos", instructions))
    with pytest.raises(InputError, match=r"no usable prompt in .*photos \(2 unreadable_image\); correct"):
        generate(config, tmp_path / "run", lambda *_: ScriptedEngine(scripted))


def test_a_table_says_what_was_taken_out_and_what_repeats(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path, {"1.png": encoded(photo(9, 9), "PNG")})
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A photo."}]
    rows = [{"image": "1.png", "conversations": turns}] * 3 + [{"conversations": turns[1:]}]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = make_config(tiny_model, DataSection(source="table", path=str(tmp_path / "d.jsonl")))
    generate(config, tmp_path / "run", lambda *_: ScriptedEngine(scripted))
    run = Run(tmp_path / "run", config, "x")
    assert [row["instruction"] for row in read_rows(run, "prompts")] == ["What is it?"]
    printed = capsys.readouterr().out
    assert "3 instructions had image marks such as <image>; they were taken out, the image is sent anyway" in printed
    assert "2 rows repeat an earlier image and instruction and are not used again" in printed
    assert run.metrics()["stages"]["generation"]["dropped"] == {"no_image": 1, "duplicate_prompt": 1}


# --- the command line --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "folder", "path": "nowhere"}, "nowhere is missing, expected a folder of images; correct data.path"),
        ({"source": "folder", "path": "ask.txt"}, "ask.txt is a file, expected a folder of images; correct data.path"),
        ({"source": "folder", "path": "empty"}, "no images in empty; expected JPEG, PNG, HEIC or other image files"),
        (
            {"source": "folder", "path": "photos", "instructions": "no.txt"},
            "no.txt is missing; set data.instructions to",
        ),
        (
            {"source": "folder", "path": "photos", "instructions": "blank.txt"},
            "blank.txt has no instructions; write one per line",
        ),
        ({"source": "folder", "path": "photos", "instructions": "photos/1.png"}, "photos/1.png is not UTF-8 text"),
        (
            {"source": "parquet", "path": "no.parquet"},
            "no parquet file at no.parquet; set data.path to a file with suffix .parquet",
        ),
        ({"source": "parquet", "path": "photos"}, "no parquet file at photos;"),
        ({"source": "parquet", "path": "ask.txt"}, "ask.txt is not a parquet file"),
        (
            {"source": "parquet", "path": "d.parquet", "question_column": "ask"},
            "d.parquet has no column 'image' or 'images'; it has: id, pic, ask; set data.image_column",
        ),
        (
            {"source": "parquet", "path": "d.parquet", "image_column": "pic"},
            "no column 'question' or 'conversations' or 'messages'; it has: id, pic, ask; set data.question_column",
        ),
        (
            {"source": "parquet", "path": "d.parquet", "image_column": "id", "question_column": "ask"},
            "column 'id' has type int64; expected bytes, struct<bytes, path>, or path",
        ),
        (
            {"source": "parquet", "path": "d.parquet", "image_column": "pic", "question_column": "id"},
            "column 'id' has type int64; expected text or turns; set data.question_column",
        ),
        (
            {"source": "table", "path": "cut.json"},
            "cut.json ends in line 3 within its JSON: it was cut short; copy or write it again",
        ),
        (
            {"source": "table", "path": "photos"},
            "no table file at photos; set data.path to a file with suffix .parquet",
        ),
        ({"source": "datasets", "path": "./no_set"}, "cannot load data set ./no_set: "),
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
    write_files(
        tmp_path, {"ask.txt": b"Describe it.", "blank.txt": b"\n \n", "photos/1.png": encoded(photo(9, 9), "PNG")}
    )
    (tmp_path / "cut.json").write_text('[\n{"image": "photos/1.png", "question": "a"},\n{"im')
    (tmp_path / "empty").mkdir()
    parquet_file(tmp_path, as_bytes([b"x"], tmp_path), ["q"])
    if settings["source"] == "folder":
        settings = {"instructions": "ask.txt", **settings}
    model = {"model": str(tiny_model)}
    (tmp_path / "c.yaml").write_text(json.dumps({"policy": model, "labeler": model, "data": settings}))
    assert main(["--config", "c.yaml", "--run", "run"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in line
    assert not list(tmp_path.glob("run/*.parquet"))


def test_several_greedy_responses_are_refused(tiny_model: Path, tmp_path: Path, capsys: Any) -> None:
    model = {"model": str(tiny_model)}
    (tmp_path / "c.yaml").write_text(json.dumps({"policy": model, "labeler": model}))
    command = [
        "--config",
        str(tmp_path / "c.yaml"),
        "--run",
        str(tmp_path / "run"),
        "--set",
        "generation.temperature=0",
    ]
    assert main(command) == 2
    assert "greedy responses would all be equal" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_a_one_line_error_and_leaves_no_partial_table(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files are limited to 40 kB, which stands for a full disk."""
    model = {"model": str(tiny_model)}
    data = {"train_prompts": 60, "test_prompts": 0}
    (tmp_path / "c.yaml").write_text(json.dumps({"policy": model, "labeler": model, "data": data}))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    try:
        assert main(["--config", str(tmp_path / "c.yaml"), "--run", str(tmp_path / "run")]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "File too large" in line and "run the same command again, which resumes" in line
    assert not list((tmp_path / "run").glob("**/*.parquet"))


# --- for real ----------------------------------------------------------------------------------------------------


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")
def test_photographs_to_responses_for_real(tiny_model: Path, tmp_path: Path, instructions: str) -> None:
    """vLLM answers every kind of photograph, and nothing is dropped."""
    photos = good_photos()
    write_files(tmp_path / "photos", photos)
    config = make_config(tiny_model, folder_data(tmp_path / "photos", instructions))
    generate(config, tmp_path / "run")
    run = Run(tmp_path / "run", config, "x")
    rows = list(read_rows(run, "responses"))
    assert len(rows) == 3 * 2 * len(photos)
    assert {row["finish_reason"] for row in rows} <= {"stop", "length"}
    assert len({row["text"] for row in rows}) > len(photos), "samples differ"
    assert not list(read_rows(run, "dropped"))
