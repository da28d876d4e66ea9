"""Names of objects in a text."""

import pytest

from evaluation.benchmarks.objects import Names, plurals


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("dog", {"dogs"}),
        ("bus", {"buses"}),
        ("bench", {"benches"}),
        ("puppy", {"puppies"}),
        ("toy", {"toys"}),
        ("knife", {"knives", "knifes"}),
        ("tomato", {"tomatoes", "tomatos"}),
        ("policewoman", {"policewomen"}),
        ("human", {"humans"}),
        ("grandchild", {"grandchildren"}),
        ("person", {"people", "persons"}),
        ("sheep", {"sheep"}),
        ("mouse", {"mice"}),
    ],
)
def test_plurals(noun: str, expected: set[str]) -> None:
    assert plurals(noun) == expected


def test_the_longest_name_wins_and_plurals_are_names() -> None:
    names = Names({"dog": "dog", "hot dog": "hot dog", "wine glass": "wine glass", "glass": "glass", "teddy bear": None,
                   "bear": "bear"})  # fmt: skip
    text = "Two hot dogs, a DOG; wine glasses, a glass. The teddy bear is no bear"
    assert names.find(text) == ["hot dog", "dog", "wine glass", "glass", "bear"]
    assert names.find("dogma, hotdog") == []


def test_a_name_that_is_a_function_word_is_found_in_the_plural_alone() -> None:
    assert Names({"can": "can"}).find("I can see two cans") == ["can"]


def test_no_names_find_nothing() -> None:
    assert Names({}).find("a dog") == []


NAMES = Names(
    {name: name for name in ("dog", "hot dog", "clock", "horse", "person", "man", "cat", "stop sign", "fire hydrant",
                             "wine glass", "minivan", "air-conditioning", "shepherd's pie", "\u72d7", "\u70ed\u72d7")}
)  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "The soup is hot. Dogs play.",
        "It is hot, dogs are out",
        "a hot (dog)",
        "hot\u2014dogs",
        "hot: dog",
        "hot\ndogs",
        "\u6c64\u5f88\u70ed\u3002\u72d7\u5728\u73a9",
        "hot / dog",
    ],
)
def test_a_name_ends_with_its_clause(text: str) -> None:
    assert NAMES.find(text) in (["dog"], ["\u72d7"])


@pytest.mark.parametrize(
    "text",
    [
        "two o'clock",
        "2 o\u2019clock",
        "a horse-drawn carriage",
        "a first-person view",
        "a first\u2011person view",
        "a dog-friendly, man-made park",
        "cat- and dog-themed",
        "a cat's-eye",
        "the stop's sign",
        "a hot-dog-stand",
        "a wine-glass-shaped vase",
        "a non-person",
        "catdog",
    ],
)
def test_part_of_a_word_is_no_name(text: str) -> None:
    assert NAMES.find(text) == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a hot-dog beside two fire-hydrants and a Wine\u2010Glass", ["hot dog", "fire hydrant", "wine glass"]),
        ("a hot-dog stand", ["hot dog"]),
        ("a mini-van", ["minivan"]),
        ("hot_dog", ["hot dog"]),
        ("air conditioning, air-conditioning", ["air-conditioning"] * 2),
        ("the dog's tail, a dog\u2019s tail, the DOGS' tails", ["dog"] * 3),
        ("the shepherd's pie", ["shepherd's pie"]),
        ("The man'd pet a 'dog'", ["man", "dog"]),
        ("- dog\n-cat\n**hot dog**", ["dog", "cat", "hot dog"]),
        ("a dog - a cat -- a man", ["dog", "cat", "man"]),
        ("near the dog.There is a man", ["dog", "man"]),
        ("a h\u00adot d\u200bog", ["hot dog"]),
        ("\u4e00\u53ea\u72d7\u548c\u4e00\u4e2a\u70ed\u72d7", ["\u72d7", "\u70ed\u72d7"]),
    ],
)
def test_whole_words(text: str, names: list[str]) -> None:
    assert NAMES.find(text) == names
