"""Sources of prompts, their checks, sampling, and the stage for real on a tiny random MiniCPM-V."""

import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import generation.sampling
from generation.__main__ import generate, main
from generation.prompts import build_prompts, read_instructions, read_pictures
from rlaif.config import Config, DataSection, EngineSection, GenerationSection, ModelSection
from rlaif.engine import PROMPT_TOO_LONG, Completion, Request
from rlaif.errors import InputError, RunMismatchError
from rlaif.run import Run
from rlaif.tables import make_id, read_rows
from tests.doubles import ScriptedEngine

Row = dict[str, Any]


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    return Image.linear_gradient("L").resize((width, height)).convert(mode)


def good_photos() -> dict[str, bytes]:
    rotated = Image.Exif()
    rotated[0x0112] = 6
    palette = photo(90, 60).quantize(16)
    frames = [photo(40, 40), photo(40, 40).rotate(90)]
    return {
        "a/rgb.jpg": encoded(photo(320, 240), "JPEG"),
        "a/grey.JPG": encoded(photo(100, 300, "L"), "JPEG"),
        "a/cmyk.jpeg": encoded(photo(120, 80, "CMYK"), "JPEG"),
        "a/rotated.jpg": encoded(photo(200, 100), "JPEG", exif=rotated),
        "alpha.png": encoded(photo(64, 64, "RGBA"), "PNG"),
        "alpha-grey.png": encoded(photo(64, 64, "LA"), "PNG"),
        "bits.png": encoded(photo(64, 64, "1"), "PNG"),
        "deep.png": encoded(photo(64, 64, "I;16"), "PNG"),
        "palette.png": encoded(palette, "PNG"),
        "palette-alpha.png": encoded(palette, "PNG", transparency=0),
        "tiny.png": encoded(photo(30, 30), "PNG"),
        "strip.png": encoded(photo(3, 900), "PNG"),
        "w.webp": encoded(photo(150, 100), "WEBP"),
        "w-alpha.webp": encoded(photo(151, 100, "RGBA"), "WEBP"),
        "moving.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "b.bmp": encoded(photo(50, 50), "BMP"),
        "t.tiff": encoded(photo(51, 50), "TIFF"),
        "no-suffix": encoded(photo(52, 50), "PNG"),
        "40-megapixels.jpg": encoded(photo(8000, 5000), "JPEG", quality=30),
    }


def bad_photos() -> dict[str, tuple[bytes, str]]:
    jpeg, avif = encoded(photo(320, 240), "JPEG"), encoded(photo(64, 64), "AVIF")
    bomb = b"P6 20000 20000 255\n"
    return {
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "broken_image"),
        "truncated.avif": (avif[: len(avif) - 40], "broken_image"),
        "text.jpg": (b"this is no picture", "unreadable_image"),
        "empty.png": (b"", "empty_image"),
        "bomb.ppm": (bomb, "image_too_large"),
    }


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def collect(data: DataSection, done: set[str] = frozenset()) -> tuple[list[Row], list[tuple[str, str, str]]]:
    drops: list[tuple[str, str, str]] = []
    pictures = read_pictures(data, seed=0)
    return list(build_prompts(pictures, data.source, data.limit, done, lambda *row: drops.append(row))), drops


@pytest.fixture
def instructions(tmp_path: Path) -> str:
    (tmp_path / "ask.txt").write_text("Describe it.\n\n  What is there?  \n")
    return str(tmp_path / "ask.txt")


def folder_data(folder: Path, instructions: str, **more: Any) -> DataSection:
    return DataSection(source="folder", path=str(folder), instructions=instructions, **more)


# --- sources -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_every_real_photograph_goes_through_and_broken_ones_are_named(tmp_path: Path, instructions: str) -> None:
    good, bad = good_photos(), bad_photos()
    folder = tmp_path / "photos"
    write_files(folder, {**good, **{name: content for name, (content, _) in bad.items()}})
    write_files(folder, {"README.md": b"notes", "a/list.json": b"{}", ".hidden.jpg": b"", "._rgb.jpg": b"\0"})
    rows, drops = collect(folder_data(folder, instructions))
    assert {(row_id, reason) for row_id, reason, _ in drops} == {(name, reason) for name, (_, reason) in bad.items()}
    assert all(detail for *_, detail in drops)
    assert [row["image"]["path"] for row in rows] == [name for name in sorted(good) for _ in range(2)]
    for row in rows:
        assert row["image"]["bytes"] == good[row["image"]["path"]], "bytes are stored as they came"
        assert row["prompt_id"] == make_id(row["image_sha256"], row["instruction"])
        assert (row["source"], row["split"], row["reference"]) == ("folder", "train", None)
    assert [row["instruction"] for row in rows[:2]] == ["Describe it.", "What is there?"]


