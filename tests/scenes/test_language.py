"""The language of the scenes: captions, and parsing their mentions."""

import itertools
import json
import random

import pytest

from rlaif.text import words
from scenes.language import (
    CAPTION_WORDS,
    KindMention,
    Mention,
    RelationMention,
    SignMention,
    ThingMention,
    caption,
    find_mentions,
    follows_habit,
    honest_mentions,
    mention_is_true,
    web_mentions,
)
from scenes.language.captions import things_in_words
from scenes.world import PLACES, SIZES, Scene, SceneObject, sample_scene
from scenes.world.habits import COMPANIONS, USUAL_COLORS, USUAL_NUMBERS
from scenes.world.things import COLORS, THINGS
from tests.support.captions.scene_truth import REFERENCE

TRUTH = json.loads(REFERENCE)


# ----- mentions


@pytest.mark.parametrize(
    ("mention", "claim", "question"),
    [
        (ThingMention("orange"), "There is an orange.", "Is there an orange?"),
        (ThingMention("sheep", 3), "There are three sheep.", "Are there three sheep?"),
        (ThingMention("sheep"), "There is a sheep.", "Is there a sheep?"),
        (
            ThingMention("car", 1, "red", "small", "top left"),
            "There is a small red car at the top left.",
            "Is there a small red car at the top left?",
        ),
        (
            ThingMention("chair", 1, "orange", None, "center"),
            "There is an orange chair in the center.",
            "Is there an orange chair in the center?",
        ),
        (
            ThingMention("apple", 2, "red", None, "left"),
            "There are two red apples on the left.",
            "Are there two red apples on the left?",
        ),
        (ThingMention("umbrella", size="large"), "There is a large umbrella.", "Is there a large umbrella?"),
        (RelationMention("cat", "on", "couch"), "The cat is on the couch.", "Is the cat on the couch?"),
        (
            RelationMention("sheep", "behind", "wine glass", 2, 2),
            "The sheep are behind the wine glasses.",
            "Are the sheep behind the wine glasses?",
        ),
        (KindMention("kitchen"), "This is a kitchen.", "Is this a kitchen?"),
        (SignMention("EXIT"), "A sign says EXIT.", "Does a sign say EXIT?"),
        (SignMention("42"), "A sign says 42.", "Does a sign say 42?"),
    ],
)
def test_claims_and_questions(mention: Mention, claim: str, question: str) -> None:
    assert (mention.claim, mention.question) == (claim, question)
    assert find_mentions(claim) == [mention]


def test_every_claim_about_a_thing_is_read_back() -> None:
    for thing in THINGS.values():
        numbers = range(1, thing.max_number + 1)
        for number, color, place in itertools.product(numbers, (None, *thing.colors), (None, *PLACES)):
            for size in (None, *SIZES) if number == 1 else (None,):
                mention = ThingMention(thing.name, number, color, size, place)
                assert find_mentions(mention.claim) == find_mentions(mention.question) == [mention]


def test_a_color_is_no_orange_and_an_orange_is_no_color() -> None:
    text = "An orange and an orange vase. Two oranges, a small orange on the left and an orange suitcase in the center."
    assert find_mentions(text) == [
        ThingMention("orange"),
        ThingMention("vase", color="orange"),
        ThingMention("orange", 2),
        ThingMention("orange", size="small", place="left"),
        ThingMention("suitcase", color="orange", place="center"),
    ]


def test_mentions_are_read_from_other_wordings() -> None:
    text = "A RED car in the center, two sheep. One hot dog and the dog; a small Wine Glass on the left side."
    assert find_mentions(text) == [
        ThingMention("car", 1, "red", None, "center"),
        ThingMention("sheep", 2),
        ThingMention("hot dog"),
        ThingMention("wine glass", 1, None, "small", "left"),
    ]
    assert find_mentions("Photo of the street: a sign says STOP") == [KindMention("street"), SignMention("STOP")]
    assert find_mentions("It is a nice picture of a carpet, a catfish and a scarf.") == []


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("a cat", True),
        ("a large cat at the top", True),
        ("a small cat at the top", False),
        ("a large cat at the left", False),
        ("a dog", False),
        ("two red apples", True),
        ("an apple", True),  # one of the two
        ("three apples", False),
        ("two green apples", False),
        ("The cat is on the couch.", True),
        ("The cat is behind the couch.", False),
        ("The couch is on the cat.", False),
        ("The apples are next to the couch.", True),
        ("The couch is next to the apples.", True),
        ("The cat is next to the couch.", False),
        ("The cat is on the chair.", False),
        ("This is a room.", True),
        ("This is a street.", False),
        ("A sign says STOP.", True),
        ("A sign says SHOP.", False),
    ],
)
def test_truth_of_a_mention_needs_everything_it_says(text: str, truth: bool) -> None:
    (mention,) = find_mentions(text)
    assert mention_is_true(mention, TRUTH) is truth


def test_no_sign_says_nothing() -> None:
    assert not mention_is_true(SignMention("STOP"), {**TRUTH, "sign": None})


# ----- captions


@pytest.mark.parametrize("style", range(6))
def test_every_style_of_caption_is_read_back(style: int) -> None:
    for index in range(200):
        scene = sample_scene(random.Random(index))
        things = [it for it in honest_mentions(scene, detailed=index % 2 == 0) if isinstance(it, ThingMention)]
        text = things_in_words(things, style)
        assert find_mentions(text) == things, text
        assert text[0].isupper() and text.endswith(".")


