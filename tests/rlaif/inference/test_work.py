"""Work in chunks: row locations, batches by image, and the same tables from a local Ray cluster."""

import json
import logging
import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import feedback.stage
import generation.sampling
from feedback.stage import feedback as run_feedback
from generation.stage import generate
from rlaif.config import Config, EngineSection, ModelSection
from rlaif.errors import ConfigError, ModelError
from rlaif.inference.engine import Completion, Engine, OpenEngine, Request
from rlaif.inference.open import open_engine
from rlaif.inference.work import processes
from rlaif.inference.work.chunks import Chunk, EngineSpec, batch_by_image
from rlaif.inference.work.mapping import map_chunks
from rlaif.inference.work.processes import shares_of
from rlaif.storage.rows import read_located_parts, read_rows_at, row_locations
from rlaif.storage.writer import TableWriter
from tests.support import EMBEDDED_PROMPTS
from tests.support.doubles import ScriptedEngine
from tests.support.kills.stages import answer
from tests.support.pair_rows import open_run, score_rows

OUTPUTS = {"generation": ("prompts", "responses"), "feedback": ("claims", "scores", "pairs")}


def test_rows_are_read_at_their_locations(tmp_path: Path) -> None:
    run = open_run(tmp_path)
    with TableWriter(run, "scores", key="prompt_id", part_rows=4) as writer:
        for prompt in "abcde":
            writer.write(score_rows(prompt))
    rows = [row for part in read_located_parts(run, "scores", ["prompt_id"]) for row in part.to_pylist()]
    assert [(row["group"], row["row"]) for row in rows[3:6]] == [(0, 3), (1, 0), (1, 1)]
    selected = [row for row in rows if row["prompt_id"] in "bce"]
    assert row_locations(selected) == ((0, (2, 3)), (1, (0, 1)), (2, (0, 1)))
    assert read_rows_at(writer.path, row_locations(selected), ["score", "prompt_id"]) == [
        {"score": -float(index), "prompt_id": prompt} for prompt in "bce" for index in range(2)
    ]


def test_batches_do_not_split_an_image() -> None:
    rows = [{"image_sha256": image} for image in "aabbbcd"]
    assert [[row["image_sha256"] for row in batch] for batch in batch_by_image(rows, 3)] == [list("aabbb"), list("cd")]
    assert list(batch_by_image([], 3)) == []


async def nothing(_: Engine, chunk: Chunk) -> int:
    return chunk.num_prompts


def test_one_engine_is_opened_for_all_chunks_and_none_without_chunks(capsys: pytest.CaptureFixture[str]) -> None:
    opened: list[ScriptedEngine] = []

    def open_engine(model: ModelSection, engine: EngineSection, seed: int) -> ScriptedEngine:
        opened.append(ScriptedEngine(lambda request: ["a"]))
        return opened[-1]

    spec = EngineSpec(ModelSection(model="m"), EngineSection(), 0, open_engine)
    assert list(map_chunks(spec, [], nothing, "work", 0, 0)) == [] and not opened
    chunks = [Chunk(7, {}), Chunk(3, {})]
    results = map_chunks(spec, chunks, nothing, "work", remaining=10, done=5)
    assert list(results) == [7, 3]
    assert len(opened) == 1 and opened[0].closed
    bars = capsys.readouterr().err.split("\r")
    assert [line for line in bars if line.strip() and not line.startswith("work: ")] == []
    assert " 5/15 " in bars[1] and " 15/15 " in bars[-1], (
        "one progress bar counts the finished and the remaining prompts"
    )


def test_the_engine_is_closed_with_the_generator_of_results() -> None:
    double = ScriptedEngine(lambda request: ["a"])
    spec = EngineSpec(ModelSection(model="m"), EngineSection(), 0, lambda *_: double)
    results = map_chunks(spec, [Chunk(1, {}), Chunk(1, {})], nothing, "work", 2, 0)
    next(iter(results))
    assert not double.closed
    results.close()
    assert double.closed


# --- on a local Ray cluster --------------------------------------------------------------------------------------


class MortalEngine(Engine):
    """An engine that kills its process at its fifth answer, unless the file `died` exists, which it writes first."""

    def __init__(self, engine: Engine, died: Path) -> None:
        self.engine, self.died, self.answers, self.steps = engine, died, 0, engine.steps

    async def answer(self, request: Request) -> list[Completion]:
        completions = await self.engine.answer(request)
        self.answers += 1
        if self.answers == 5 and not self.died.exists():
            self.died.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return completions

    def close(self) -> None:
        self.engine.close()


def open_scripted(*_: Any) -> ScriptedEngine:
    return ScriptedEngine(answer, words={"yes": (1,), "no": (2,)})


def open_mortal(
    open_inner: OpenEngine, died: Path, model: ModelSection, engine: EngineSection, seed: int
) -> MortalEngine:
    return MortalEngine(open_inner(model, engine, seed), died)


def open_broken(model: ModelSection, engine: EngineSection, seed: int) -> ScriptedEngine:
    raise ModelError("no such model")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation.sampling, "PROMPTS_PER_CHUNK", 3)
    monkeypatch.setattr(feedback.stage, "PROMPTS_PER_CHUNK", 3)


def config_of(model: Path, max_tokens: int = 512, **engine: Any) -> Config:
    section = {"model": str(model)}
    return Config.model_validate(
        {
            "policy": section,
            "labeler": section,
            "data": {"train_prompts": 14, "test_prompts": 2},
            "generation": {"num_responses": 4, "temperature": 1.0, "max_tokens": max_tokens},
            "feedback": {"prompts": EMBEDDED_PROMPTS},
            "engine": engine,
        }
    )