def test_duplicates_are_dropped_and_limit_and_done_are_kept(tmp_path: Path, instructions: str) -> None:
    image = encoded(photo(40, 40), "PNG")
    write_files(tmp_path / "photos", {"1.png": image, "2.png": image, "3.png": encoded(photo(41, 40), "PNG")})
    rows, drops = collect(folder_data(tmp_path / "photos", instructions))
    assert [(row["image"]["path"], row["instruction"]) for row in rows] == [
        (name, text) for name in ("1.png", "3.png") for text in ("Describe it.", "What is there?")
    ]
    assert [(row_id, reason) for row_id, reason, _ in drops] == [
        (row["prompt_id"], "duplicate_prompt") for row in rows[:2]
    ]
    assert "2.png" in drops[0][2]
    limited, _ = collect(folder_data(tmp_path / "photos", instructions, limit=3))
    assert limited == rows[:3]
    rest, _ = collect(folder_data(tmp_path / "photos", instructions, limit=3), done={rows[0]["prompt_id"]})
    assert rest == rows[1:3]


def test_default_instructions_ask_for_descriptions() -> None:
    lines = read_instructions(None)
    assert len(lines) >= 3 and len(set(lines)) == len(lines) and all("escri" in line for line in lines)


def parquet_file(folder: Path, images: pa.Array, questions: list[str | None], name: str = "d.parquet") -> DataSection:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({"id": list(range(len(questions))), "pic": images, "ask": questions}), folder / name)
    return DataSection(source="parquet", path=str(folder / name), image_column="pic", question_column="ask")


def as_bytes(images: list[bytes | None], folder: Path) -> pa.Array:
    return pa.array(images, pa.binary())


def as_struct(images: list[bytes | None], folder: Path) -> pa.Array:
    cells = [image and {"bytes": image, "path": f"{index}.png"} for index, image in enumerate(images)]
    return pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()}))


def as_path(images: list[bytes | None], folder: Path) -> pa.Array:
    write_files(folder, {f"{index}.png": image for index, image in enumerate(images) if image})
    return pa.array([image and f"{index}.png" for index, image in enumerate(images)], pa.string())


def as_struct_of_paths(images: list[bytes | None], folder: Path) -> pa.Array:
    paths = as_path(images, folder).to_pylist()
    return pa.array([path and {"bytes": None, "path": path} for path in paths], as_struct([], folder).type)


@pytest.mark.parametrize("column", [as_bytes, as_struct, as_path, as_struct_of_paths])
def test_parquet_with_images_in_any_form(
    column: Callable[[list[bytes | None], Path], pa.Array], tmp_path: Path
) -> None:
    images = [encoded(photo(40 + index, 40), "PNG") for index in range(3)]
    cells = column([*images, None, b"no picture"], tmp_path / "data")
    data = parquet_file(tmp_path / "data", cells, ["q0", "  ", "q2", "q3", "q4"])
    rows, drops = collect(data)
    assert [(row["image"]["bytes"], row["instruction"]) for row in rows] == [(images[0], "q0"), (images[2], "q2")]
    assert [(row_id, reason) for row_id, reason, _ in drops] == [
        ("d.parquet:1", "missing_instruction"),
        ("d.parquet:3", "missing_image"),
        ("d.parquet:4", "unreadable_image"),
    ]


def test_parquet_folder_and_a_path_to_nowhere(tmp_path: Path) -> None:
    image = encoded(photo(40, 40), "PNG")
    parquet_file(tmp_path / "data", as_bytes([image], tmp_path), ["b"], "2.parquet")
    data = parquet_file(tmp_path / "data", pa.array(["gone.png"]), ["a"], "1.parquet")
    rows, drops = collect(data.model_copy(update={"path": str(tmp_path / "data")}))
    assert [row["instruction"] for row in rows] == ["b"]
    assert [(row_id, reason) for row_id, reason, _ in drops] == [("1.parquet:0", "missing_image")]


