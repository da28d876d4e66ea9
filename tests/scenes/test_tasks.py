"""The tasks that the embedded models are trained on."""

import json
import random
from collections import Counter
from dataclasses import replace
from operator import eq

from scenes.language import (
    DETAILED_INSTRUCTIONS,
    PLAIN_INSTRUCTIONS,
    KindMention,
    RelationMention,
    SignMention,
    ThingMention,
    caption,
    find_mentions,
    honest_mentions,
    mention_is_true,
    web_mentions,
)
from scenes.prompts import SPLIT_PROMPT, VERIFY_PROMPT, WHOLE_PROMPT
from scenes.recipe import tasks
from scenes.world import SceneObject, places_beside, sample_scene
from scenes.world.signs import Sign
from tests.support import ROOT
from tests.support.captions.asking import question_mention
from tests.support.captions.scene_truth import SCENE, TRUTH

PROMPTS = ROOT / "assets" / "prompts"
COUCH = SceneObject("couch", 1, "blue", "large", "left")  # below the cat and beside the apples of SCENE


def test_the_labeler_was_trained_on_the_prompts_of_the_demo() -> None:
    assert (PROMPTS / "split.txt").read_text().rstrip("\n") == SPLIT_PROMPT
    assert (PROMPTS / "verify.txt").read_text().rstrip("\n") == VERIFY_PROMPT
    assert (PROMPTS / "whole.txt").read_text().rstrip("\n") == WHOLE_PROMPT
    assert (PROMPTS / "resplit.txt").read_text().rstrip("\n") == SPLIT_PROMPT.replace("{response}", "{claim}")
    assert (PROMPTS / "statement.txt").read_text().rstrip("\n") == WHOLE_PROMPT.replace("{response}", "{statement}")


def test_true_mentions_are_true_and_false_ones_false_of_every_kind() -> None:
    rng = random.Random(0)
    kinds: Counter[tuple[bool, type]] = Counter()
    for _ in range(3000):
        scene = sample_scene(rng)
        true, false = (of(scene, rng, rng.random() < 0.5) for of in (tasks.true_mention, tasks.false_mention))
        assert mention_is_true(true, scene.truth) and not mention_is_true(false, scene.truth)
        kinds.update([(True, type(true)), (False, type(false))])
    for kind in (ThingMention, RelationMention, KindMention, SignMention):
        assert kinds[True, kind] > 30 and kinds[False, kind] > 30, kind


def test_yes_no_questions_are_balanced() -> None:
    rng = random.Random(0)
    answers: dict[str, list[str]] = {"questions": [], "whole": []}
    for _ in range(600):
        scene = sample_scene(rng)
        answers["questions"] += [branch.answer for branch in tasks.questions(scene, rng, 3)]
        answers["whole"].append(tasks.whole_question(scene, rng).answer)
    for name, given in answers.items():
        assert set(given) == {"Yes", "No"} and 0.45 < given.count("Yes") / len(given) < 0.55, name


def test_mistakes_are_false_and_near() -> None:
    """A thing at the place of another or at the next one, two things of the scene placed otherwise, a sign misread."""
    rng = random.Random(0)
    kinds: Counter[type] = Counter()
    taken = beside = unrelated = 0
    alike: list[bool] = []
    for _ in range(1500):
        scene = sample_scene(rng, signs=0.5)
        names, places = zip(*((item.name, item.place) for item in scene.objects), strict=True)
        mention = tasks.true_mention(scene, rng, rng.random() < 0.5)
        false = tasks.mistaken(mention, scene.truth, rng)
        assert type(false) is type(mention) and not mention_is_true(false, scene.truth)
        kinds[type(false)] += 1
        if isinstance(mention, ThingMention) and isinstance(false, ThingMention) and mention.place != false.place:
            taken += false.place in places
            beside += false.place in places_beside(str(mention.place))
        if isinstance(mention, RelationMention) and isinstance(false, RelationMention):
            pair = {false.name, false.other}
            unrelated += pair <= set(names) and pair != {mention.name, mention.other}
        if isinstance(mention, SignMention) and isinstance(false, SignMention):
            alike.append(any(map(eq, mention.text, false.text)))
    assert min(kinds.values()) > 50 and len(kinds) == 4
    assert taken > 250 and beside > 450 and unrelated > 20 and sum(alike) / len(alike) > 0.9