@pytest.mark.parametrize(
    ("engines", "size", "shares"),
    [
        (None, 1, ["4", "5", "7"]),
        (None, 2, ["4,5"]),
        (2, 1, ["4", "5"]),
        (4, 1, "engine.engines is 4 and engine.tensor_parallel_size 1, which need 4 GPUs, but this machine has 3 to"),
        (None, 4, "engine.engines is 1 and engine.tensor_parallel_size 4, which need 4 GPUs, but this machine has 3"),
    ],
)  # fmt: skip
def test_each_engine_gets_its_gpus(
    engines: int | None, size: int, shares: list[str] | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "visible_gpus", lambda: ["4", "5", "7"])
    section = EngineSection(engines=engines, tensor_parallel_size=size)
    if isinstance(shares, str):
        with pytest.raises(ConfigError, match=shares):
            shares_of(section)
    else:
        assert shares_of(section) == [{"CUDA_VISIBLE_DEVICES": share} for share in shares]


def test_without_gpus_each_engine_gets_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_CPU_OMP_THREADS_BIND", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3, 1, 2, 5, 6})
    assert len(shares_of(EngineSection())) == 1
    assert shares_of(EngineSection(engines=2)) == [
        {"VLLM_CPU_OMP_THREADS_BIND": "1,2", "OMP_NUM_THREADS": "2"},
        {"VLLM_CPU_OMP_THREADS_BIND": "3,5,6", "OMP_NUM_THREADS": "3"},
    ]
    with pytest.raises(ConfigError, match=r"engine\.engines is 6, but there are 5 cores and no GPU; set"):
        shares_of(EngineSection(engines=6))


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("small_chunks")
def test_two_processes_write_the_tables_of_one_engine_and_the_death_of_one_ends_the_stage(
    tiny_model: Path, tmp_path: Path
) -> None:
    alone, several, died = tmp_path / "alone", tmp_path / "several", tmp_path / "died"
    config = config_of(tiny_model)
    generate(config, alone, open_scripted)
    run_feedback(config, alone, open_scripted)
    config = config_of(tiny_model, engines=2)
    with pytest.raises(ModelError, match=r"the process of engine \d of 2 was killed by SIGKILL, .* start again"):
        generate(config, several, partial(open_mortal, open_scripted, died))
    assert not (several / "responses.parquet").exists()
    generate(config, several, open_scripted)
    for opener, message in ((open_broken, "no such model"), (open_unreadable, "no probability")):
        with pytest.raises(ModelError, match=message):
            run_feedback(config, several, opener)
    run_feedback(config, several, open_scripted)
    assert_equal_tables(several, alone, [*OUTPUTS["generation"], *OUTPUTS["feedback"]])


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("small_chunks")
def test_vllm_in_two_processes(tiny_model: Path, tmp_path: Path) -> None:
    alone, several = tmp_path / "alone", tmp_path / "several"
    generate(config_of(tiny_model, max_tokens=16), alone)
    generate(config_of(tiny_model, max_tokens=16, engines=2), several)
    assert_equal_tables(several, alone, ["responses"])
    use = json.loads((several / "metrics.json").read_text())["sampling"]
    assert use["engine_steps"] > 16 and 0 <= use["engine_idle_share"] < 1
    assert 0 < use["engine_step_seconds"] < use["seconds"]


def assert_equal_tables(actual: Path, expected: Path, tables: Sequence[str]) -> None:
    for table in tables:
        rows, others = (pq.read_table(path / f"{table}.parquet").to_pylist() for path in (actual, expected))
        assert rows == others and rows, table


def open_unreadable(*_: Any) -> ScriptedEngine:
    def fail(request: Request) -> list[str]:
        raise ModelError("no probability")

    return ScriptedEngine(fail)


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("small_chunks")
def test_two_actors_of_which_one_is_killed_write_the_tables_of_one_engine(tiny_model: Path, tmp_path: Path) -> None:
    import ray

    alone, on_ray = tmp_path / "alone", tmp_path / "ray"
    config = config_of(tiny_model)
    generate(config, alone, open_scripted)
    run_feedback(config, alone, open_scripted)
    config = config_of(tiny_model, backend="ray", engines=2)
    ray.init(num_cpus=3, include_dashboard=False, logging_level=logging.ERROR)
    try:
        for stage, run in (("generation", generate), ("feedback", run_feedback)):
            died = tmp_path / f"died-{stage}"
            run(config, on_ray, partial(open_mortal, open_scripted, died))
            assert died.exists(), "no actor was killed"
            assert_equal_tables(on_ray, alone, OUTPUTS[stage])
        with pytest.raises(ModelError, match="no such model"):
            generate(config, tmp_path / "broken", open_broken)
    finally:
        ray.shutdown()


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("small_chunks")
def test_vllm_in_two_actors_of_which_one_is_killed(tiny_model: Path, tmp_path: Path) -> None:
    import ray

    alone, on_ray, died = tmp_path / "alone", tmp_path / "ray", tmp_path / "died"
    generate(config_of(tiny_model, max_tokens=16), alone)
    ray.init(num_cpus=3, include_dashboard=False, logging_level=logging.ERROR)
    try:
        config = config_of(tiny_model, max_tokens=16, backend="ray", engines=2)
        generate(config, on_ray, partial(open_mortal, open_engine, died))
    finally:
        ray.shutdown()
    assert died.exists(), "no actor was killed"
    assert_equal_tables(on_ray, alone, ["responses"])