def test_datasets_saved_to_disk_give_the_bytes_as_they_came(tmp_path: Path) -> None:
    import datasets

    images = [encoded(photo(60, 40), "JPEG"), encoded(photo(41, 40, "RGBA"), "WEBP")]
    cells = [{"bytes": image, "path": None} for image in images]
    features = datasets.Features({"image": datasets.Image(), "question": datasets.Value("string")})
    dataset = datasets.Dataset.from_dict({"image": cells, "question": ["a", "b"]}, features=features)
    datasets.DatasetDict({"train": dataset, "val": dataset.select([1])}).save_to_disk(tmp_path / "set")
    data = DataSection(source="datasets", path=str(tmp_path / "set"))
    rows, drops = collect(data)
    assert [(row["image"]["bytes"], row["instruction"], row["split"]) for row in rows] == [
        (images[0], "a", "train"),
        (images[1], "b", "train"),
    ]
    assert not drops
    assert len(collect(data.model_copy(update={"split": "val"}))[0]) == 1
    with pytest.raises(InputError, match=r"no split 'test'; it has: train, val; set data\.split"):
        collect(data.model_copy(update={"split": "test"}))


def test_scenes_have_all_splits_and_alone_a_reference() -> None:
    data = DataSection(train_prompts=5, validation_prompts=2, test_prompts=9, limit=4)
    rows, _ = collect(data)
    assert Counter(row["split"] for row in rows) == {"train": 4, "validation": 2, "test": 4}
    assert all(json.loads(row["reference"])["objects"] for row in rows)
    assert rows == collect(data)[0], "the same scenes every time"


# --- the stage with the double -----------------------------------------------------------------------------------


def make_config(model: Path, data: DataSection, **generation: Any) -> Config:
    section = ModelSection(model=str(model), dtype="float32")
    sampling = GenerationSection(**{"num_responses": 3, "temperature": 1.0, "max_tokens": 8, **generation})
    engine = EngineSection(max_model_len=512, max_num_seqs=8)
    return Config(policy=section, labeler=section, data=data, generation=sampling, engine=engine)


def scripted(request: Request) -> list[str]:
    return [["one two", "cut off...", ""][index % 3] for index in range(request.n)]


SCENES = DataSection(train_prompts=5, test_prompts=2)


