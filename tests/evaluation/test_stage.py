"""Evaluation of a synthetic run; the policies are scripted."""

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.__main__ import main
from evaluation.stage import evaluate
from rlaif.config import Config, EngineSection, ModelSection
from rlaif.errors import InputError, RunMismatchError
from rlaif.inference.engine import Request
from rlaif.storage.run import Run
from rlaif.storage.tables import read_rows
from scenes.language import ThingMention, find_mentions
from scenes.language.mentions import mention_of_truth
from tests.support.captions.scene_truth import reference_of
from tests.support.doubles import Answer, ScriptedEngine
from tests.support.synthetic_run import RESPONSES, TEST_PROMPTS, TRAIN_PROMPTS, make_run
from tests.support.two_images import write_model


class Policies:
    """Opens a scripted engine for a model: the aligned one describes the image, the other one adds a toilet."""

    def __init__(self, config: Config, path: Path) -> None:
        run = Run(path, config, "test")
        self.references = {
            (row["image"]["bytes"], row["instruction"]): row["reference"]
            for row in read_rows(run, "prompts", ["image", "instruction", "reference"])
        }
        self.aligned = str(path / "policy")
        self.opened: dict[str, ScriptedEngine] = {}

    def __call__(self, section: ModelSection, engine: EngineSection, seed: int) -> ScriptedEngine:
        which = "after" if section.model == self.aligned else "before"
        self.opened[which] = ScriptedEngine(lambda request: [self.answer(request, which)])
        return self.opened[which]

    def answer(self, request: Request, which: str) -> str:
        assert request.image is not None
        truth = json.loads(self.references[request.image, request.text] or reference_of())
        phrases = [mention_of_truth(item, with_size=False, with_place=False).phrase for item in truth["objects"]]
        sign = f" A sign says {truth['sign']['text']}." if truth["sign"] else ""
        # a toilet of no place is false unless the scene has one
        return f"I can see {', '.join(phrases + (['a toilet'] if which == 'before' else []))}.{sign}"


def label(request: Request) -> Answer:
    """A labeler that divides an answer into its mentions and rejects every toilet."""
    if request.json_schema is not None:
        mentions = dict.fromkeys(find_mentions(request.text.rpartition("I can see ")[2]))
        claims = [{"claim": mention.claim, "question": mention.question} for mention in mentions]
        return [json.dumps({"claims": claims})]
    return {1: -9.0, 2: -9.0, 3: -0.1, 4: -9.0} if "a toilet" in request.text else {1: -0.1, 2: -9, 3: -9, 4: -9}


@pytest.mark.parametrize("splitter", [False, True])
def test_the_labeler_verifies_the_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, splitter: bool) -> None:
    monkeypatch.setattr("evaluation.labeled_answers.PROMPTS_PER_CHUNK", 3)
    config, path = make_run(tmp_path, evaluation={"labeler": True})
    if splitter:
        folder = write_model(tmp_path / "splitter")
        config = config.model_copy(update={"splitter": ModelSection(model=str(folder))})
    policies = Policies(config, path)
    engines: dict[str, ScriptedEngine] = {}

    def serve(section: ModelSection, engine: EngineSection, seed: int) -> ScriptedEngine:
        if len(policies.opened) < 2:
            return policies(section, engine, seed)
        assert all(engine.closed for engine in engines.values())
        engines[section.model] = ScriptedEngine(label)
        return engines[section.model]

    evaluate(config, path, serve)
    splitters = [config.splitter.model] if config.splitter else []
    assert bool(splitters) == splitter and list(engines) == [*splitters, config.labeler.model]
    splits = [[request.json_schema is not None for request in engine.requests] for engine in engines.values()]
    assert [set(kinds) for kinds in splits] == ([{True}, {False}] if splitter else [{True, False}])
    answers = {
        (row["which"], row["prompt_id"]): row["text"] for row in read_rows(Run(path, config, "test"), "evaluations")
    }
    labeled = {(row["which"], row["prompt_id"]): row for row in read_rows(Run(path, config, "test"), "labeled_answers")}
    assert labeled.keys() == answers.keys() and len(labeled) == 2 * TEST_PROMPTS
    for key, text in answers.items():
        claims, toilet = set(find_mentions(text)), ThingMention("toilet")
        assert (labeled[key]["num_claims"], labeled[key]["num_rejected"]) == (len(claims), toilet in claims)
    before = metrics_of(path)["before"]
    assert before["rejected_response_share"] == 1.0 and before["labeled_answers"] == TEST_PROMPTS