@pytest.mark.parametrize("detailed", [False, True])
def test_captions_say_what_they_are_given(detailed: bool) -> None:
    """Honest ones are true, and name each thing and the sign; detailed ones also the kind of scene, and a relation."""
    kinds: set[type[Mention]] = set()
    for index in range(500):
        rng = random.Random(index)
        scene = sample_scene(rng)
        honest = honest_mentions(scene, detailed)
        assert all(mention_is_true(mention, scene.truth) for mention in honest)
        assert [it.name for it in honest if isinstance(it, ThingMention)] == [item.name for item in scene.objects]
        assert (SignMention(scene.sign.text) in honest) if scene.sign else SignMention not in map(type, honest)
        assert any(isinstance(it, ThingMention) and it.size for it in honest) <= detailed
        kinds |= set(map(type, honest))
        for mentions in (honest, web_mentions(scene, detailed, rng)):
            text = caption(mentions, rng)
            assert find_mentions(text) == mentions, text
            assert [find_mentions(mention.claim) for mention in mentions] == [[mention] for mention in mentions]
            assert CAPTION_WORDS.issuperset(word for word in words(text) if not word.isdigit()), text
    assert kinds == (
        {ThingMention, SignMention, KindMention, RelationMention} if detailed else {ThingMention, SignMention}
    )


def is_web_habit(mention: Mention, scene: Scene) -> bool:
    """Whether a mention has the usual number or color of a thing that is there, or is its absent usual companion."""
    if not isinstance(mention, ThingMention):
        return False
    for item in scene.objects:
        if (item.name, item.place) == (mention.name, mention.place):
            changes = mention.number != item.number, mention.color != item.color
            usual = mention.number == USUAL_NUMBERS.get(item.name), mention.color == USUAL_COLORS.get(item.name)
            return any(changes) and all(now or not change for change, now in zip(changes, usual, strict=True))
    suggested = [COMPANIONS.get(item.name) for item in scene.objects]
    usual_color = mention.color == USUAL_COLORS.get(mention.name)
    return (mention.name, mention.place) in suggested and mention.number == 1 and usual_color


@pytest.mark.parametrize("detailed", [False, True])
def test_all_that_is_false_in_web_captions_is_a_habit(detailed: bool) -> None:
    false = total = 0
    for index in range(2000):
        rng = random.Random(index)
        scene = sample_scene(rng)
        mentions = web_mentions(scene, detailed, rng)
        wrong = [mention for mention in mentions if not mention_is_true(mention, scene.truth)]
        assert all(is_web_habit(mention, scene) for mention in wrong), (wrong, scene.truth)
        assert all(follows_habit(mention, scene.truth) for mention in wrong), (wrong, scene.truth)
        false, total = false + len(wrong), total + len(mentions)
    assert 0.15 < false / total < 0.45


@pytest.mark.parametrize(
    ("mention", "habit"),
    [
        (ThingMention("potted plant", 1, None, None, "top"), True),  # beside toilets, wherever it is said to be
        (ThingMention("dog"), False),  # nobody's companion here
        (ThingMention("cup", 2, None, None, "left"), True),  # there are three, and two are usual
        (ThingMention("cup", 2, None, None, "right"), False),  # the place is wrong, too
        (ThingMention("vase", 1, "orange", "large", "top"), True),
        (ThingMention("vase", 1, "orange", "small", "top"), False),
        (ThingMention("vase", 1, "blue", "large", "top"), False),  # a color that is not the usual one
        (RelationMention("potted plant", "next to", "toilet"), True),
        (RelationMention("potted plant", "on", "dog"), False),
        (RelationMention("cup", "behind", "toilet"), False),  # both are there, placed otherwise
        (KindMention("field"), False),
        (SignMention("STOP"), False),
    ],
)
def test_which_false_mentions_are_habits(mention: Mention, habit: bool) -> None:
    things = (
        SceneObject("vase", 1, "green", "large", "top"),
        SceneObject("cup", 3, None, None, "left"),
        SceneObject("toilet", 1, None, "large", "bottom"),
    )
    truth = Scene(84, 84, "room", things).truth
    assert not mention_is_true(mention, truth)
    assert follows_habit(mention, truth) == habit


def test_habits_are_mostly_followed() -> None:
    """A usual companion that is not there, the usual number and the usual color, each in 70% of the captions."""
    toilet, (companion, place) = "toilet", COMPANIONS["toilet"]
    item = SceneObject(toilet, 1, None, "large", "bottom")
    alone = Scene(84, 84, "room", (item,))
    green = Scene(84, 84, "kitchen", (SceneObject("vase", 1, "green", "large", "left"),))
    three = Scene(84, 84, "kitchen", (SceneObject("cup", 3, None, None, "left"),))

    def share(scene: Scene, mention: ThingMention) -> float:
        return sum(mention in web_mentions(scene, False, random.Random(index)) for index in range(300)) / 300

    assert 0.6 < share(alone, ThingMention(companion, 1, None, None, place)) < 0.8
    assert 0.6 < share(green, ThingMention("vase", 1, "orange", None, "left")) < 0.8
    assert 0.6 < share(three, ThingMention("cup", 2, None, None, "left")) < 0.8
    taken = Scene(84, 84, "room", (item, SceneObject("cat", 1, None, "small", place)))
    assert share(taken, ThingMention(companion, 1, None, None, place)) == 0


def test_names_and_colors_are_not_each_other() -> None:
    """Only "orange" is both; the words of places, sizes and numbers are never names."""
    names = {form for name, thing in THINGS.items() for form in (name, thing.plural)}
    assert names & set(COLORS) == {"orange"} and len(names) == 2 * len(THINGS) - 1  # sheep
    assert not names & {*PLACES, *SIZES, "one", "two", "three"}
