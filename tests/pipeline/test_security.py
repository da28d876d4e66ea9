"""Hostile tables and models: paths, code, weights, revisions, secrets."""

import ast
import json
import math
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from feedback.stage import feedback
from generation.sources import pin_data
from generation.stage import generate
from rlaif.config import Config, DataSection, FeedbackSection, ModelSection
from rlaif.errors import InputError, ModelError
from rlaif.inference.engine import Request
from rlaif.inference.revision import model_revision, pin_model
from rlaif.report.page import report
from rlaif.sources.images import MAX_FILE_BYTES
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
from rlaif.storage.versions import PACKAGES
from tests.support import EMBEDDED_PROMPTS, ROOT
from tests.support.doubles import ScriptedEngine
from tests.support.photographs import collect, encoded, folder_data, parquet_file, photo, write_files
from tests.support.synthetic_run import model_folder

PNG = encoded(photo(40, 40), "PNG")
SECRET = "hf_thisIsASecretThatNobodyMaySee"


# --- paths --------------------------------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder outside the source, with an image."""
    write_files(tmp_path / "private", {"secret.png": encoded(photo(50, 50), "PNG")})
    return tmp_path / "private"


def test_links_in_a_folder_do_not_leave_it(tmp_path: Path, outside: Path, instructions: str) -> None:
    folder = tmp_path / "photos"
    write_files(folder, {"a.png": PNG, "deep/b.png": encoded(photo(41, 40), "PNG")})
    (folder / "file.png").symlink_to(outside / "secret.png")
    (folder / "relative.png").symlink_to("../private/secret.png")
    (folder / "folder").symlink_to(outside)
    (folder / "inside.png").symlink_to(folder / "deep" / "b.png")
    rows, drops = collect(folder_data(folder, instructions))
    assert [row["image"]["path"] for row in rows[::2]] == ["a.png", "deep/b.png"]
    assert {(row_id, reason) for row_id, reason, _ in drops if reason != "duplicate_prompt"} == {
        ("file.png", "image_outside_folder"),
        ("relative.png", "image_outside_folder"),
    }
    assert {detail.partition(":")[0] for _, reason, detail in drops if reason == "duplicate_prompt"} == {"inside.png"}


def test_the_folder_itself_may_be_a_link(tmp_path: Path, instructions: str) -> None:
    write_files(tmp_path / "photos", {"a.png": PNG})
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    rows, drops = collect(folder_data(tmp_path / "link", instructions))
    assert len(rows) == 2 and not drops


def paths_of(tmp_path: Path, outside: Path) -> dict[str, str]:
    """Paths in a table in tmp_path/data/tables -> reason of the drop if tmp_path/data is the source; empty: kept."""
    (tmp_path / "data" / "circle").symlink_to("circle")
    (tmp_path / "data" / "tables" / "link.png").symlink_to(outside / "secret.png")
    os.mkfifo(tmp_path / "data" / "tables" / "pipe")
    with (tmp_path / "data" / "tables" / "big.png").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    return {
        "a.png": "",
        "../pictures/b.png": "",
        str(tmp_path / "data" / "pictures" / "c.png"): "",
        "link.png": "image_outside_folder",
        str(outside / "secret.png"): "image_outside_folder",
        "../../private/secret.png": "image_outside_folder",
        "../pictures/../../private/secret.png": "image_outside_folder",
        "/etc/passwd": "image_outside_folder",
        "/dev/zero": "image_outside_folder",
        "/proc/self/environ": "image_outside_folder",
        "~/.ssh/id_rsa": "missing_image",
        "pipe": "missing_image",
        "big.png": "image_too_large",
        ".": "missing_image",
        "gone.png": "missing_image",
        "../circle": "missing_image",
        "a\0.png": "missing_image",
        "x" * 5000: "missing_image",
        "data:image/png;base64,AAAA": "unreadable_image",
        "data:image/png;base64,A*": "broken_image",
        "..\\..\\private\\secret.png": "image_outside_folder",
        "file:///etc/passwd": "url_not_allowed",
        "ftp://127.0.0.1/a.png": "url_not_allowed",
        "HTTP://127.0.0.1/a.png": "url_not_allowed",
    }


def test_paths_in_a_table_do_not_leave_the_source(tmp_path: Path, outside: Path) -> None:
    write_files(tmp_path / "data", {"tables/a.png": PNG, "pictures/b.png": encoded(photo(42, 40), "PNG")})
    write_files(tmp_path / "data", {"pictures/c.png": encoded(photo(43, 40), "PNG")})
    expected = paths_of(tmp_path, outside)
    names = list(expected)
    cells = pa.array(
        [{"bytes": None, "path": name} for name in names], pa.struct({"bytes": pa.binary(), "path": pa.string()})
    )
    for images in (pa.array(names), cells):
        data = parquet_file(tmp_path / "data" / "tables", images, ["q"] * len(names))
        rows, drops = collect(data.model_copy(update={"path": str(tmp_path / "data")}))
        reasons = {int(row_id.rpartition(":")[2]): reason for row_id, reason, _ in drops}
        assert {name: reasons.get(index, "") for index, name in enumerate(names)} == expected
        assert len(rows) == 3
        alone, drops = collect(data)  # the source is the file: only its folder is allowed
        assert len(alone) == 1 and sum(reason == "image_outside_folder" for _, reason, _ in drops) == 10


# --- code, weights, revisions -------------------------------------------------------------------------------------

