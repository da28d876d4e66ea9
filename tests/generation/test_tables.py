"""Tables of others as prompts: JSON in the layouts of LLaVA and MiniCPM-V, CSV, every Arrow type, marks, drops."""

import csv
import json
from base64 import b64encode
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from generation.prompts import build_prompts
from generation.sources import read_pictures
from rlaif.config import DataSection
from rlaif.errors import InputError
from tests.support.photographs import collect, good_image, write_files

NAMES = [f"{index}.png" for index in range(3)]
QUESTIONS = ["What is it?", "How many?", "\u8fd9\u662f\u4ec0\u4e48\uff1f"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path / "photos", {name: good_image(index) for index, name in enumerate(NAMES)})
    return tmp_path / "photos"


def table(path: Path, **settings: Any) -> DataSection:
    return DataSection(source="table", path=str(path), **settings)


def write_json(file: Path, rows: list[Any]) -> Path:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = "\n".join(lines) if file.suffix == ".jsonl" else f"[{', '.join(lines)}]"
    file.write_text(text, encoding="utf-8")
    return file


def llava(name: Any, question: str, **more: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": "An answer."}]
    return {"id": question, "image": name, "conversations": turns, **more}


def minicpm(name: str, question: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": f"<image>\n{question}"}, {"role": "assistant", "content": "An answer."}]
    return {"id": question, "image": name, "conversations": turns}


def several(name: str, question: str) -> dict[str, Any]:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"<image_00>\n{question}"}]
    return {"image": {"<image_00>": name}, "conversations": turns}


def parts(name: str, question: str) -> dict[str, Any]:
    content = [{"type": "image"}, {"type": "text", "text": question}]
    return {"images": [{"bytes": None, "path": name}], "messages": [{"role": "user", "content": content}]}


def endpoint(name: str, question: str) -> dict[str, Any]:
    content = [{"type": "image_url", "image_url": {"url": name}}, {"type": "text", "text": question}]
    return {"messages": [{"role": "user", "content": content}]}


def plain(name: str, question: str) -> dict[str, Any]:
    return {"image": name, "question": question}


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
@pytest.mark.parametrize("layout", [plain, llava, minicpm, several, parts, endpoint])
def test_every_layout_gives_the_same_prompts(folder: Path, layout: Any, suffix: str) -> None:
    rows = [layout(name, question) for name, question in zip(NAMES, QUESTIONS, strict=True)]
    file = folder / f"data{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        write_json(file, rows)
    prompts, drops = collect(table(file))
    assert [(row["image"]["bytes"], row["instruction"]) for row in prompts] == [
        (good_image(index), question) for index, question in enumerate(QUESTIONS)
    ]
    assert [row["image"]["path"] for row in prompts] == NAMES and not drops
    assert {(row["source"], row["split"], row["reference"]) for row in prompts} == {("table", "train", None)}


