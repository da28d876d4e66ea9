"""The embedded scenes in the file formats of public benchmarks, read by the readers of published files."""

import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from evaluation.benchmarks.amber import Scene as AmberScene
from evaluation.benchmarks.amber import read_amber
from evaluation.benchmarks.chair import find_words, read_chair
from evaluation.benchmarks.mmhal import read_mmhal
from evaluation.benchmarks.pope import read_pope
from evaluation.benchmarks.questions import usable_image
from evaluation.benchmarks.stage import READERS
from rlaif.config import BenchmarkSection
from scenes.benchmarks import write_files
from scenes.benchmarks.amber import suggested_things
from scenes.benchmarks.pope import pope_records
from scenes.benchmarks.sampling import sample_scenes
from scenes.benchmarks.synonyms import SYNONYMS, WORDS
from scenes.language import KindMention, RelationMention, ThingMention, find_mentions, mention_is_true
from scenes.prompts import VERIFY_PROMPT
from scenes.world import Scene, SceneObject
from scenes.world.habits import COMPANIONS
from scenes.world.things import THINGS
from tests.support.captions.asking import question_mention

SCENES = 60
DEFAULT = BenchmarkSection()
ENDING = VERIFY_PROMPT.replace("{question}", "")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedded")
    for name in READERS:
        write_files(name, folder / name, SCENES)
    return folder


def thing_asked(prompt: str) -> ThingMention:
    (mention,) = find_mentions(prompt)
    assert isinstance(mention, ThingMention) and prompt == mention.question + ENDING
    return mention


@pytest.mark.parametrize("name", READERS)
def test_the_same_files_every_time(embedded: Path, tmp_path: Path, name: str) -> None:
    write_files(name, tmp_path / name, SCENES)
    files = [path for path in (embedded / name).rglob("*") if path.is_file()]
    assert len(files) > SCENES
    for file in files:
        assert (tmp_path / name / file.relative_to(embedded / name)).read_bytes() == file.read_bytes(), file


@pytest.mark.parametrize("name", READERS)
def test_files_are_read_as_published_ones(embedded: Path, name: str) -> None:
    data = READERS[name](embedded / name, DEFAULT)
    counts = {"pope": 3 * 6 * SCENES, "chair": SCENES, "mmhal": SCENES}
    assert len(data.questions) == counts.get(name, len(data.questions)) >= SCENES
    assert len({question.image_id for question in data.questions}) == SCENES
    drops: list[str] = []
    for question in data.questions:
        assert usable_image(question, embedded / name / "images", lambda *drop: drops.append(drop[1]))
    assert not drops


# ----- POPE


def test_half_of_popes_questions_are_about_absent_things(embedded: Path) -> None:
    pope = read_pope(embedded / "pope", DEFAULT)
    named: dict[tuple[str, bool], set[str]] = {}
    for question in pope.questions:
        _, present = pope.labels[question.question_id]
        named.setdefault((question.image_id, present), set()).add(thing_asked(question.text).name)
    assert len(named) == 2 * SCENES
    assert Counter(pope.labels.values()) == {
        (kind, present): 3 * SCENES for kind in ("random", "popular", "adversarial") for present in (True, False)
    }
    for (image, _), names in named.items():
        assert not named[image, True] & named[image, False] and names <= set(THINGS)


