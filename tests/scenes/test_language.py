"""The language of the scenes: captions, and parsing their mentions."""

import json
import random

from scenes.language import (
    INSTRUCTIONS,
    Mention,
    caption,
    find_mentions,
    honest_mentions,
    mention_is_true,
    web_mentions,
)
from scenes.recipe import tasks
from scenes.world import COMPANIONS, Scene, SceneObject, sample_scene
from tests.support.captions.scene_truth import SCENE


def test_captions_say_what_they_are_given_and_mentions_are_read_back() -> None:
    for index in range(200):
        rng = random.Random(index)
        scene, instruction = sample_scene(rng), rng.choice(INSTRUCTIONS)
        mentions = honest_mentions(scene, instruction)
        text = caption(mentions, rng)
        assert find_mentions(text) == mentions, text
        assert all(mention_is_true(mention, scene.truth["objects"]) for mention in mentions)
        claims = json.loads(tasks.split_answer(text))["claims"]
        assert [find_mentions(item["claim"]) for item in claims] == [[mention] for mention in mentions]
        assert [find_mentions(item["question"]) for item in claims] == [[mention] for mention in mentions]


def test_mentions_are_read_from_other_wordings() -> None:
    text = "An ORANGE star in the center, two red squares. The circle is nice; a small blue circle on the left side."
    assert find_mentions(text) == [
        Mention("orange", "star", None, "center"),
        Mention("red", "square"),
        Mention("blue", "circle", "small", "left"),
    ]


def test_truth_of_a_mention_needs_everything_it_says() -> None:
    objects = SCENE.truth["objects"]
    assert mention_is_true(Mention("red", "circle"), objects)
    assert mention_is_true(Mention("red", "circle", "large", "top left"), objects)
    assert not mention_is_true(Mention("red", "circle", "small", "top left"), objects)
    assert not mention_is_true(Mention("red", "circle", None, "center"), objects)
    assert not mention_is_true(Mention("blue", "circle"), objects)


def test_web_captions_follow_habits_and_honest_ones_do_not() -> None:
    trigger, (color, shape, place) = next(iter(COMPANIONS.items()))
    scene = Scene(84, 84, (255, 255, 255), (SceneObject(trigger[1], trigger[0], "large", "left"),))
    captions = [web_mentions(scene, INSTRUCTIONS[0], random.Random(index)) for index in range(300)]
    invented = sum(Mention(color, shape, None, place) in mentions for mentions in captions) / 300
    assert 0.75 < invented < 0.95
    assert all(len(mentions) <= 2 for mentions in captions)