def test_csv_with_an_image_folder(folder: Path, tmp_path: Path) -> None:
    with (tmp_path / "data.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([("question", "image"), *zip(QUESTIONS, NAMES, strict=True)])
    prompts, drops = collect(table(tmp_path / "data.csv", image_folder=str(folder)))
    assert [row["instruction"] for row in prompts] == QUESTIONS and not drops
    prompts, drops = collect(table(tmp_path / "data.csv"))
    assert not prompts and {reason for _, reason, _ in drops} == {"missing_image"}


def test_conversations_in_csv_are_json(folder: Path) -> None:
    """A cell of CSV is a text: a conversation in it is read as JSON, and never asked literally."""
    turns = llava(NAMES[0], "What is it?")["conversations"]
    with (folder / "d.csv").open("w", newline="") as file:
        rows = [(NAMES[0], json.dumps(turns)), (NAMES[1], str(turns)), (NAMES[2], '[{"from": "human"}]')]
        csv.writer(file).writerows([("image", "conversations"), *rows])
    prompts, drops = collect(table(folder / "d.csv"))
    assert [row["instruction"] for row in prompts] == ["What is it?"]
    assert [(row_id, reason) for row_id, reason, _ in drops] == [("d.csv:1", "unfit_row"), ("d.csv:2", "unfit_row")]


def test_each_row_is_dropped_for_what_it_is(folder: Path) -> None:
    url = f"data:image/png;base64,{b64encode(good_image(7)).decode()}"
    text_only = {"id": "1", "conversations": [{"from": "human", "value": "Write a poem."}]}
    no_user = {"image": NAMES[0], "conversations": [{"from": "gpt", "value": "Hello."}]}
    unfit = {"image": NAMES[0], "conversations": [{"from": "human", "value": 3}]}
    broken = {"image": NAMES[0], "conversations": [{"role": "user", "content": "x\ud800"}]}
    rows = [
        llava(NAMES[0], "first"),
        text_only,
        llava([], "no image"),
        llava([NAMES[0], NAMES[1]], "two images"),
        llava(NAMES[0], "two marks: <image>"),
        llava([NAMES[1]], "a list of one"),
        llava("gone.png", "no such file"),
        llava("..\\..\\etc\\passwd", "outside"),
        llava(f"..\\photos\\{NAMES[2]}", "a path of Windows"),
        llava(url, "a data URL"),
        llava("https://images.example/a.png", "a web URL"),
        llava(5, "a number"),
        no_user,
        unfit,
        "a text",
        llava(NAMES[0], ""),
        llava(NAMES[0], "first"),
        llava(NAMES[0], "last"),
    ]
    file = write_json(folder / "data.json", rows)
    file.write_text(file.read_text()[:-1] + ", " + json.dumps(broken) + "]")
    prompts, drops = collect(table(file))
    assert [row["instruction"] for row in prompts] == [
        "first",
        "a list of one",
        "a path of Windows",
        "a data URL",
        "last",
    ]
    assert prompts[3]["image"] == {"bytes": good_image(7), "path": "data.json:9"}
    assert [(row_id.removeprefix("data.json:"), reason) for row_id, reason, _ in drops] == [
        ("1", "no_image"),
        ("2", "no_image"),
        ("3", "several_images"),
        ("4", "several_images"),
        ("6", "missing_image"),
        ("7", "image_outside_folder"),
        ("10", "url_not_allowed"),
        ("11", "unfit_row"),
        ("12", "missing_instruction"),
        ("13", "unfit_row"),
        ("14", "unfit_row"),
        ("15", "missing_instruction"),
        ("18", "broken_text"),
        (prompts[0]["prompt_id"], "duplicate_prompt"),
    ]
    details = {row_id.removeprefix("data.json:"): detail for row_id, _, detail in drops}
    assert details["1"] == "the row has no image: it is text only"
    assert details["3"] == "data.json, line 1: the row has 2 images, expected one"
    assert details["4"] == "data.json, line 1: the question has 2 image marks, expected one"
    assert details["14"] == "data.json, line 1: a row is str, expected an object"


def test_cells_that_are_nested_too_deeply_are_dropped(folder: Path) -> None:
    deep, turns = "[" * 700 + "1" + "]" * 700, '[{"from": ' + "[" * 9999
    rows = [f'{{"image": {deep}, "question": "a"}}', f'{{"image": "0.png", "question": {deep}}}']
    rows += [json.dumps(plain(NAMES[0], turns)), json.dumps(plain(NAMES[1], "good"))]
    (folder / "d.jsonl").write_text("\n".join(rows))
    prompts, drops = collect(table(folder / "d.jsonl"))
    assert [row["instruction"] for row in prompts] == ["good"]
    assert [reason for _, reason, _ in drops] == ["unfit_row"] * 3


def test_marks_are_counted_in_every_source(folder: Path) -> None:
    def counts(data: DataSection) -> tuple[list[str], Counter[str]]:
        tally: Counter[str] = Counter()
        rows = build_prompts(read_pictures(data, 0), data, (), lambda *_: None, tally=tally)
        return [row["instruction"] for row in rows], tally

    (folder / "ask.txt").write_text("<image> Describe it.\nWhat is <img>?\n")
    instructions, tally = counts(DataSection(source="folder", path=str(folder), instructions=str(folder / "ask.txt")))
    assert instructions == ["Describe it.", "What is <img>?"] * 3 and tally == {"marked": 3, "repeated": 0}
    write_json(folder / "d.json", [plain(NAMES[0], "a"), plain(NAMES[1], "<image>\nb"), plain(NAMES[2], "c <image>")])
    assert counts(table(folder / "d.json")) == (["a", "b", "c"], Counter(marked=2, repeated=0))
    write_json(folder / "d.json", [llava(NAMES[0], "a"), *[llava(NAMES[1], "b")] * 5])
    assert counts(table(folder / "d.json")) == (["a", "b"], Counter(marked=6, repeated=4))
    write_json(folder / "d.json", [parts(NAMES[2], "c")])
    assert counts(table(folder / "d.json")) == (["c"], Counter(marked=0, repeated=0))


def test_a_prompt_with_many_repetitions_is_one_drop(folder: Path) -> None:
    write_json(folder / "d.jsonl", [plain(NAMES[index % 2], "a") for index in range(300)])
    prompts, drops = collect(table(folder / "d.jsonl"))
    assert len(prompts) == 2 and drops == [
        (
            prompts[0]["prompt_id"],
            "duplicate_prompt",
            "d.jsonl:2: repeats an earlier image and instruction, and so do 148 later rows",
        ),
        (
            prompts[1]["prompt_id"],
            "duplicate_prompt",
            "d.jsonl:3: repeats an earlier image and instruction, and so do 148 later rows",
        ),
    ]


STRUCT = pa.struct([("bytes", pa.binary())])


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_binary(),
        pa.binary_view(),
        pa.binary(len(good_image(1))),
        pa.dictionary(pa.int8(), pa.binary()),
        STRUCT,
        pa.list_(STRUCT),
        pa.large_list(STRUCT),
        pa.list_view(STRUCT),
        pa.list_(STRUCT, 1),
        pa.string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.list_(pa.string()),
        pa.struct([("path", pa.large_string())]),
    ],
    ids=str,
)
def test_images_of_every_arrow_type(folder: Path, kind: pa.DataType) -> None:
    content: Any = NAMES[1] if "string" in str(kind) else good_image(1)
    if "struct" in str(kind):
        content = {"path" if "string" in str(kind) else "bytes": content}
    cells = [content, None, content]
    cells = [None if cell is None else [cell] for cell in cells] if "list" in str(kind) else cells
    array = pa.array(cells, kind.value_type).cast(kind) if pa.types.is_dictionary(kind) else pa.array(cells, kind)
    pq.write_table(pa.table({"image": array, "question": ["a", "b", "c"]}), folder / "d.parquet")
    prompts, drops = collect(table(folder / "d.parquet"))
    assert [(row["image"]["bytes"], row["instruction"]) for row in prompts] == [
        (good_image(1), "a"),
        (good_image(1), "c"),
    ]
    assert [(row_id, reason) for row_id, reason, _ in drops] == [("d.parquet:1", "no_image")]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_questions_of_every_arrow_type(folder: Path, kind: pa.DataType) -> None:
    questions = pa.array([*QUESTIONS[:2], None]).cast(kind)
    pq.write_table(pa.table({"image": NAMES, "question": questions}), folder / "d.parquet")
    prompts, drops = collect(table(folder / "d.parquet"))
    assert [row["instruction"] for row in prompts] == QUESTIONS[:2]
    assert [(row_id, reason) for row_id, reason, _ in drops] == [("d.parquet:2", "missing_instruction")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "d.json",
            '[\n{"image": "0.png",\n "question": "a',
            "ends in line 3 within its JSON: it was cut short; copy or",
        ),
        ("d.json", '[{"image": "0.png"}\n\u3011', "d.json, line 2 is not valid JSON: found '\u3011' where ',' or"),
        (
            "d.jsonl",
            '{"pic": 1, "q": 2}\n',
            "no column 'question' or 'conversations' or 'messages'; it has: pic, q; set",
        ),
        ("d.json", '[{"pic": 1, "question": "a"}]', "no column 'image' or 'images'; it has: pic, question; set"),
        ("d.csv", "0.png,What?\n", "it has: 0.png, What.; set data.question_column, or give the file a header line"),
        ("d.csv", 'image,question\n0.png,"What\n', "d.csv, line 2: unexpected end of data; expected CSV in which"),
        ("d.txt", "", r"d.txt has an unknown suffix; expected \.parquet, \.json, .*, \.csv, \.tsv; rename it"),
    ],
)
def test_bad_files_are_one_clear_line(folder: Path, name: str, content: str, message: str) -> None:
    (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message) as error:
        collect(table(folder / name))
    assert "\n" not in str(error.value)