def test_popular_and_adversarial_things_are_those_of_the_world() -> None:
    """In the world, a cat is in four scenes and a dog in three; beside a tv there are a couch (2) and a cat (1)."""
    world = [["cat", "dog"], ["cat", "dog"], ["cat", "dog", "cup"], ["tv", "couch"], ["tv", "couch", "cat"]]
    objects = {"a": ["tv", "bear", "car"], "b": ["cat", "couch", "dog"]}

    def absent(kind: str, image: str) -> dict[str, str]:
        """Thing of the image -> the absent one that follows."""
        records = [record for record in pope_records(kind, objects, world) if record["image"] == image]
        assert [record["label"] for record in records] == ["yes", "no"] * 3
        names = [thing_asked(record["text"]).name for record in records]
        assert set(names[0::2]) == set(objects[image]) and not set(names[1::2]) & set(objects[image])
        assert len(set(names[1::2])) == 3
        return dict(zip(names[0::2], names[1::2], strict=True))

    assert list(absent("popular", "a").values()) == ["cat", "dog", "couch"]
    assert next(iter(absent("popular", "b").values())) == "tv"
    assert absent("adversarial", "a")["tv"] == "couch"
    beside = absent("adversarial", "b")
    assert beside["couch"] == "tv" or beside["cat"] == "tv"
    assert [record["question_id"] for record in pope_records("random", objects, world)] == list(range(1, 13))


def test_habits_show_in_adversarial_questions(embedded: Path) -> None:
    """Companions are asked about more often than among random things."""
    shares = {}
    for kind in ("random", "adversarial"):
        lines = (embedded / "pope" / f"scenes_pope_{kind}.json").read_text().splitlines()
        names = [thing_asked(json.loads(line)["text"]).name for line in lines]
        pairs = list(zip(names[0::2], names[1::2], strict=True))
        shares[kind] = sum(COMPANIONS.get(name, ("",))[0] == absent for name, absent in pairs) / len(pairs)
    assert shares["adversarial"] > 3 * shares["random"] and shares["adversarial"] > 0.15


# ----- CHAIR


def test_chairs_truth_is_that_of_its_captions(embedded: Path) -> None:
    chair = read_chair(embedded / "chair", DEFAULT)
    captions = json.loads((embedded / "chair/captions_scenes.json").read_text())["annotations"]
    instances = json.loads((embedded / "chair/instances_scenes.json").read_text())
    names = {item["id"]: item["name"] for item in instances["categories"]}
    annotated: dict[int, set[str]] = {item["image_id"]: set() for item in captions}
    for item in instances["annotations"]:
        annotated[item["image_id"]].add(names[item["category_id"]])
    for item in captions:
        assert {word.object for word in find_words(chair.names, item["caption"])} == annotated[item["image_id"]]
        assert chair.truth[str(item["image_id"])] == annotated[item["image_id"]]
    assert list(names.values()) == list(THINGS)


def test_several_of_a_thing_are_several_instances(embedded: Path) -> None:
    instances = json.loads((embedded / "chair/instances_scenes.json").read_text())["annotations"]
    of_images = Counter((item["image_id"], item["category_id"]) for item in instances)
    scenes = list(islice(sample_scenes("chair", signs=0), SCENES))
    numbers = [item.number for scene, _ in scenes for item in scene.objects]
    assert sorted(of_images.values()) == sorted(numbers) and max(numbers) > 1


@pytest.mark.parametrize(
    ("text", "objects"),
    [
        ("Two puppies and a kitten on a sofa.", ["dog", "cat", "couch"]),
        ("An orange chair and an orange.", ["chair", "orange"]),
        ("Orange armchairs, three oranges, orange sofas.", ["chair", "orange", "couch"]),
        ("A hot dog beside wine glasses.", ["hot dog", "wine glass"]),
        ("Three knives, sheep and a pair of cups", ["knife", "sheep", "cup"]),
        ("A traffic light at a stop sign, a school bus.", ["traffic light", "stop sign", "bus"]),
        ("A bus stop with a sign.", ["bus"]),
        ("Nothing but a carpet and a catfish.", []),
    ],
)
def test_things_are_found_by_any_of_their_words(embedded: Path, text: str, objects: list[str]) -> None:
    chair = read_chair(embedded / "chair", DEFAULT)
    assert [word.object for word in find_words(chair.names, text)] == objects
    amber = read_amber(embedded / "amber", DEFAULT)
    things = [name for word in amber.names.find(text) for name, words in WORDS.items() if word in words]
    assert things == objects


