"""The stage: benchmarks on scripted models, resumed, refused; and for real on the models that ship."""

import io
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import evaluation.benchmarks.stage as stage
from evaluation.benchmarks.__main__ import main
from evaluation.benchmarks.stage import benchmark
from rlaif.config import Config, EngineSection, ModelSection
from rlaif.errors import ConfigError, InputError, RunMismatchError
from rlaif.inference.engine import PROMPT_TOO_LONG, Completion, Request
from rlaif.report.page import report
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
from scenes.benchmarks import write_files
from tests.support.doubles import Answer, ScriptedEngine
from tests.support.engines import run_command
from tests.support.synthetic_run import model_folder

SCENES = 8


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40), "red").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded scenes, as a user would have published files."""
    folder = tmp_path_factory.mktemp("published")
    for name in ("chair", "amber", "pope", "mmhal"):
        write_files(name, folder / name, SCENES)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A run folder with an aligned policy, and models beside it."""
    for name in ("p", "l", "run/policy"):
        model_folder(tmp_path / name, name)
    return tmp_path


def config_of(home: Path, **section: Any) -> Config:
    values = {"policy": {"model": str(home / "p")}, "labeler": {"model": str(home / "l")}, "benchmark": section}
    return Config.model_validate({**values, "evaluation": {"max_tokens": 44}})


class Models:
    """Opens a scripted engine for a model: the policy always says yes, the aligned one `after`; the labeler rates."""

    def __init__(self, after: Callable[[Request], str] = lambda request: "No") -> None:
        self.after = after
        self.opened: list[tuple[str, ScriptedEngine]] = []

    def __call__(self, section: ModelSection, engine: EngineSection, seed: int) -> ScriptedEngine:
        answers: dict[str, Callable[[Request], Answer]] = {
            "p": lambda request: ["Yes, a toilet and a zebra."],
            "policy": lambda request: [self.after(request)],
            "l": lambda request: [json.dumps({"explanation": "So.", "rating": rating}) for rating in (6, 2, 1)],
        }
        name = Path(section.model).name
        self.opened.append((name, ScriptedEngine(answers[name])))
        return self.opened[-1][1]

    @property
    def requests(self) -> list[Request]:
        return [request for _, engine in self.opened for request in engine.requests]


def metrics_of(home: Path, name: str) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((home / "run/metrics.json").read_text())["benchmarks"][name]
    return metrics


def answers_of(home: Path, name: str, which: str = "before") -> list[dict[str, Any]]:
    run = Run(home / "run/benchmarks" / name / which, config_of(home), "test")
    return list(read_rows(run, "answers"))


def labels_of(folder: Path) -> dict[tuple[bytes | None, str], str]:
    """The correct answer to each question of POPE, by image and text."""
    return {
        ((folder / "images" / record["image"]).read_bytes(), record["text"]): record["label"].capitalize()
        for file in folder.glob("*.json")
        for record in map(json.loads, file.read_text().splitlines())
    }