def test_a_column_of_nulls_and_unknown_columns(folder: Path) -> None:
    pq.write_table(pa.table({"image": pa.nulls(2), "question": ["a", "b"], "n": [1, 2]}), folder / "d.parquet")
    for settings, message in (
        ({}, r"column 'image' is null in every row; expected bytes, .*; set data\.image_column"),
        ({"image_column": "img"}, r"no column 'img'; it has: image, question, n; set data\.image_column"),
        ({"question_column": "n"}, r"column 'image' is null in every row"),
        (
            {"image_column": "question", "question_column": "n"},
            r"column 'n' has type int64; expected text or turns; set data\.q",
        ),
        ({"image_column": "n"}, r"column 'n' has type int64; expected bytes, .*; set data\.image_column"),
    ):
        with pytest.raises(InputError, match=message):
            collect(table(folder / "d.parquet", **settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "table"}, "needs data.path"),
        ({"source": "table", "path": "x", "config_name": "y"}, "config_name is set, but source 'table' has none"),
        ({"source": "parquet", "path": "x", "streaming": False}, "streaming is set, but source 'parquet' has none"),
        ({"source": "folder", "path": "x", "image_folder": "y"}, "image_folder is set, but source 'folder' has none"),
    ],
)
def test_settings_that_do_not_fit_the_source(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataSection(**settings)


def test_a_limit_of_a_data_set_reads_no_more_shards_than_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty shards, of which only the first can be read: whoever opens another one fails."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"image": {"bytes": good_image(index), "path": None}, "question": "What?"} for index in range(30)]
    for index in range(50):
        write_files(tmp_path / "set", {f"train-{index:05d}-of-00050.parquet": b"PAR1"})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "set" / "train-00000-of-00050.parquet")
    data = DataSection(source="datasets", path=str(tmp_path / "set"))
    for settings in ({"limit": 10}, {"split": "train[:10]"}, {"limit": 10, "split": "train[:20]", "streaming": True}):
        prompts, drops = collect(data.model_copy(update=settings))
        assert [row["image"]["bytes"] for row in prompts] == [good_image(index) for index in range(10)] and not drops
    for settings in ({}, {"limit": 10, "streaming": False}, {"limit": 40}):
        with pytest.raises(InputError, match=r"cannot (load|read) data set"):
            collect(data.model_copy(update=settings))


def test_conversations_of_a_data_set_with_configurations(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
    configs = [{"config_name": name, "data_files": f"{name}.json"} for name in ("chart", "photo")]
    (folder / "README.md").write_text(f"---\n{json.dumps({'configs': configs})}\n---\n")
    write_json(folder / "chart.json", [llava(NAMES[0], "chart")])
    write_json(folder / "photo.json", [llava(NAMES[1], "photo"), llava(NAMES[2], "last")])
    data = DataSection(source="datasets", path=str(folder), config_name="photo")
    for split, expected in (("train", ["photo", "last"]), ("train[1:]", ["last"]), ("train[:50%]", ["photo"])):
        prompts, drops = collect(data.model_copy(update={"split": split}))
        assert [row["instruction"] for row in prompts] == expected and not drops
    with pytest.raises(InputError, match=r"one among the available configs: \['chart', 'photo'\].*data\.config_name"):
        collect(data.model_copy(update={"config_name": None}))