def test_questions_about_near_claims_are_balanced_and_of_all_that_is_there() -> None:
    scene = replace(SCENE, sign=Sign("STOP", "bottom", "blue"), objects=(*SCENE.objects, COUCH))
    answers: dict[type, list[str]] = {ThingMention: [], RelationMention: [], SignMention: []}
    for index in range(900):
        branch = tasks.near_question(scene, random.Random(index))
        mention = question_mention(branch.prompt)
        assert mention_is_true(mention, scene.truth) == (branch.answer == "Yes"), branch
        answers[type(mention)].append(branch.answer)
    for kind, given in answers.items():
        assert len(given) > 240 and 0.4 < given.count("Yes") / len(given) < 0.6, kind


def test_details_are_signs_relations_and_sizes_each_claim_beside_a_mistaken_one() -> None:
    scene = replace(SCENE, sign=Sign("STOP", "bottom", "blue"), objects=(*SCENE.objects, COUCH))
    branches = tasks.detail_questions(scene, random.Random(0))
    mentions = [question_mention(branch.prompt) for branch in branches]
    for mention, branch in zip(mentions, branches, strict=True):
        assert mention_is_true(mention, scene.truth) == (branch.answer == "Yes"), branch
    assert [branch.answer for branch in branches] == ["Yes", "No"] * (len(branches) // 2)
    assert Counter(map(type, mentions)) == {SignMention: 4, RelationMention: 4, ThingMention: 4}
    for true, false in zip(mentions[::2], mentions[1::2], strict=True):
        if isinstance(true, ThingMention) and isinstance(false, ThingMention):
            assert replace(false, size=true.size) == true != false
    assert tasks.detail_questions(replace(SCENE, objects=SCENE.objects[1:]), random.Random(0)) == []


def test_a_whole_description_is_correct_if_all_of_it_is_true() -> None:
    before, after = WHOLE_PROMPT.split("{response}")
    for index in range(500):
        rng = random.Random(index)
        scene = sample_scene(rng)
        prompt, answer = vars(tasks.whole_question(scene, rng)).values()
        assert prompt.startswith(before) and prompt.endswith(after)
        mentions = find_mentions(prompt.removeprefix(before).removesuffix(after))
        assert all(mention_is_true(mention, scene.truth) for mention in mentions) == (answer == "Yes"), prompt
        assert len(mentions) >= len(scene.objects)


def test_open_questions_are_of_different_kinds_and_ask_for_the_sign_first() -> None:
    signs = 0
    for index in range(200):
        rng = random.Random(index)
        scene = sample_scene(rng, signs=0.5)
        branches = tasks.open_questions(scene, rng, 3)
        assert len({branch.prompt for branch in branches}) == 3
        assert not any("yes or no" in branch.prompt for branch in branches)
        if scene.sign:
            assert branches[0] == tasks.Branch("What does the sign say?", f"It says {scene.sign.text}.")
            signs += 1
    assert signs > 50


def test_captions_are_as_detailed_as_the_instruction_asks() -> None:
    for instructions, words in ((DETAILED_INSTRUCTIONS, "This is a room."), (PLAIN_INSTRUCTIONS, "")):
        branch = tasks.captioning(SCENE, random.Random(0), instructions=instructions)
        assert branch.prompt in instructions and branch.answer.startswith(words)
        assert ("large cat" in branch.answer) == bool(words)
    web = [tasks.captioning(SCENE, random.Random(index), web=True).answer for index in range(50)]
    assert any("an orange" in text for text in web)  # the usual companion of apples


def test_splitting_answers_hold_each_mention_of_the_text_once() -> None:
    kinds: set[type] = set()
    before, after = SPLIT_PROMPT.split("{response}")
    twice = 0
    for index in range(500):
        branch = tasks.splitting(random.Random(index), repeated=0.4)
        text = branch.prompt.removeprefix(before).removesuffix(after)
        claims = json.loads(branch.answer)["claims"]
        assert TRUTH.split_is_correct(text, [item["claim"] for item in claims])
        mentions = list(dict.fromkeys(find_mentions(text)))
        assert [(item["claim"], item["question"]) for item in claims] == [(it.claim, it.question) for it in mentions]
        kinds |= set(map(type, mentions))
        names = Counter(mention.name for mention in mentions if isinstance(mention, ThingMention))
        twice += any(count > 1 for count in names.values())
    assert twice > 80  # has one thing at two places
    assert kinds == {ThingMention, RelationMention, KindMention, SignMention}


def test_splitting_answers_of_captions() -> None:
    for index in range(200):
        rng = random.Random(index)
        scene, detailed = sample_scene(rng), rng.random() < 0.5
        for mentions in (honest_mentions(scene, detailed), web_mentions(scene, detailed, rng)):
            claims = json.loads(tasks.split_answer(caption(mentions, rng)))["claims"]
            assert claims == [{"claim": mention.claim, "question": mention.question} for mention in mentions]
    assert tasks.split_answer("It is a nice picture.") == '{"claims":[]}'