def test_responses_carry_all_that_made_them(
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
    assert "15 responses: 5 were cut off by max_tokens, 5 are empty" in printed and "next     make feedback" in printed


def test_truth_is_never_read_by_sampling(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns: set[str] = set()

    def spy(run: Run, table: str, names: list[str], **more: Any) -> Any:
        columns.update(names)
        return read_rows(run, table, names, **more)

    monkeypatch.setattr(generation.sampling, "read_rows", spy)
    generate(make_config(tiny_model, SCENES), tmp_path / "run", lambda *_: ScriptedEngine(scripted))
    assert columns == {"prompt_id", "image", "instruction"}


def test_a_stopped_stage_goes_on_and_ends_the_same(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation.sampling, "PROMPTS_AT_ONCE", 2)
    config = make_config(tiny_model, SCENES)
    generate(config, tmp_path / "whole", lambda *_: ScriptedEngine(scripted))
    asked = 0

    def stopping(request: Request) -> list[str]:
        nonlocal asked
        asked += 1
        if asked == 4:
            raise KeyboardInterrupt
        return scripted(request)

    with pytest.raises(KeyboardInterrupt):
        generate(config, tmp_path / "stopped", lambda *_: ScriptedEngine(stopping))
    double = ScriptedEngine(scripted)
    generate(config, tmp_path / "stopped", lambda *_: double)
    assert len(double.requests) == 3, "the first two prompts were on disk"
    assert double.descriptions[0] == "responses to prompts 3-4 of 5"
    for table in ("prompts", "responses"):
        whole, stopped = (list(read_rows(Run(tmp_path / name, config, "x"), table)) for name in ("whole", "stopped"))
        assert whole == stopped


def test_a_prompt_too_long_is_dropped_by_name(tiny_model: Path, tmp_path: Path) -> None:
    class Short(ScriptedEngine):
        def _complete(self, request: Request) -> list[Completion]:
            return (
                [Completion("", 0, PROMPT_TOO_LONG)]
                if len(self.requests[0].text) == len(request.text)
                else super()._complete(request)
            )

    config = make_config(tiny_model, DataSection(train_prompts=8, test_prompts=0))
    double = Short(scripted)
    generate(config, tmp_path / "run", lambda *_: double)
    run = Run(tmp_path / "run", config, "x")
    dropped = [row for row in read_rows(run, "dropped") if row["reason"] == PROMPT_TOO_LONG]
    answered = {row["prompt_id"] for row in read_rows(run, "responses")}
    assert dropped and len(dropped) + len(answered) == 8
    assert not answered & {row["row_id"] for row in dropped}


def test_done_is_done_and_other_settings_are_refused(tiny_model: Path, tmp_path: Path, instructions: str) -> None:
    write_files(tmp_path / "photos", {"1.png": encoded(photo(40, 40), "PNG")})
    config = make_config(tiny_model, folder_data(tmp_path / "photos", instructions))
    generate(config, tmp_path / "run", lambda *_: ScriptedEngine(scripted))
    generate(config, tmp_path / "run", lambda *_: pytest.fail("nothing is left to ask"))
    hotter = make_config(tiny_model, config.data, temperature=0.9)
    with pytest.raises(RunMismatchError, match=r"generation\.temperature: 1\.0 -> 0\.9"):
        generate(hotter, tmp_path / "run", lambda *_: ScriptedEngine(scripted))
    write_files(tmp_path / "photos", {"2.png": encoded(photo(50, 40), "PNG")})
    with pytest.raises(RunMismatchError, match=r"data\.files_digest"):
        generate(config, tmp_path / "run", lambda *_: ScriptedEngine(scripted))


def test_every_image_broken_is_an_error(tiny_model: Path, tmp_path: Path, instructions: str) -> None:
    write_files(tmp_path / "photos", {"1.png": b"x", "2.png": b"y"})
    config = make_config(tiny_model, folder_data(tmp_path / "photos", instructions))
    with pytest.raises(InputError, match=r"no prompt in .*photos can be used \(2 unreadable_image\)"):
        generate(config, tmp_path / "run", lambda *_: ScriptedEngine(scripted))


# --- the command line --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "folder", "path": "nowhere"}, "no folder nowhere; data.path names a folder"),
        ({"source": "folder", "path": "ask.txt"}, "no folder ask.txt (it is a file); data.path names a folder"),
        ({"source": "folder", "path": "empty"}, "no images in empty; data.path names a folder with jpeg, png, webp"),
        ({"source": "folder", "path": "photos", "instructions": "no.txt"}, "no instructions file no.txt;"),
        (
            {"source": "folder", "path": "photos", "instructions": "blank.txt"},
            "no instructions in blank.txt; write one",
        ),
        ({"source": "folder", "path": "photos", "instructions": "photos/1.png"}, "photos/1.png is not UTF-8 text"),
        ({"source": "parquet", "path": "no.parquet"}, "no parquet file at no.parquet; data.path names a .parquet file"),
        ({"source": "parquet", "path": "photos"}, "no parquet file at photos;"),
        ({"source": "parquet", "path": "ask.txt"}, "ask.txt is not a parquet file"),
        (
            {"source": "parquet", "path": "d.parquet", "question_column": "ask"},
            "d.parquet has no column 'image'; it has: id, pic, ask; set data.image_column",
        ),
        (
            {"source": "parquet", "path": "d.parquet", "image_column": "pic"},
            "d.parquet has no column 'question'; it has: id, pic, ask; set data.question_column",
        ),
        (
            {"source": "parquet", "path": "d.parquet", "image_column": "id", "question_column": "ask"},
            "column 'id' holds int64; allowed: bytes, struct<bytes, path>, or path",
        ),
        (
            {"source": "parquet", "path": "d.parquet", "image_column": "pic", "question_column": "id"},
            "column 'id' holds int64; allowed: text; set data.question_column",
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


def test_greedy_responses_are_not_asked_for_many_times(tiny_model: Path, tmp_path: Path, capsys: Any) -> None:
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
    assert "greedy responses are all the same" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# --- for real ----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_photographs_to_responses_for_real(tiny_model: Path, tmp_path: Path, instructions: str) -> None:
    """vLLM answers every kind of photograph, and nothing is put aside."""
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