def metrics_of(path: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((path / "metrics.json").read_text())
    return metrics


def test_before_and_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, path = make_run(tmp_path)
    policies = Policies(config, path)
    evaluate(config, path, policies)

    test = [
        json.loads(row["reference"])
        for row in read_rows(Run(path, config, "test"), "prompts")
        if row["split"] == "test"
    ]
    false = sum(all(item["name"] != "toilet" for item in truth["objects"]) for truth in test)
    true = sum(len(truth["objects"]) + bool(truth["sign"]) for truth in test)
    metrics = metrics_of(path)
    assert metrics["before"]["mention_rate"] == false / (true + TEST_PROMPTS)
    assert metrics["before"]["response_rate"] == false / TEST_PROMPTS
    assert metrics["after"] == {
        "mention_rate": 0.0,
        "response_rate": 0.0,
        "recall": 1.0,
        "mean_words": metrics["before"]["mean_words"] - 2,  # "a toilet"
        "responses": TEST_PROMPTS,
    }
    assert metrics["stages"]["evaluate"]["kept"] == {"evaluations": 2 * TEST_PROMPTS}
    printed = capsys.readouterr().out
    assert "mention_rate" in printed
    assert f"next     make report RUN={path}, with the same CONFIG and SET\n" in printed


def test_answers_are_greedy_and_of_the_evaluation_split(tmp_path: Path) -> None:
    config, path = make_run(tmp_path, evaluation={"max_tokens": 33})
    policies = Policies(config, path)
    evaluate(config, path, policies)
    for engine in policies.opened.values():
        assert engine.closed
        assert len(engine.requests) == TEST_PROMPTS
        assert {(request.temperature, request.max_tokens, request.n) for request in engine.requests} == {(0.0, 33, 1)}
    rows = list(read_rows(Run(path, config, "test"), "evaluations"))
    assert [row["which"] for row in rows] == ["before"] * TEST_PROMPTS + ["after"] * TEST_PROMPTS


def test_labeler_is_compared_with_the_truth(tmp_path: Path) -> None:
    config, path = make_run(tmp_path)
    evaluate(config, path, Policies(config, path))
    labeler = metrics_of(path)["labeler"]
    assert {"claim_accuracy", "split_accuracy", "pair_agreement", "whole_response_pair_agreement"} <= labeler.keys()
    assert 0.9 < labeler["claim_accuracy"] < 1.0  # wrong by chance in 5%
    assert labeler["split_accuracy"] == 1.0
    assert labeler["responses"] == TRAIN_PROMPTS * RESPONSES
    assert labeler["pair_agreement"] > labeler["whole_response_pair_agreement"]


def test_every_figure_has_an_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, path = make_run(tmp_path)
    evaluate(config, path, Policies(config, path))
    metrics = metrics_of(path)
    for section in ("before", "after", "change", "labeler"):
        spread = metrics["intervals"][section]
        shares = {name: value for name, value in metrics[section].items() if not isinstance(value, int)}
        assert spread.keys() == shares.keys()
        for name, value in shares.items():
            if value is not None:
                assert spread[name][0] <= value <= spread[name][1], (section, name)
    assert metrics["change"]["mention_rate"] == -1.0  # nothing false is left
    low, high = metrics["intervals"]["before"]["mention_rate"]
    assert f"[{100 * low:.1f}, {100 * high:.1f}]" in capsys.readouterr().out


def test_a_second_run_opens_no_model_and_gives_the_same_figures(tmp_path: Path) -> None:
    config, path = make_run(tmp_path)
    evaluate(config, path, Policies(config, path))
    first = metrics_of(path)
    again = Policies(config, path)
    evaluate(config, path, again)
    assert not again.opened
    assert metrics_of(path) == first


def test_a_killed_evaluation_resumes_with_the_second_policy(tmp_path: Path) -> None:
    config, path = make_run(tmp_path)
    policies = Policies(config, path)

    def killed(section: ModelSection, engine: EngineSection, seed: int) -> ScriptedEngine:
        if section.model == policies.aligned:
            raise KeyboardInterrupt
        return policies(section, engine, seed)

    with pytest.raises(KeyboardInterrupt):
        evaluate(config, path, killed)
    again = Policies(config, path)
    evaluate(config, path, again)
    assert list(again.opened) == ["after"]
    assert metrics_of(path)["before"]["responses"] == TEST_PROMPTS


def test_answers_are_on_disk_before_the_last_one_is_generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.stage.PROMPTS_PER_CHUNK", 5)
    config, path = make_run(tmp_path)
    evaluate(config, path, Policies(config, path))
    whole = list(read_rows(Run(path, config, "test"), "evaluations"))
    figures = metrics_of(path)

    config, path = make_run(tmp_path / "again")
    policies = Policies(config, path)
    requests: list[Request] = []

    def killed(request: Request, which: str) -> str:
        if len(requests) == 8:  # in the second five of the first policy
            raise KeyboardInterrupt
        requests.append(request)
        return Policies.answer(policies, request, which)

    monkeypatch.setattr(policies, "answer", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(config, path, policies)
    again = Policies(config, path)
    evaluate(config, path, again)
    assert [len(again.opened[which].requests) for which in ("before", "after")] == [TEST_PROMPTS - 5, TEST_PROMPTS]
    assert list(read_rows(Run(path, config, "test"), "evaluations")) == whole
    assert {name: metrics_of(path)[name] for name in ("before", "after", "labeler")} == {
        name: figures[name] for name in ("before", "after", "labeler")
    }


def test_without_truth_other_figures_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, path = make_run(tmp_path, truth=False)
    evaluate(config, path, Policies(config, path))
    metrics = metrics_of(path)
    assert metrics["after"]["mention_rate"] is None and metrics["after"]["recall"] is None
    assert metrics["after"]["mean_words"] > 0
    assert metrics["labeler"]["claim_accuracy"] is None and metrics["labeler"]["pair_agreement"] is None
    assert "no truth is known" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": {"dtype": "bfloat16"}}, r'policies.*"float32".* -> .*"bfloat16"'),
        ({"labeler": {"dtype": "bfloat16"}}, r'labeler.*"auto".* -> .*"bfloat16"'),
        ({"splitter": {"dtype": "bfloat16"}}, r'splitter.*"auto".* -> .*"bfloat16"'),
        ({"engine": {"max_model_len": 99}}, r"max_model_len: null -> 99"),
    ],
)
def test_answers_are_bound_to_precision_and_length(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    config, path = make_run(tmp_path, evaluation={"labeler": True})
    splitter = write_model(tmp_path / "splitter")
    values = config.model_dump()
    values["policy"]["dtype"], values["splitter"] = "float32", {"model": str(splitter)}
    config = Config.model_validate(values)
    policies = Policies(config, path)

    def open_engine(section: ModelSection, engine: EngineSection, seed: int) -> ScriptedEngine:
        return policies(section, engine, seed) if len(policies.opened) < 2 else ScriptedEngine(label)

    evaluate(config, path, open_engine)
    other = Config.model_validate(values | {name: values[name] | part for name, part in change.items()})
    with pytest.raises(RunMismatchError, match=message):
        evaluate(other, path, open_engine)


def test_no_aligned_model(tmp_path: Path) -> None:
    config, path = make_run(tmp_path)
    (path / "policy").rename(path / "elsewhere")
    with pytest.raises(
        InputError, match=r"no aligned model in .*policy; first run `make dpo RUN=.* the same CONFIG and SET"
    ):
        evaluate(config, path, Policies(config, path))
    assert not (path / "evaluations.parquet").exists()


def test_no_prompt_of_the_split(tmp_path: Path) -> None:
    config, path = make_run(tmp_path, evaluation={"split": "validation"})
    with pytest.raises(
        InputError, match=r"has no prompts of split 'validation', only of test, train; set evaluation.split"
    ):
        evaluate(config, path, Policies(config, path))


def test_a_missing_table_is_an_error_before_any_answer(tmp_path: Path) -> None:
    config, path = make_run(tmp_path)
    (path / "pairs.parquet").unlink()
    policies = Policies(config, path)
    with pytest.raises(InputError, match=r"pairs.parquet is missing; first run `make feedback"):
        evaluate(config, path, policies)
    assert not policies.opened


def test_main_says_what_is_wrong_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(tmp_path / "none.yaml"), "--run", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no configuration file") and error.count("\n") == 1
