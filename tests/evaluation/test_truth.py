"""Evaluation asks a `Truth` and nothing else: it works for a world that is not the embedded one."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

from evaluation.caption_errors import Errors, find_errors
from evaluation.hallucination import answer_counts
from evaluation.stage import evaluate
from evaluation.truth import Truth, truth_of
from rlaif.config import EngineSection, ModelSection
from rlaif.inference.engine import Request
from scenes.truth import SceneTruth
from tests.support.captions.scene_truth import reference_of
from tests.support.doubles import ScriptedEngine
from tests.support.synthetic_run import TEST_PROMPTS, make_run

ANIMALS = ("hen", "wolf", "owl", "fox")


class AnimalTruth:
    """A world of animals: an image has some of them, its reference names them, and texts mention them by a word."""

    def __init__(self, reference: str) -> None:
        self.animals = reference.split()

    @property
    def num_objects(self) -> int:
        return len(self.animals)

    def check_mentions(self, text: str) -> Sequence[bool]:
        return [word in self.animals for word in self._mentions(text)]

    def count_objects_found(self, text: str) -> int:
        return len(set(self.animals).intersection(self._mentions(text)))

    def claim_is_true(self, claim: str) -> bool | None:
        mentions = self._mentions(claim)
        return mentions[0] in self.animals if len(mentions) == 1 else None

    def split_is_correct(self, text: str, claims: Sequence[str]) -> bool:
        return [self._mentions(claim) for claim in claims] == [[word] for word in self._mentions(text)]

    def has_stray_words(self, text: str) -> bool:
        return not {"a", "and", *ANIMALS}.issuperset(text.split())

    def short_questions(self, rng: Random) -> Sequence[tuple[str, str, str]]:
        return [("animal", f"Is there {'an' if word == 'owl' else 'a'} {word}?", "yes") for word in self.animals]

    def _mentions(self, text: str) -> list[str]:
        return [word for word in text.split() if word in ANIMALS]


def animals_of(source: str, reference: str | None) -> Truth | None:
    """As if every image had a hen and a wolf."""
    return AnimalTruth("hen wolf") if source == "scenes" else None


def test_who_knows_a_truth() -> None:
    reference = reference_of()
    assert isinstance(truth_of("scenes", reference), SceneTruth)
    assert truth_of("scenes", None) is None and truth_of("folder", reference) is None


def test_another_world() -> None:
    truth = AnimalTruth("hen wolf owl")
    assert answer_counts("a hen and a fox and a fox", truth) == Counter(
        answers=1,
        words=8,
        mentions=3,
        false_mentions=2,
        answers_with_mentions=1,
        answers_with_false_mentions=1,
        objects_found=1,
        objects=3,
    )
    assert find_errors("hen wolf fox buy", truth) == Errors(lost=True, false=True, repeated=False, stray=True)


def test_the_stage_with_another_world(tmp_path: Path) -> None:
    config, path = make_run(tmp_path)

    def open_engine(section: ModelSection, engine: EngineSection, seed: int) -> ScriptedEngine:
        aligned = section.model == str(path / "policy")

        def answer(request: Request) -> list[str]:
            return ["a hen and a wolf" if aligned else "a hen and an owl"]

        return ScriptedEngine(answer)

    evaluate(config, path, open_engine, animals_of)
    metrics = json.loads((path / "metrics.json").read_text())
    assert metrics["before"] == {
        "mention_rate": 1 / 2,
        "response_rate": 1.0,
        "recall": 1 / 2,
        "mean_words": 5.0,
        "responses": TEST_PROMPTS,
    }
    assert (metrics["after"]["mention_rate"], metrics["after"]["recall"]) == (0.0, 1.0)
    assert metrics["labeler"]["claims_unreadable"] == metrics["labeler"]["claims"] > 0  # claims name no animal
