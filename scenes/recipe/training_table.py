"""What each stage of training adds, on scenes and texts that none of them was trained on, as a table.

    python -m scenes.recipe.training_table runs/training/pretrain-1 runs/training/sft-2

Of each model: objects that it finds with no instruction, as in pre-training; object mentions that are false and objects
that are found when it describes a picture in detail; yes/no questions and readings of rendered text that it gets right;
all in percent. Pictures are of four kinds: small ones (no slice is needed) of one object and of any number, large ones
(seen with their slices), and the same large ones seen without (the overview alone). The last row says how far from its
figure either end of a 95% confidence interval is at most, in points: bootstrap over the questions that were asked.
"""

import argparse
import json
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor
from scenes import rendered_text
from scenes.language import DETAILED_INSTRUCTIONS, find_mentions, mention_is_true
from scenes.recipe import tasks
from scenes.world import LARGE, MAX_OBJECTS, SMALL, Scene, render, sample_scene

KINDS: dict[str, tuple[int, Mapping[tuple[int, int], int], bool]] = {  # most objects, canvases, slicing
    "one object": (1, SMALL, False),
    "small": (MAX_OBJECTS, SMALL, False),
    "large": (MAX_OBJECTS, LARGE, True),
    "large, no slices": (MAX_OBJECTS, LARGE, False),
}
BATCH, LONGEST = 50, 120
RESAMPLES = 2000

Figures = dict[str, dict[str, tuple[float, float] | None]]  # figure -> kind of picture -> percent, points to either end


@dataclass(frozen=True)
class Question:
    """A picture, what is asked about it, and how an answer counts: (right, out of)."""

    image: Image.Image
    prompt: str
    judge: Callable[[str], dict[str, tuple[int, int]]]


def found(answer: str, scene: Scene) -> tuple[int, int]:
    objects = scene.truth["objects"]
    return sum(any(mention_is_true(said, [item]) for said in find_mentions(answer)) for item in objects), len(objects)


def false(answer: str, scene: Scene) -> tuple[int, int]:
    mentions = find_mentions(answer)
    return sum(not mention_is_true(said, scene.truth["objects"]) for said in mentions), len(mentions)


def described(scene: Scene, rng: random.Random) -> list[Question]:
    def judge(answer: str) -> dict[str, tuple[int, int]]:
        return {"false mentions": false(answer, scene), "recall": found(answer, scene)}

    image = render(scene)
    return [
        Question(image, "", lambda answer: {"caption recall": found(answer, scene)}),
        Question(image, rng.choice(DETAILED_INSTRUCTIONS), judge),
    ]


def exact(image: Image.Image, branch: tasks.Branch, name: str) -> Question:
    return Question(image, branch.prompt, lambda answer: {name: (int(answer == branch.answer), 1)})


def questions(count: int, objects: int, canvases: Mapping[tuple[int, int], int]) -> list[Question]:
    """`count` scenes, described twice and asked about twice, and as many texts to read; the same every time."""
    asked = []
    for index in range(count):
        rng = random.Random(f"stages/{index}")
        scene = sample_scene(rng, objects, canvases)
        asked += described(scene, rng)
        asked += [exact(render(scene), tasks.claim_question(scene, rng), "yes/no right") for _ in range(2)]
        text = rendered_text.sample_text(rng, canvases)
        reading = rendered_text.reading(text.words, rng)
        asked.append(exact(rendered_text.render_text(text), reading, "text read"))
    return asked


@torch.no_grad()
def answers(
    model: MiniCPMVForConditionalGeneration, processor: MiniCPMVProcessor, asked: Sequence[Question]
) -> Iterable[tuple[Question, str]]:
    """Greedy answers. Prompts of the same length go together, so that none is padded."""
    groups: dict[int, list[tuple[Question, str]]] = defaultdict(list)
    for question in asked:
        parts = [{"type": "image"}, {"type": "text", "text": question.prompt}]
        prompt = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
        length = len(processor.expand(processor.encode_rendered(prompt), [question.image.size]))
        groups[length].append((question, prompt))
    for group in groups.values():
        for start in range(0, len(group), BATCH):
            some = group[start : start + BATCH]
            batch = processor([[question.image] for question, _ in some], [prompt for _, prompt in some])
            inputs = {name: value.to(model.device) for name, value in batch.items()}
            ids = model.generate(**inputs, max_new_tokens=LONGEST, do_sample=False)
            texts = processor.tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            yield from zip([question for question, _ in some], texts, strict=True)


def reach(pairs: Sequence[tuple[int, int]]) -> float:
    """How far from its share, in points, the farther end of its 95% interval is; questions are drawn anew."""
    counts = np.array(pairs)
    drawn = counts[np.random.default_rng(0).integers(len(counts), size=(RESAMPLES, len(counts)))].sum(axis=1)
    shares = 100 * drawn[:, 0] / np.maximum(drawn[:, 1], 1)
    right, total = counts.sum(axis=0)
    return float(np.abs(np.quantile(shares, [0.025, 0.975]) - 100 * right / total).max())


def evaluate(folder: Path, count: int) -> Figures:
    """What a model can do; None: nothing to count. It sees at the resolution that it was saved with.

    Errors: ValueError, OSError: there is no model.
    """
    model = MiniCPMVForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    processor = MiniCPMVProcessor.from_pretrained(folder)
    figures: Figures = defaultdict(dict)
    for kind, (objects, canvases, slicing) in KINDS.items():
        processor.image_processor.slice_mode = slicing
        counts: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for question, answer in answers(model, processor, questions(count, objects, canvases)):
            for name, counted in question.judge(answer).items():
                counts[name].append(counted)
        for name, pairs in counts.items():
            right, total = (sum(column) for column in zip(*pairs, strict=True))
            figures[name][kind] = (round(100 * right / total, 1), round(reach(pairs), 1)) if total else None
    return figures


def farthest(cells: Iterable[tuple[float, float] | None]) -> str:
    """The longest reach of a column."""
    reaches = [cell[1] for cell in cells if cell]
    return f"{max(reaches):.0f}" if reaches else "-"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scenes.recipe.training_table", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("models", type=Path, nargs="+", help="model folders, one for each row of the table")
    parser.add_argument("--scenes", type=int, default=100, help="scenes of each kind of picture")
    parser.add_argument("--out", type=Path, help="the figures as JSON")
    arguments = parser.parse_args(argv)
    table = {}
    for folder in arguments.models:
        if not (folder / "config.json").is_file():
            print(f"error: {folder} is no model folder: it has no config.json", file=sys.stderr)
            return 2
        table[folder.name] = evaluate(folder, arguments.scenes)
        print(f"{folder.name}: {json.dumps(table[folder.name])}", flush=True)
    figures = list(next(iter(table.values())))
    print(f"\nPercent, of {arguments.scenes} pictures each: {' / '.join(KINDS)}\n")
    print(f"| model | {' | '.join(figures)} |")
    print("|---" * (len(figures) + 1) + "|")
    for name, row in table.items():
        cells = (
            " / ".join("-" if cell is None else f"{cell[0]:.0f}" for cell in row[figure].values()) for figure in figures
        )
        print(f"| {name} | {' | '.join(cells)} |")
    reaches = (
        " / ".join(farthest(row[figure][kind] for row in table.values()) for kind in KINDS) for figure in figures
    )
    print(f"| 95% within | {' | '.join(reaches)} |")
    if arguments.out:
        arguments.out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