SOURCES = sorted(path for package in (*PACKAGES, "bench") for path in (ROOT / package).rglob("*.py"))
CODE_EXECUTION = {"eval", "exec", "compile", "__import__"}
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_remote_code_and_no_pickles(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
            assert not {name.split(".")[0] for name in names} & PICKLES, node.lineno
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert called not in CODE_EXECUTION and called not in ("torch.load", "numpy.load"), node.lineno
        if called == "np.load":
            assert given["allow_pickle"] == "False", node.lineno
        assert given.get("trust_remote_code", "False") == "False", node.lineno
        assert given.get("shell", "False") == "False", node.lineno
        if called.startswith("Auto") and called.endswith(".from_pretrained"):
            assert "trust_remote_code" in given, f"line {node.lineno}: transformers would ask the user"
        if called == "PeftModel.from_pretrained":
            continue  # takes safetensors where there are any, and a stage reads the adapter that it has just written
        if called.endswith("Model.from_pretrained") or ("AutoModel" in called and called.endswith(".from_pretrained")):
            assert given["use_safetensors"] == "True", node.lineno
        if called == "yaml.load":
            assert given["Loader"] == "_Loader", "a SafeLoader"


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", "x")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"it has no \*\.safetensors; convert its weights"):
        model_revision(ModelSection(model=str(folder)))


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """A hub where every revision is at COMMIT; returns the list of requests to it."""
    requests: list[tuple[str, str | None]] = []

    def snapshot_download(name: str, *, repo_type: str, revision: str | None, allow_patterns: list[str]) -> str:
        requests.append((name, revision))
        return f"/cache/snapshots/{COMMIT}"

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return requests


@pytest.mark.parametrize("revision", [None, "main", "v1.0"])
def test_a_hub_model_is_pinned_to_the_commit_that_is_recorded(
    revision: str | None, hub: list[Any], tmp_path: Path, instructions: str
) -> None:
    section = ModelSection(model="owner/name", revision=revision)
    pinned, recorded = pin_model(section)
    assert pinned.revision == recorded == COMMIT and hub == [("owner/name", revision)]
    assert model_revision(pinned) == COMMIT and len(hub) == 1, "a commit is not looked up again"

    write_files(tmp_path / "photos", {"1.png": PNG})
    data = folder_data(tmp_path / "photos", instructions)
    config = Config(policy=section, labeler=section, data=data, feedback=FeedbackSection(prompts=EMBEDDED_PROMPTS))
    opened: list[ModelSection] = []

    def open_engine(model: ModelSection, *_: Any) -> ScriptedEngine:
        opened.append(model)
        return ScriptedEngine(lambda request: [f"{index}" for index in range(request.n)])

    generate(config, tmp_path / "run", open_engine)
    feedback(config, tmp_path / "run", lambda model, *_: open_engine(model))
    assert [model.revision for model in opened] == [COMMIT] * 2
    run = Run(tmp_path / "run", config, "x")
    assert {row["policy_revision"] for row in read_rows(run, "responses")} == {COMMIT}


def test_a_hub_data_set_is_pinned_too(hub: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = DataSection(source="datasets", path="owner/data", revision="main")
    commit = pin_data(data)
    assert commit.revision == COMMIT and pin_data(commit) == commit and hub == [("owner/data", "main")]
    local = DataSection(source="datasets", path=str(tmp_path))
    assert pin_data(local) == local and pin_data(DataSection()) == DataSection()

    def no_network(*_: Any, **__: Any) -> str:
        raise OSError

    monkeypatch.setattr("huggingface_hub.snapshot_download", no_network)
    with pytest.raises(InputError, match="owner/data: neither a local folder nor a data set on the hub"):
        pin_data(data)


# --- secrets, the page --------------------------------------------------------------------------------------------

MARKUP = '<script>alert(1)</script><img src=x onerror="alert(2)">\'"&'


def test_secrets_of_the_environment_and_of_urls_are_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, SECRET)
    url = f"https://me:{SECRET}@pictures.example/a.png?X-Amz-Signature={SECRET}"
    cells = [{"bytes": PNG, "path": url}, {"bytes": None, "path": url}, {"bytes": b"x", "path": url}]
    images = pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    data = parquet_file(tmp_path / "data", images, ["q", "q", "q"])
    model = {"model": str(model_folder(tmp_path / "model", "m"))}
    config = Config.model_validate(
        {
            "policy": model,
            "labeler": model,
            "data": data,
            "generation": {"num_responses": 2},
            "feedback": {"prompts": EMBEDDED_PROMPTS},
        }
    )
    path = tmp_path / MARKUP.replace("/", "")
    generate(config, path, lambda *_: ScriptedEngine(lambda request: [f"There is a {MARKUP}.", "There is a dog."]))
    feedback(config, path, lambda *_: ScriptedEngine(two_claims))
    page = report(config, path).read_text(encoding="utf-8")
    assert MARKUP not in page and "<script" not in page and "onerror=" not in page.replace("onerror=&#34;", "")
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
    files = [file for file in path.rglob("*") if file.is_file()]
    assert len(files) > 5
    for file in files:
        assert SECRET.encode() not in file.read_bytes(), file.name
    for table in ("prompts", "dropped", "pairs"):
        assert SECRET not in str(list(read_rows(Run(path, config, "x"), table)))


def two_claims(request: Request) -> list[str] | dict[int, float]:
    if request.json_schema is None:
        return {1: math.log(0.4), 2: math.log(0.4), 3: math.log(0.1), 4: -math.inf}
    response = request.text.partition("Text: ")[2]
    if "dog" in response:
        return [json.dumps({"claims": [{"claim": response, "question": "Is there a dog?"}]})]
    return [json.dumps({"claims": [{"claim": response, "question": f"Is {response}?"}] * 2})]
