"""The embedded default: scenes with a known truth, their language, and the recipe of the shipped models."""

import io
import itertools
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor
from model.embedded import tasks, train
from model.embedded.batches import RowEncoder, StepData, branch_mask
from model.embedded.language import (
    INSTRUCTIONS,
    Mention,
    caption,
    find_mentions,
    honest_mentions,
    mention_is_true,
    web_mentions,
)
from model.embedded.scenes import (
    CANVASES,
    COMPANIONS,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    SceneObject,
    render,
    sample_scene,
    scene_rows,
)
from model.slicing import best_grid

PROMPTS = Path(__file__).parent.parent / "feedback" / "prompts"
ROW = Scene(
    84,
    84,
    (255, 255, 255),
    (SceneObject("circle", "red", "large", "top left"), SceneObject("star", "blue", "small", "center")),
)


def test_the_labeler_is_taught_the_prompts_that_feedback_asks() -> None:
    assert (PROMPTS / "split.txt").read_text().rstrip("\n") == tasks.SPLIT_PROMPT
    assert (PROMPTS / "verify.txt").read_text().rstrip("\n") == tasks.VERIFY_PROMPT
    assert (PROMPTS / "whole.txt").read_text().rstrip("\n") == tasks.WHOLE_PROMPT


def test_scenes_are_fixed_by_seed_and_splits_are_disjoint() -> None:
    train_rows, test_rows = (list(scene_rows(split, 50, 0)) for split in ("train", "test"))
    assert train_rows == list(scene_rows("train", 50, 0))
    assert train_rows[:10] == list(scene_rows("train", 10, 0))
    assert not {row.png for row in train_rows} & {row.png for row in test_rows}
    assert not {row.png for row in train_rows} & {row.png for row in scene_rows("train", 50, 1)}
    assert len({row.instruction for row in scene_rows("test", 300, 0)}) >= 8


def test_unknown_split_is_an_error() -> None:
    with pytest.raises(ValueError, match="split 'dev' of the embedded scenes; allowed: train, validation, test"):
        next(scene_rows("dev", 1, 0))


def test_some_canvases_need_slicing_and_some_do_not() -> None:
    grids = {best_grid(size, train.RESOLUTION, 9) for size in CANVASES}
    assert grids >= {None, (2, 1), (1, 2), (2, 2)}


def test_the_picture_shows_the_truth() -> None:
    image = render(ROW)
    assert image.getpixel((14, 6)) == (214, 40, 40)  # the top of the top left circle, which is open
    assert image.getpixel((14, 14)) == (255, 255, 255)
    assert image.getpixel((42, 42)) == (38, 84, 214)
    assert image.getpixel((70, 70)) == (255, 255, 255)
    (row,) = scene_rows("test", 1, 5)
    assert Image.open(io.BytesIO(row.png)).size == (row.reference["width"], row.reference["height"])
    assert json.loads(json.dumps(row.reference)) == row.reference


def test_no_two_shapes_or_sizes_look_alike() -> None:
    looks = {
        (shape, size): np.asarray(render(Scene(84, 84, (255,) * 3, (SceneObject(shape, "red", size, "center"),))))
        for shape in SHAPES
        for size in SIZES
    }
    for one, other in itertools.combinations(looks, 2):
        different = (looks[one] != looks[other]).any(-1).sum()
        inked = max((look != 255).any(-1).sum() for look in (looks[one], looks[other]))
        assert different > 0.3 * inked, (one, other, different, inked)


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
    objects = ROW.truth["objects"]
    assert mention_is_true(Mention("red", "circle"), objects)
    assert mention_is_true(Mention("red", "circle", "large", "top left"), objects)
    assert not mention_is_true(Mention("red", "circle", "small", "top left"), objects)
    assert not mention_is_true(Mention("red", "circle", None, "center"), objects)
    assert not mention_is_true(Mention("blue", "circle"), objects)


def test_web_captions_follow_habits_and_honest_ones_do_not() -> None:
    trigger, (color, shape, place) = next(iter(COMPANIONS.items()))
    scene = Scene(84, 84, (255, 255, 255), (SceneObject(trigger[1], trigger[0], "large", "left"),))
    said = [web_mentions(scene, INSTRUCTIONS[0], random.Random(index)) for index in range(300)]
    invented = sum(Mention(color, shape, None, place) in mentions for mentions in said) / 300
    assert 0.75 < invented < 0.95
    assert all(len(mentions) <= 2 for mentions in said)


def test_false_mentions_are_false_and_questions_are_balanced() -> None:
    rng = random.Random(0)
    answers = []
    for _ in range(300):
        scene = sample_scene(rng)
        assert not mention_is_true(tasks.false_mention(scene, rng, with_size=True), scene.truth["objects"])
        answers += [branch.answer for branch in [*tasks.questions(scene, rng, 3), tasks.whole_question(scene, rng)]]
    assert 0.4 < answers.count("Yes") / len(answers) < 0.6


