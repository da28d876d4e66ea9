"""Run folders: outputs bound to settings, resume, drops, metrics, locks."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rlaif.config import Config, ModelSection
from rlaif.errors import InputError, RunMismatchError
from rlaif.storage.files import lock_until_exit
from rlaif.storage.run import Run
from rlaif.storage.tables import read_metadata, read_rows
from rlaif.storage.versions import STAGE_VERSIONS
from rlaif.storage.writer import TableWriter
from tests.support import ROOT

CONFIG = Config(policy=ModelSection(model="a"), labeler=ModelSection(model="b"))
SETTINGS = {"generation": {"temperature": 0.7, "num_responses": 4}}


def generation(path: Path) -> Run:
    return Run(path, CONFIG, "generation")


def write_prompts(run: Run, count: int = 1) -> None:
    with TableWriter(run, "prompts", key="prompt_id") as writer:
        writer.write(
            {
                "prompt_id": f"p{index}",
                "image": {"bytes": b"", "path": "x.png"},
                "image_sha256": "0",
                "instruction": "Describe it.",
                "source": "scenes",
                "split": "train",
                "reference": None,
            }
            for index in range(count)
        )


def finish_generation(path: Path, settings: dict[str, Any] = SETTINGS, count: int = 1) -> Run:
    run = generation(path)
    assert run.begin(["prompts"], settings, inputs=[])
    write_prompts(run, count)
    run.finish({"prompts": count}, "make feedback")
    return run


def test_a_finished_stage_has_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish_generation(tmp_path / "run")
    capsys.readouterr()
    assert not generation(tmp_path / "run").begin(["prompts"], SETTINGS, inputs=[])
    assert capsys.readouterr().out == (
        f"generation: nothing to do; {tmp_path}/run has prompts, made with these settings\n"
    )


def test_an_interrupted_stage_resumes(tmp_path: Path) -> None:
    run = generation(tmp_path / "run")
    run.begin(["prompts"], SETTINGS, inputs=[])
    write_prompts(run)  # killed before finish()
    assert generation(tmp_path / "run").begin(["prompts"], SETTINGS, inputs=[])


def test_other_settings_are_refused_and_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "run"
    finish_generation(path)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    other = {"generation": {"temperature": 1.0, "num_responses": 4}, "seed": 1}
    with pytest.raises(RunMismatchError) as caught:
        generation(path).begin(["prompts"], other, inputs=[])
    assert str(caught.value) == (
        f"{path}/generation.json was made with other settings (generation.temperature: 0.7 -> 1.0; seed: absent -> 1); "
        f"use another RUN=, or delete what generation wrote in {path} to start it over: prompts.parquet, "
        "generation.json"
    )
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def test_a_table_has_its_settings_if_the_marker_is_deleted(tmp_path: Path) -> None:
    path = tmp_path / "run"
    finish_generation(path)
    (path / "generation.json").unlink()
    with pytest.raises(RunMismatchError, match=r"prompts.parquet was made with other settings \(.*0.7 -> 1.0\)"):
        generation(path).begin(["prompts"], {"generation": {"temperature": 1.0, "num_responses": 4}}, inputs=[])
    assert generation(path).begin(["prompts"], SETTINGS, inputs=[])


def test_parts_of_an_interrupted_stage_are_bound_to_its_settings(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run = generation(path)
    run.begin(["prompts"], SETTINGS, inputs=[])
    (path / "prompts.parts").mkdir()
    with pytest.raises(RunMismatchError, match=r"generation.json was made with other settings \(seed: absent -> 2\)"):
        generation(path).begin(["prompts"], {**SETTINGS, "seed": 2}, inputs=[])


def test_a_marker_without_output_is_overwritten(tmp_path: Path) -> None:
    generation(tmp_path / "run").begin(["prompts"], SETTINGS, inputs=[])
    assert generation(tmp_path / "run").begin(["prompts"], {"seed": 2}, inputs=[])


def test_a_raised_stage_version_refuses_outputs_of_that_stage_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    finish_generation(path)
    version = STAGE_VERSIONS["feedback"]
    monkeypatch.setitem(STAGE_VERSIONS, "feedback", version + 1)
    assert not generation(path).begin(["prompts"], SETTINGS, inputs=[])
    feedback = Run(path, CONFIG, "feedback")
    assert feedback.begin(["scores"], {}, inputs=["prompts"])
    TableWriter(feedback, "scores", key="prompt_id").finish()
    assert read_metadata(feedback, "scores")["stage_version"] == version + 1
    monkeypatch.setitem(STAGE_VERSIONS, "feedback", version + 2)
    with pytest.raises(RunMismatchError, match=rf"\(stage_version: {version + 1} -> {version + 2}\)"):
        Run(path, CONFIG, "feedback").begin(["scores"], {}, inputs=["prompts"])
    with pytest.raises(AssertionError, match="stage 'feed' has no number in STAGE_VERSIONS"):
        Run(path, CONFIG, "feed").begin(["scores"], {}, inputs=["prompts"])


def test_inputs_are_part_of_the_identity(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    identities = []
    for path, settings in ((one, SETTINGS), (two, {"seed": 1})):
        finish_generation(path, settings)
        run = Run(path, CONFIG, "feedback")
        run.begin(["scores"], {}, inputs=["prompts"])
        identities.append(run.provenance("scores")["identity"])
        assert run.provenance("scores")["inputs"] == {"prompts": run.identity("prompts")}
    assert identities[0] != identities[1]


def test_an_input_rewritten_with_other_settings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    finish_generation(path)
    feedback = Run(path, CONFIG, "feedback")
    feedback.begin(["scores"], {}, inputs=["prompts"])
    TableWriter(feedback, "scores", key="prompt_id").finish()
    for name in ("prompts.parquet", "generation.json"):
        (path / name).unlink()
    finish_generation(path, {"seed": 1})
    with pytest.raises(RunMismatchError, match=r'\(input.prompts: "\w{16}" -> "\w{16}"\)'):
        Run(path, CONFIG, "feedback").begin(["scores"], {}, inputs=["prompts"])


def test_a_missing_input_names_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"prompts.parquet is missing; first run `make generate RUN=.*/run`"):
        Run(tmp_path / "run", CONFIG, "feedback").begin(["scores"], {}, inputs=["prompts"])
    assert not (tmp_path / "run").exists()
    with pytest.raises(
        InputError,
        match=r"policy is missing or unfinished; first run `make dpo RUN=.*/run` with the same CONFIG",
    ):
        Run(tmp_path / "run", CONFIG, "evaluate").begin(["evaluations"], {}, inputs=["policy"])


def test_an_output_can_be_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "run"
    dpo = Run(path, CONFIG, "dpo")
    assert dpo.begin(["policy"], {"beta": 0.1}, inputs=[])
    (path / "policy").mkdir()
    dpo.finish({}, None)
    assert not Run(path, CONFIG, "dpo").begin(["policy"], {"beta": 0.1}, inputs=[])
    assert len(Run(path, CONFIG, "evaluate").identity("policy")) == 16
    with pytest.raises(RunMismatchError, match=r"beta: 0.1 -> 0.2"):
        Run(path, CONFIG, "dpo").begin(["policy"], {"beta": 0.2}, inputs=[])
    (path / "dpo.json").unlink()
    with pytest.raises(RunMismatchError, match=r"policy exists, but .*dpo.json with its settings does not"):
        Run(path, CONFIG, "dpo").begin(["policy"], {"beta": 0.1}, inputs=[])


def test_drops_survive_a_kill_and_count_once(tmp_path: Path) -> None:
    path = tmp_path / "run"
    killed = generation(path)
    killed.begin(["prompts"], SETTINGS, inputs=[])
    killed.drop("a", "broken_image", "a.png")
    killed.drop("b", "too_small")
    with (path / "generation.dropped.jsonl").open("a") as file:
        file.write('["c", "broken')  # cut short by the kill
    TableWriter(killed, "prompts", key="prompt_id").finish()

    run = generation(path)
    run.begin(["prompts"], SETTINGS, inputs=[])
    run.drop("a", "broken_image", "a.png")
    run.drop("c", "broken_image", "\udcff.png")
    run.finish({"prompts": 0}, None)
    assert list(read_rows(run, "dropped")) == [
        {"stage": "generation", "row_id": "a", "reason": "broken_image", "detail": "a.png"},
        {"stage": "generation", "row_id": "b", "reason": "too_small", "detail": ""},
        {"stage": "generation", "row_id": "c", "reason": "broken_image", "detail": "\\udcff.png"},
    ]
    assert not (path / "generation.dropped.jsonl").exists()


def test_many_drops_are_written_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlaif.storage.writer.ROWS_AT_ONCE", 4)
    path = tmp_path / "run"
    for stage, count in (("generation", 5), ("feedback", 9)):
        run = Run(path, CONFIG, stage)
        run.begin(["prompts" if stage == "generation" else "scores"], SETTINGS, inputs=[])
        for index in range(count):
            run.drop(str(index), "broken_image" if index % 3 else "too_small", "twice")
            run.drop(str(index), "broken_image" if index % 3 else "too_small", "twice")
        assert list(run.dropped().items())[:2] == [("0", "too_small"), ("1", "broken_image")]
        run.finish({}, None)
    rows = [(row["stage"], row["row_id"]) for row in read_rows(run, "dropped")]
    assert rows == [("generation", str(i)) for i in range(5)] + [("feedback", str(i)) for i in range(9)]
    assert pq.ParquetFile(path / "dropped.parquet").num_row_groups == 4  # 14 rows
    assert run.metrics()["stages"]["feedback"]["dropped"] == {"broken_image": 6, "too_small": 3}


def test_each_stage_replaces_its_own_drops_only(tmp_path: Path) -> None:
    path = tmp_path / "run"
    first = generation(path)
    first.begin(["prompts"], SETTINGS, inputs=[])
    first.drop("a", "broken_image")
    write_prompts(first)
    first.finish({"prompts": 1}, None)
    for rejected in ("tie", "equal_text"):
        feedback = Run(path, CONFIG, "feedback")
        feedback.begin(["scores"], {}, inputs=["prompts"])
        feedback.drop("b", rejected)
        feedback.finish({}, None)
    assert [(row["stage"], row["reason"]) for row in read_rows(first, "dropped")] == [
        ("generation", "broken_image"),
        ("feedback", "equal_text"),
    ]


def test_the_summary_of_a_finished_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run"
    run = generation(path)
    run.begin(["prompts"], SETTINGS, inputs=[])
    run.announce("prompts from scenes")
    for row_id in ("a", "b"):
        run.drop(row_id, "broken_image")
    write_prompts(run, count=2)
    run.finish({"prompts": 2}, f"make feedback RUN={path}")
    summary = re.sub(r"done in \d+ s", "done in 0 s", capsys.readouterr().out)  # a busy machine takes longer
    assert summary.splitlines() == [
        f"generation: {path}",
        "  prompts from scenes",
        "generation: done in 0 s",
        f"  wrote    {path}/prompts.parquet (2 rows)",
        "  kept     2 prompts",
        "  dropped  2 broken_image",
        f"  next     make feedback RUN={path}",
    ]


def test_metrics_merge(tmp_path: Path) -> None:
    run = finish_generation(tmp_path / "run", count=3)
    run.update_metrics(before={"recall": 0.9}, labeler={"claim_accuracy": 0.97})
    run.update_metrics(before={"mention_rate": 0.3})
    metrics = json.loads((run.path / "metrics.json").read_text())
    assert metrics["before"] == {"recall": 0.9, "mention_rate": 0.3}
    assert metrics["labeler"] == {"claim_accuracy": 0.97}
    assert metrics["stages"]["generation"]["kept"] == {"prompts": 3}
    assert metrics["stages"]["generation"]["dropped"] == {}
    assert metrics["stages"]["generation"]["seconds"] >= 0
    assert metrics["seeds"] == {"seed": 0, "round": 1}
    assert {"python", "torch", "transformers", "trl"} <= metrics["versions"].keys()


@pytest.mark.slow
def test_metrics_written_by_several_processes_at_once_are_all_kept(tmp_path: Path) -> None:
    path = finish_generation(tmp_path / "run").path
    command = (
        "import sys\nfrom pathlib import Path\nfrom rlaif.config import Section\nfrom rlaif.storage.run import Run\n"
        f"run = Run(Path({str(path)!r}), Section(), 'x')\nname = sys.argv[1]\nsys.stdin.readline()\n"
        "for index in range(50):\n    run.update_metrics(both={f'{name}{index}': index}, **{f'{name}{index}': index})\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", command, name], cwd=ROOT, stdin=subprocess.PIPE) for name in "ab"
    ]
    for process in processes:  # both have imported what they need, or will before long
        assert process.stdin is not None
        process.stdin.write(b"start\n")
        process.stdin.close()
    assert [process.wait() for process in processes] == [0, 0]
    metrics = generation(path).metrics()
    written = {f"{name}{index}": index for name in "ab" for index in range(50)}
    assert metrics["both"] == written
    assert written.items() <= metrics.items()
    assert metrics["stages"]["generation"]["kept"] == {"prompts": 1}


def test_a_run_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(InputError, match=r"cannot write to the run folder .*/run .*; use another RUN="):
        generation(tmp_path / "run").begin(["prompts"], SETTINGS, inputs=[])


def test_a_damaged_marker(tmp_path: Path) -> None:
    finish_generation(tmp_path / "run")
    (tmp_path / "run" / "generation.json").write_text("{")
    with pytest.raises(InputError, match=r"generation.json is not valid JSON .*; delete it, or use another RUN="):
        generation(tmp_path / "run").begin(["prompts"], SETTINGS, inputs=[])


def test_a_second_process_in_a_run_folder_is_refused(tmp_path: Path) -> None:
    assert generation(tmp_path / "run").begin(["prompts"], SETTINGS, inputs=[])
    file = str(tmp_path / "run" / ".lock")
    command = f"import pathlib, rlaif.storage.files as files; files.lock_until_exit(pathlib.Path({file!r}))"
    refused = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert "InputError: another process is working in" in refused.stderr
    os.close(lock_until_exit((tmp_path / "run").resolve() / ".lock"))  # as the end of this process would
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT).returncode == 0