def test_no_word_stands_for_two_things() -> None:
    words = [word for words in WORDS.values() for word in words]
    assert len(words) == len(set(words)) and set(SYNONYMS) <= set(THINGS) == set(WORDS)
    assert all(words[0] == name for name, words in WORDS.items())


# ----- AMBER


def test_amber_is_true_of_its_scenes(embedded: Path) -> None:
    """Answers are found again from the scenes that the files were written from."""
    amber = read_amber(embedded / "amber", DEFAULT)
    scenes = {
        f"AMBER_{index}.png": scene
        for index, (scene, _) in enumerate(
            islice(sample_scenes("amber", lambda scene: bool(suggested_things(scene)), signs=0), SCENES), start=1
        )
    }
    kinds: Counter[tuple[tuple[str, ...], bool]] = Counter()
    for question in amber.questions:
        annotation, scene = amber.annotations[question.question_id], scenes[question.image_id]
        if isinstance(annotation, AmberScene):
            assert annotation.truth == [item.name for item in scene.objects]
            assert annotation.hallu == suggested_things(scene) and not set(annotation.truth) & set(annotation.hallu)
            continue
        mention = question_mention(question.text)
        assert mention_is_true(mention, scene.truth) == annotation.truth, question
        kinds[tuple(annotation.kinds), annotation.truth] += 1
        if annotation.kinds == ("existence",):
            assert isinstance(mention, ThingMention) and mention.name in suggested_things(scene)
    assert sum(isinstance(item, AmberScene) for item in amber.annotations.values()) == SCENES
    assert ("existence",) in {kind for kind, _ in kinds} and kinds[("existence",), True] == 0
    for kind in (("attribute", "state"), ("attribute", "number"), ("relation",)):
        assert kinds[kind, True] == kinds[kind, False] > 5, kind


def test_relations_of_two_things_are_among_ambers_questions(embedded: Path) -> None:
    queries = json.loads((embedded / "amber/data/query/query_discriminative.json").read_text())
    relations = {
        mention.relation for item in queries if isinstance(mention := question_mention(item["query"]), RelationMention)
    }
    assert relations == {"next to", "on", "behind"}


def test_habits_suggest_companions_that_are_not_there_where_they_usually_are() -> None:
    def scene(*objects: SceneObject) -> Scene:
        return Scene(84, 84, "room", objects)

    tv, couch = SceneObject("tv", 1, None, "large", "top"), SceneObject("couch", 1, "blue", "large", "bottom")
    assert suggested_things(scene(tv)) == ["couch"]
    assert suggested_things(scene(tv, couch)) == []  # both are there
    cat = SceneObject("cat", 1, None, "small", "bottom")
    assert suggested_things(scene(tv, cat)) == []  # its place is taken
    assert suggested_things(scene(SceneObject("sheep", 3, None, None, "center"), tv)) == ["dog", "couch"]


# ----- MMHal-Bench


def test_mmhals_questions_are_open_and_their_answers_sentences(embedded: Path) -> None:
    mmhal = read_mmhal(embedded / "mmhal", DEFAULT)
    types = ["attribute", "adversarial", "counting", "relation", "environment", "holistic"]
    assert [known.kind for known in mmhal.known.values()] == types * (SCENES // 6)
    for known in mmhal.known.values():
        assert known.objects and set(known.objects) <= set(THINGS) and known.answer.endswith(".")
        named = {name for name in THINGS if name in known.question or THINGS[name].plural in known.question}
        if known.kind in ("attribute", "counting", "relation"):
            assert named & set(known.objects), known
        elif known.kind == "adversarial":
            assert max(named, key=len) not in known.objects and known.answer == "There are none."
        elif known.kind == "environment":
            assert isinstance(find_mentions(known.answer)[0], KindMention)
        else:
            things = [it.name for it in find_mentions(known.answer) if isinstance(it, ThingMention)]
            assert things == list(known.objects)


def test_an_unknown_benchmark_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        write_files("popes", tmp_path / "popes", 1)
    assert not any(tmp_path.iterdir())