def test_lookups_name_what_is_in_a_place() -> None:
    answers = {branch.prompt: branch.answer for branch in (tasks.lookup(ROW, random.Random(i)) for i in range(200))}
    assert answers["What is at the top left?"] == "a large red circle"
    assert answers["What is at the bottom right?"] == "nothing"


def test_yes_and_no_begin_with_one_object_and_its_colour() -> None:
    rng = random.Random(0)
    prompts = {step: [branch for _, asked in train.question_rows(rng, step) for branch in asked] for step in (0, 300)}
    asked = {step: [b.prompt for b in branches if b.kind == "verdict"] for step, branches in prompts.items()}
    assert all(prompt.startswith("Is there anything ") for prompt in asked[0])
    assert any(prompt.startswith("Is there a ") for prompt in asked[300])
    assert {branch.kind for branch in prompts[300]} == {"text", "lookup", "verdict"}


def test_scenes_hold_one_object_a_place_in_reading_order() -> None:
    for index in range(200):
        scene = sample_scene(random.Random(index))
        places = [PLACES.index(item.place) for item in scene.objects]
        assert 1 <= len(places) <= 4 and places == sorted(set(places))
        assert all(item.size in SIZES for item in scene.objects)


def test_branch_mask_by_hand() -> None:
    # prefix of 2, branches of 2 and 1, one padding
    seen = branch_mask(torch.tensor([[0, 0, 1, 1, 2, -1]]), torch.float32)[0, 0] == 0
    assert seen.int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]


@torch.no_grad()
def test_a_branch_has_the_logits_it_would_have_alone(tiny_model: Path) -> None:
    model = MiniCPMVForConditionalGeneration.from_pretrained(tiny_model, dtype=torch.float32).eval()
    encoder = RowEncoder(MiniCPMVProcessor.from_pretrained(tiny_model))
    rng = random.Random(0)
    branches = [*tasks.captioning(ROW, rng), *tasks.questions(ROW, rng, 2)]

    def logits(asked: list[tasks.Branch], keep_apart: bool = True) -> torch.Tensor:
        batch = encoder.batch([(render(ROW), asked)])
        apart = batch.pop("branches") if keep_apart else torch.zeros_like(batch.pop("branches"))
        batch.pop("kinds")
        return model(**batch, attention_mask=branch_mask(apart, torch.float32)).logits[0]

    together, alone = logits(branches), logits(branches[2:])
    length = len(encoder.encode(render(ROW), branches[2:]).ids) - len(encoder.encode(render(ROW), []).ids)
    assert torch.allclose(together[-length:], alone[-length:], atol=1e-5)
    assert not torch.allclose(
        logits(branches, keep_apart=False)[-length:], alone[-length:], atol=1e-3
    )  # negative control


def test_steps_are_seeded_by_their_number(tiny_model: Path) -> None:
    data = StepData(RowEncoder(MiniCPMVProcessor.from_pretrained(tiny_model)), train.labeler_rows, "labeler", 0, 10)
    first, again, other = data[3], data[3], data[4]
    assert torch.equal(first["input_ids"], again["input_ids"])
    assert first["input_ids"].shape != other["input_ids"].shape or not torch.equal(
        first["input_ids"], other["input_ids"]
    )


def test_training_resumes_to_the_same_weights(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(rng: random.Random, step: int) -> list[tuple[Image.Image | None, list[tasks.Branch]]]:
        scene = sample_scene(rng)
        return [(render(scene), tasks.captioning(scene, rng)), (None, tasks.splitting(rng, 1))]

    def stopping(rng: random.Random, step: int) -> list[tuple[Image.Image | None, list[tasks.Branch]]]:
        if step == 3:
            raise OSError("the disk went away")
        return rows(rng, step)

    monkeypatch.setattr(train, "CHECKPOINT_EVERY", 2)
    device = torch.device("cpu")
    for name, sampled in (("straight", rows), ("stopped", stopping)):
        shutil.copytree(tiny_model, tmp_path / name / "tiny")
        stage = train.Stage("base", "tiny", sampled, 4, 1e-3)
        if sampled is stopping:
            with pytest.raises(OSError, match="the disk went away"):
                train.train_stage(stage, tmp_path / name, 0, device)
            stage = train.Stage("base", "tiny", rows, 4, 1e-3)
        train.train_stage(stage, tmp_path / name, 0, device)
    straight, stopped = (
        MiniCPMVForConditionalGeneration.from_pretrained(tmp_path / name / "base").state_dict()
        for name in ("straight", "stopped")
    )
    for name, value in straight.items():
        assert torch.equal(value, stopped[name]), name
    # the vocabulary is the one that the stage before was trained with
    before, after = ((tmp_path / "straight" / name / "tokenizer.json").read_text() for name in ("tiny", "base"))
    assert json.loads(before)["model"]["vocab"] == json.loads(after)["model"]["vocab"]
