"""Figures of an embedded model on scenes not used in training: things found, false mentions, verdicts, signs read."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor
from scenes.language import DETAILED_INSTRUCTIONS, find_mentions, follows_habit, mention_is_true
from scenes.language.mentions import count_things_found
from scenes.recipe import tasks
from scenes.short_questions import sign_question
from scenes.world import LARGE, MAX_OBJECTS, SMALL, Scene, render, sample_scene
from scenes.world.pictures import HELD_OUT, SETS


class PictureKind(NamedTuple):
    """objects: at most, of a scene; canvases: (width, height) -> share; sets: of assets/pictures."""

    objects: int
    canvases: Mapping[tuple[int, int], int]
    slicing: bool = False
    sets: tuple[str, ...] = SETS


PICTURE_KINDS = {
    "one object": PictureKind(1, SMALL),
    "new drawings": PictureKind(1, SMALL, sets=(HELD_OUT,)),
    "small": PictureKind(MAX_OBJECTS, SMALL),
    "large": PictureKind(MAX_OBJECTS, LARGE, slicing=True),
    "large, no slices": PictureKind(MAX_OBJECTS, LARGE),
}
BATCH_SIZE, MAX_NEW_TOKENS = 50, 120
RESAMPLES = 2000

Fraction = tuple[int, int]  # (correct, total)
Figures = dict[str, dict[str, tuple[float, float] | None]]  # figure -> kind of picture -> (percent, margin in points)


@dataclass(frozen=True)
class Question:
    """A picture and a prompt; score: what an answer adds to each figure."""

    image: Image.Image
    prompt: str
    score: Callable[[str], dict[str, Fraction]]


def recall(answer: str, scene: Scene) -> Fraction:
    """Things that the answer mentions / things of the scene."""
    return count_things_found(find_mentions(answer), scene.truth), len(scene.objects)


def false_mentions(answer: str, scene: Scene) -> dict[str, Fraction]:
    """False mentions / mentions; those that follow a habit / false mentions."""
    mentions = find_mentions(answer)
    wrong = [mention for mention in mentions if not mention_is_true(mention, scene.truth)]
    habitual = sum(follows_habit(mention, scene.truth) for mention in wrong)
    return {"false mentions": (len(wrong), len(mentions)), "of these habits": (habitual, len(wrong))}


def descriptions(scene: Scene, rng: random.Random) -> list[Question]:
    """A caption without an instruction, as in pre-training, and a detailed description."""

    def score(answer: str) -> dict[str, Fraction]:
        return {**false_mentions(answer, scene), "recall": recall(answer, scene)}

    image = render(scene)
    return [
        Question(image, "", lambda answer: {"caption recall": recall(answer, scene)}),
        Question(image, rng.choice(DETAILED_INSTRUCTIONS), score),
    ]


def exact_match(image: Image.Image, branch: tasks.Branch, name: str) -> Question:
    return Question(image, branch.prompt, lambda answer: {name: (int(answer == branch.answer), 1)})


def sample_questions(count: int, pictures: PictureKind) -> list[Question]:
    """For each of `count` scenes two descriptions and two yes/no questions, and a sign to read; deterministic."""
    questions = []
    for index in range(count):
        rng = random.Random(f"stages/{index}")
        scene = sample_scene(rng, pictures.objects, pictures.canvases, sets=pictures.sets)
        questions += descriptions(scene, rng)
        questions += [exact_match(render(scene), tasks.claim_question(scene, rng), "yes/no right") for _ in range(2)]
        with_sign = sample_scene(rng, pictures.objects, pictures.canvases, signs=1.0, sets=pictures.sets)
        reading = sign_question(with_sign.truth, rng)
        assert reading  # the scene has a sign
        questions.append(exact_match(render(with_sign), tasks.branch_of(reading), "sign read"))
    return questions


@torch.no_grad()
def greedy_answers(
    model: MiniCPMVForConditionalGeneration, processor: MiniCPMVProcessor, questions: Sequence[Question]
) -> Iterator[tuple[Question, str]]:
    """Questions with their answers. A batch has prompts of one length, so that nothing is padded."""
    groups: dict[int, list[tuple[Question, str]]] = defaultdict(list)
    for question in questions:
        parts = [{"type": "image"}, {"type": "text", "text": question.prompt}]
        prompt = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
        length = len(processor.expand(processor.encode_rendered(prompt), [question.image.size]))
        groups[length].append((question, prompt))
    for group in groups.values():
        for start in range(0, len(group), BATCH_SIZE):
            chunk = group[start : start + BATCH_SIZE]
            batch = processor([[question.image] for question, _ in chunk], [prompt for _, prompt in chunk])
            inputs = {name: value.to(model.device) for name, value in batch.items()}
            ids = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
            texts = processor.tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            yield from zip([question for question, _ in chunk], texts, strict=True)


def margin(fractions: Sequence[Fraction]) -> float:
    """The larger distance, in points, between the share and an end of its 95% interval (bootstrap over questions)."""
    counts = np.array(fractions)
    rng = np.random.default_rng(0)
    resampled = counts[rng.integers(len(counts), size=(RESAMPLES, len(counts)))].sum(axis=1)
    shares = 100 * resampled[:, 0] / np.maximum(resampled[:, 1], 1)
    correct, total = counts.sum(axis=0)
    return float(np.abs(np.quantile(shares, [0.025, 0.975]) - 100 * correct / total).max())


def model_figures(folder: Path, count: int) -> Figures:
    """The figures of a model at the resolution that it was saved with, from `count` scenes of each kind of picture.

    None: nothing to count. Errors: ValueError, OSError if the folder has no model.
    """
    model = MiniCPMVForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    processor = MiniCPMVProcessor.from_pretrained(folder)
    figures: Figures = defaultdict(dict)
    for kind, pictures in PICTURE_KINDS.items():
        processor.image_processor.slice_mode = pictures.slicing
        by_figure: dict[str, list[Fraction]] = defaultdict(list)
        for question, answer in greedy_answers(model, processor, sample_questions(count, pictures)):
            for name, fraction in question.score(answer).items():
                by_figure[name].append(fraction)
        for name, fractions in by_figure.items():
            correct, total = (sum(column) for column in zip(*fractions, strict=True))
            figures[name][kind] = (round(100 * correct / total, 1), round(margin(fractions), 1)) if total else None
    return figures
