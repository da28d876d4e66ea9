"""Where imported data comes from: the hub, a download of it, our own exports; and its license."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rlaif.config import Config
from rlaif.errors import InputError, RunMismatchError
from rlaif.interchange.importer.origin import Origin, local_origin
from rlaif.interchange.importer.stage import import_data
from rlaif.storage.files import read_json
from tests.support.exported_run import PAIRS, exported, labeled_run
from tests.support.published.layouts import write, write_lines


def config_of(data: Path | str, **values: Any) -> Config:
    section = {"source": "import", "path": str(data), **values}
    return Config.model_validate({"policy": {"model": "p"}, "labeler": {"model": "l"}, "data": section})


def texts(path: Path) -> list[tuple[str, ...]]:
    rows = pq.read_table(path / "pairs.parquet", columns=["prompt", "chosen", "rejected"]).to_pylist()
    return [tuple(row[column][0]["content"] for column in ("prompt", "chosen", "rejected")) for row in rows]


@pytest.mark.parametrize("kind", ["trl", "rlaif-v", "llama-factory", "ms-swift", "pairs"])
def test_our_own_exports_can_be_imported(tmp_path: Path, kind: str) -> None:
    """Apart from what an export drops and instructions with a mark, which is taken out."""
    run = labeled_run(tmp_path / "run")
    data = run / "pairs.parquet" if kind == "pairs" else exported(run, kind)
    if kind == "llama-factory":
        data = data / "train.jsonl"  # beside dataset_info.json
    import_data(config_of(data), tmp_path / "again")
    expected = [tuple(pair[column][0]["content"] for column in ("prompt", "chosen", "rejected")) for pair in PAIRS]
    kept = {"llama-factory": expected[:2], "ms-swift": expected[:2]}.get(kind, expected)
    assert sorted(texts(tmp_path / "again")) == sorted(
        (question.replace("<image> ", ""), chosen, rejected) for question, chosen, rejected in kept
    )


def test_the_license_is_that_of_the_card_or_of_a_published_data_set(tmp_path: Path) -> None:
    for folder, card, expected in (
        ("a", "---\nlicense: cc-by-4.0\n---\n# Card\n", "cc-by-4.0"),
        ("b", "---\nlicense: other\nlicense_name: mine-1.0\n---\n", "mine-1.0"),
        ("c", "---\nlicense: [mit, cc0-1.0]\n---\n", "mit, cc0-1.0"),
        ("d", "# No front matter\n", "not stated"),
        ("e", None, "not stated"),
        ("RLAIF-V-Dataset", None, "cc-by-nc-4.0"),
    ):
        data = write(tmp_path / folder, "rlaif-v")
        if card is not None:
            (data.parent / "README.md").write_text(card)
        hub_id = {"RLAIF-V-Dataset": "openbmb/RLAIF-V-Dataset"}.get(folder)
        assert local_origin(data) == Origin(f"{hub_id}: data.parquet" if hub_id else "data.parquet", None, expected)
        assert local_origin(data.parent) == Origin(hub_id or folder, None, expected)
    cached = write(tmp_path / "datasets--openbmb--RLHF-V-Dataset" / "snapshots" / "abc", "rlhf-v")
    assert local_origin(cached) == Origin("openbmb/RLHF-V-Dataset: data.parquet", None, "cc-by-nc-4.0")
    (tmp_path / "a" / "README.md").write_text("---\nlicense: [a\n---\n")
    with pytest.raises(InputError, match=r"README.md has damaged front matter .*; correct it"):
        local_origin(tmp_path / "a")


def test_mmpr_is_read_from_its_folder_too_and_named_by_it(tmp_path: Path) -> None:
    data = write(tmp_path, "mmpr").parent
    import_data(config_of(data), tmp_path / "run")
    figures = read_json(tmp_path / "run" / "metrics.json")["import"]
    assert (figures["name"], figures["license"], figures["layout"]) == ("OpenGVLab/MMPR-v1.2", "mit", "mmpr")
    text_only = {"question": "What is 2 + 2?", "chosen": "4", "rejected": "5"}
    write_lines(data / "annotations" / "m3cot_extra.jsonl", [text_only])
    import_data(config_of(data), tmp_path / "partly")
    assert len(texts(tmp_path / "partly")) == 1
    (dropped,) = pq.read_table(tmp_path / "partly" / "dropped.parquet").to_pylist()
    assert (dropped["row_id"], dropped["reason"]) == ("m3cot_extra.jsonl:0", "no_image")
    (tmp_path / "elsewhere").mkdir()
    (data / "images").rename(tmp_path / "elsewhere" / "images")
    import_data(config_of(data, image_folder=str(tmp_path / "elsewhere")), tmp_path / "moved")
    assert texts(tmp_path / "moved") == texts(tmp_path / "partly")
    (data / "annotations" / "m3cot_extra.jsonl").unlink()
    with pytest.raises(InputError, match=r"names the file MMPR-v1.2/annotations/m3cot_extra.jsonl, which is not"):
        import_data(config_of(data), tmp_path / "other")


def test_the_tables_of_another_stage_are_never_overwritten(tmp_path: Path) -> None:
    run = labeled_run(tmp_path / "run")
    before = {file.name: file.read_bytes() for file in run.glob("*.parquet")}
    with pytest.raises(RunMismatchError, match=r"prompts.parquet was made with other settings .* use another RUN="):
        import_data(config_of(write(tmp_path / "data", "rlaif-v")), run)
    assert {file.name: file.read_bytes() for file in run.glob("*.parquet")} == before


def test_files_of_two_layouts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "both").mkdir()
    for layout in ("rlaif-v", "rlhf-v"):
        write(tmp_path / layout, layout).rename(tmp_path / "both" / f"{layout}.parquet")
    with pytest.raises(InputError, match=r"has the layout rlhf-v, but .*rlaif-v.parquet has rlaif-v; import"):
        import_data(config_of(tmp_path / "both"), tmp_path / "run")


def test_a_hub_data_set_is_pinned_and_its_card_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub and the loader of `datasets` are replaced: the id becomes a folder of parquet files."""
    import datasets

    commit, folder = "ab" * 20, write(tmp_path / "hub", "messages").parent
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    calls: list[Any] = []

    def load(path: str, *args: Any, revision: str | None = None, **settings: Any) -> Any:
        calls.append((path, revision))
        return original(str(folder), *args, **settings)

    original = datasets.load_dataset
    monkeypatch.setattr("datasets.load_dataset", load)
    monkeypatch.setattr("rlaif.interchange.importer.origin.hub_commit", lambda *_: commit)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: str(folder / "README.md"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    import_data(config_of("owner/name"), tmp_path / "run")
    assert len(texts(tmp_path / "run")) == 3 and set(calls) == {("owner/name", commit)}
    figures = read_json(tmp_path / "run" / "metrics.json")["import"]
    assert (figures["name"], figures["revision"], figures["license"]) == ("owner/name", commit, "cc-by-nc-4.0")


def test_data_that_is_nowhere_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr("rlaif.interchange.importer.origin.hub_commit", offline)
    with pytest.raises(InputError, match=r"cannot load data set no/where: neither a file or folder here nor .*correct"):
        import_data(config_of("no/where"), tmp_path / "run")