def test_pope_before_and_after(home: Path, published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = labels_of(published / "pope")
    models = Models(after=lambda request: labels[request.image, request.text])
    benchmark(config_of(home, name="pope", path=str(published / "pope")), home / "run", models)
    sides = metrics_of(home, "pope")
    for kind in ("random", "popular", "adversarial"):
        before, after = (
            [sides[which]["figures"][f"{kind}_{name}"] for name in ("accuracy", "precision", "recall", "yes_ratio")]
            for which in ("before", "after")
        )
        assert before == [0.5, 0.5, 1.0, 1.0] and after == [1.0, 1.0, 1.0, 0.5]
        assert sides["after"]["intervals"][f"{kind}_accuracy"] == [1.0, 1.0]
    assert sides["before"]["answers"] == SCENES * 6 * 3 and sides["before"]["dropped"] == 0
    assert sides["after"]["images"] == [f"scene_{index:06d}.png" for index in range(SCENES)]
    printed = capsys.readouterr().out
    assert "popular_accuracy" in printed and "100.0% [100.0, 100.0]" in printed


def test_answers_are_greedy_and_kept(home: Path, published: Path) -> None:
    models = Models()
    benchmark(config_of(home, name="chair", path=str(published / "chair"), suffix=" Now."), home / "run", models)
    assert [name for name, _ in models.opened] == ["p", "policy"] and all(engine.closed for _, engine in models.opened)
    for request in models.requests:
        assert (request.temperature, request.n, request.max_tokens) == (0.0, 1, 44)
        assert request.text == "Describe the image in detail. Now." and request.image
    rows = answers_of(home, "chair", "after")
    assert len(rows) == SCENES and {row["text"] for row in rows} == {"No"}
    assert {row["model"] for row in rows} == {str(home / "run/policy")}


def test_chair_of_honest_captions(home: Path, published: Path) -> None:
    captions: dict[bytes | None, str] = {
        (published / "chair/images" / f"scene_{item['image_id']:06d}.png").read_bytes(): item["caption"]
        for item in json.loads((published / "chair/captions_scenes.json").read_text())["annotations"]
    }
    models = Models(after=lambda request: captions[request.image])
    benchmark(config_of(home, name="chair", path=str(published / "chair")), home / "run", models)
    figures = metrics_of(home, "chair")["after"]["figures"]
    assert (figures["mention_rate"], figures["chair_s"], figures["recall"]) == (0.0, 0.0, 1.0)
    assert figures["answers"] == SCENES and metrics_of(home, "chair")["before"]["figures"]["mention_rate"] > 0.5


def test_amber_of_a_policy_that_denies_everything(home: Path, published: Path) -> None:
    benchmark(config_of(home, name="amber", path=str(published / "amber")), home / "run", Models())
    sides = metrics_of(home, "amber")
    after = sides["after"]["figures"]
    assert (after["recall"], after["existence_accuracy"], after["state_accuracy"]) == (1.0, 1.0, 0.5)
    assert (after["chair"], after["cover"], after["hal"]) == (None, 0.0, 0.0)  # "No" names nothing
    before = sides["before"]["figures"]
    assert (before["recall"], before["precision"]) == (0.0, None) and before["questions"] > SCENES * 4


def test_mmhal_is_rated_several_times_by_the_labeler(home: Path, published: Path) -> None:
    models = Models()
    config = config_of(home, name="mmhal", path=str(published / "mmhal"))
    benchmark(config, home / "run", models)
    assert [name for name, _ in models.opened] == ["p", "l", "policy", "l"]
    for request in models.opened[1][1].requests:
        assert (request.image, request.n, request.temperature) == (None, 3, 0.7)
        assert "Yes, a toilet and a zebra." in request.text
    figures = metrics_of(home, "mmhal")["before"]["figures"]
    assert (figures["score"], figures["hallucination_rate"]) == (3.0, pytest.approx(2 / 3))
    assert [figures[f"score_run_{run}"] for run in (1, 2, 3)] == [6.0, 2.0, 1.0]
    assert figures["ratings"] == 3 * SCENES
    again = Models()
    first = metrics_of(home, "mmhal")
    benchmark(config, home / "run", again)
    assert not again.opened and metrics_of(home, "mmhal") == first


def test_a_rating_that_cannot_be_read_is_dropped(home: Path, published: Path) -> None:
    class Raters(Models):
        def __call__(self, section: ModelSection, engine: EngineSection, seed: int) -> ScriptedEngine:
            if Path(section.model).name != "l":
                return super().__call__(section, engine, seed)
            return ScriptedEngine(lambda request: ['{"explanation":"x","rating":4}', "so...", "{}"])

    shutil.rmtree(home / "run/policy")
    config = config_of(home, name="mmhal", path=str(published / "mmhal"), limit=2)
    benchmark(config, home / "run", Raters())
    figures = metrics_of(home, "mmhal")["before"]["figures"]
    assert (figures["ratings"], figures["unrated"], figures["score"]) == (2, 4, 4.0)
    run = Run(home / "run/benchmarks/mmhal/before", config, "test")
    assert Counter(row["reason"] for row in read_rows(run, "dropped")) == {"unrated": 4}


def test_without_an_aligned_policy_there_is_no_after(home: Path, published: Path) -> None:
    shutil.rmtree(home / "run/policy")
    config = config_of(home, name="pope", path=str(published / "pope"))
    benchmark(config, home / "run", Models())
    assert list(metrics_of(home, "pope")) == ["before"]
    model_folder(home / "run/policy", "later")
    models = Models()
    benchmark(config, home / "run", models)
    assert [name for name, _ in models.opened] == ["policy"]  # existing answers are kept
    assert list(metrics_of(home, "pope")) == ["before", "after"]


def test_killed_midway_it_resumes(home: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "QUESTIONS_PER_CHUNK", 10)
    config = config_of(home, name="pope", path=str(published / "pope"))

    class Killed(Models):
        def __call__(self, section: ModelSection, engine: EngineSection, seed: int) -> ScriptedEngine:
            double = super().__call__(section, engine, seed)
            script = double.script
            double.script = lambda request: script(request) if len(double.requests) <= 30 else self.die()
            return double

        def die(self) -> Answer:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        benchmark(config, home / "run", Killed())
    models = Models()
    benchmark(config, home / "run", models)
    total = SCENES * 6 * 3
    assert len(models.opened[0][1].requests) == total - 30
    ids = [row["question_id"] for row in answers_of(home, "pope")]
    assert len(ids) == len(set(ids)) == total


def test_other_questions_are_not_mixed_in(home: Path, published: Path, tmp_path: Path) -> None:
    benchmark(config_of(home, name="pope", path=str(published / "pope")), home / "run", Models())
    shutil.copytree(published / "pope", tmp_path / "mine")
    file = tmp_path / "mine/scenes_pope_random.json"
    file.write_text(file.read_text().replace("Is there", "Can you see", 1))
    with pytest.raises(RunMismatchError, match=r"questions: .* -> .*; use another RUN="):
        benchmark(config_of(home, name="pope", path=str(tmp_path / "mine")), home / "run", Models())


def pope_file(folder: Path, *images: str) -> None:
    (folder / "images").mkdir(parents=True)
    records = [
        {"question_id": index, "image": image, "text": f"{index}?", "label": "yes"}
        for index, image in enumerate(images)
    ]
    (folder / "coco_pope_random.json").write_text("\n".join(map(json.dumps, records)))


def test_images_that_cannot_be_used_are_counted(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pope_file(tmp_path / "mine", "a.png", "none.png", "../a.png", "broken.png", "none.png", "a.png")
    (tmp_path / "mine/images/a.png").write_bytes(png())
    (tmp_path / "mine/images/broken.png").write_bytes(b"png")
    config = config_of(home, name="pope", path=str(tmp_path / "mine"))
    benchmark(config, home / "run", Models())
    assert [row["question_id"] for row in answers_of(home, "pope")] == ["random-0", "random-5"]
    run = Run(home / "run/benchmarks/pope/before", config, "test")
    assert Counter(row["reason"] for row in read_rows(run, "dropped")) == {
        "missing_image": 2,
        "image_outside_folder": 1,
        "unusable_image": 1,
    }
    assert metrics_of(home, "pope")["before"]["dropped"] == 4
    assert metrics_of(home, "pope")["before"]["images"] == ["a.png"]
    assert "before: 4 questions were dropped" in capsys.readouterr().out


def test_missing_images_are_an_error_that_the_user_can_fix(home: Path, tmp_path: Path) -> None:
    pope_file(tmp_path / "mine", "a.png", "b.png")
    config = config_of(home, name="pope", path=str(tmp_path / "mine"))
    with pytest.raises(
        InputError, match=r"all questions of pope were dropped \(2 missing_image\); .* benchmark.images"
    ):
        benchmark(config, home / "run", Models())
    for name in ("a.png", "b.png"):
        (tmp_path / "mine/images" / name).write_bytes(png())
    benchmark(config, home / "run", Models())
    assert metrics_of(home, "pope")["before"]["answers"] == 2


def test_a_question_that_is_too_long_is_dropped(home: Path, tmp_path: Path) -> None:
    pope_file(tmp_path / "mine", "a.png", "a.png")
    (tmp_path / "mine/images/a.png").write_bytes(png())

    class Short(ScriptedEngine):
        def complete(self, request: Request) -> list[Completion]:
            is_first = len(self.requests) == 1
            return [Completion("", 0, PROMPT_TOO_LONG)] if is_first else super().complete(request)

    benchmark(
        config_of(home, name="pope", path=str(tmp_path / "mine")), home / "run", lambda *_: Short(lambda _: ["Yes"])
    )
    assert [row["question_id"] for row in answers_of(home, "pope")] == ["random-1"]


@pytest.mark.parametrize("name", ["chair", "amber", "pope", "mmhal"])
def test_without_files_the_embedded_scenes_are_used(home: Path, name: str) -> None:
    benchmark(config_of(home, name=name, scenes=4), home / "run", Models())
    assert (home / "run/benchmarks" / name / "scenes-4").is_dir()
    sides = metrics_of(home, name)
    assert sides["before"]["answers"] > 0 and sides["before"]["dropped"] == 0
    for side in sides.values():
        for figure, interval in side["intervals"].items():
            value = side["figures"][figure]
            assert (interval is None) == (value is None) and not isinstance(value, int), figure
            assert interval is None or interval[0] <= value <= interval[1], figure


def test_the_report_shows_benchmarks_with_their_intervals(home: Path, published: Path) -> None:
    config = config_of(home, name="pope", path=str(published / "pope"))
    benchmark(config, home / "run", Models())
    text = report(config, home / "run").read_text()
    assert "<h2>Benchmarks</h2>" in text and "<h3>pope</h3>" in text and "random accuracy" in text
    assert "50.0% <small>[50.0, 50.0]</small>" in text


def test_settings_that_contradict_each_other(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"benchmark.name is not set; .*chair, amber, pope, mmhal"):
        benchmark(config_of(home), home / "run", Models())
    photos = config_of(home, name="pope").model_copy(
        update={"data": Config.model_fields["data"].default.model_copy(update={"source": "folder", "path": "x"})}
    )
    with pytest.raises(ConfigError, match=r"benchmark.path is not set and data.source is folder; set benchmark.path"):
        benchmark(photos, home / "run", Models())
    greedy = config_of(home, name="mmhal", scenes=3, rater={"temperature": 0})
    with pytest.raises(ConfigError, match=r"rater.temperature is 0 and runs is 3"):
        benchmark(greedy, home / "run", Models())


def test_main_says_what_is_wrong_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--config", "configs/demo.yaml", "--run", str(tmp_path / "run"), "--set", "benchmark.name=popes"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: configs/demo.yaml: benchmark.name is 'popes'") and error.count("\n") == 1


@pytest.mark.engine
@pytest.mark.parametrize(
    ("name", "model"), [("pope", "labeler"), ("amber", "labeler"), ("chair", "policy"), ("mmhal", "policy")]
)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("shared_engines")
def test_for_real_on_the_models_that_ship(tmp_path: Path, name: str, model: str) -> None:
    """On vLLM. The labeler answers yes/no questions, as it was trained to; the policy describes."""
    changes = [f"benchmark.name={name}", "benchmark.scenes=12", f"policy.model=assets/{model}"]
    run_command("evaluation.benchmarks", "--config", "configs/demo.yaml", "--run", str(tmp_path), "--set", *changes)
    side = json.loads((tmp_path / "metrics.json").read_text())["benchmarks"][name]["before"]
    figures = side["figures"]
    assert side["dropped"] == 0
    if name == "pope":
        assert all(figures[f"{kind}_accuracy"] > 0.85 for kind in ("random", "popular", "adversarial"))
    elif name == "amber":
        assert figures["accuracy"] > 0.85 and figures["unread_answers"] == 0
    elif name == "chair":
        assert figures["recall"] > 0.5 and 0 < figures["mention_rate"] < 0.6
    else:  # the labeler was not trained to rate: only the number of its ratings is known
        assert figures["ratings"] + figures["unrated"] == 3 * 12
