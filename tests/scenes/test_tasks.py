"""The tasks that the embedded models are trained on."""

import random

from scenes.language import mention_is_true
from scenes.prompts import SPLIT_PROMPT, VERIFY_PROMPT, WHOLE_PROMPT
from scenes.recipe import tasks
from scenes.world import sample_scene
from tests.support import ROOT
from tests.support.captions.scene_truth import SCENE

PROMPTS = ROOT / "assets" / "prompts"


def test_the_labeler_was_trained_on_the_prompts_of_the_demo() -> None:
    assert (PROMPTS / "split.txt").read_text().rstrip("\n") == SPLIT_PROMPT
    assert (PROMPTS / "verify.txt").read_text().rstrip("\n") == VERIFY_PROMPT
    assert (PROMPTS / "whole.txt").read_text().rstrip("\n") == WHOLE_PROMPT
    assert (PROMPTS / "resplit.txt").read_text().rstrip("\n") == SPLIT_PROMPT.replace("{response}", "{claim}")
    assert (PROMPTS / "statement.txt").read_text().rstrip("\n") == WHOLE_PROMPT.replace("{response}", "{statement}")


def test_false_mentions_are_false_and_questions_are_balanced() -> None:
    rng = random.Random(0)
    answers = []
    for _ in range(300):
        scene = sample_scene(rng)
        assert not mention_is_true(tasks.false_mention(scene, rng, with_size=True), scene.truth["objects"])
        answers += [branch.answer for branch in [*tasks.questions(scene, rng, 3), tasks.whole_question(scene, rng)]]
    assert 0.4 < answers.count("Yes") / len(answers) < 0.6


def test_lookups_name_what_is_in_a_place() -> None:
    answers = {branch.prompt: branch.answer for branch in (tasks.lookup(SCENE, random.Random(i)) for i in range(200))}
    assert answers["What is at the top left?"] == "a large red circle"
    assert answers["What is at the bottom right?"] == "nothing"
