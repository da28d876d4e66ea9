"""What each difference of stock llama.cpp costs: its answers with mmproj against those of the policy.

    make bench-edge > edge-stock.txt && python -m bench.record edge-stock edge-stock.txt

The embedded policy describes rendered scenes, greedily: in float32 with its own processor, and in f16 in the stock
server, which cuts and encodes the picture itself. Scenes are grouped by what llama.cpp does with their size. Prints a
Markdown table, which docs/edge.md shows.
"""

import io
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from openai import OpenAI
from PIL import Image

from edge.gguf.export import write_language, write_mmproj
from edge.gguf.file import Tensor, write_file
from edge.gguf.mmproj import build_mmproj
from edge.gguf.positions import fit_table
from edge.gguf.weights import Weights
from edge.policy import Policy, load_processor
from edge.serve import serving
from edge.settings import Settings
from model import MiniCPMVConfig, MiniCPMVForConditionalGeneration, MiniCPMVProcessor
from model.configuration import MiniCPMVVisionConfig
from model.slicing import Size, at_refined_size, best_grid
from rlaif.inference.chat import data_url
from scenes.world import render, sample_scene

POLICY = Path("assets/policy")
PICTURES = 30  # of a group
MAX_TOKENS = 160
QUESTION = "Describe the image."
RESOLUTION, PATCH, MAX_SLICES = 84, 14, 9  # of the policy
TABLE = "v.position_embd.weight"


@dataclass(frozen=True)
class Group:
    """Scenes of these sizes. at_refined_size: resized as the policy does before it cuts. copied: its position table is
    read by row and column, as a converter copies it, and not counted row by row.
    """

    name: str
    sizes: Sequence[Size]
    at_refined_size: bool = False
    copied: bool = False


SQUARE, LARGE = ((84, 84),), ((140, 98), (98, 140), (168, 126), (168, 168))
GROUPS = (
    Group("none: square, one slice", SQUARE),
    Group("positions copied instead of fitted", SQUARE, copied=True),
    Group("squeezed into a square: both sides within the slice size", ((84, 60), (60, 84))),
    Group("sliced, where the policy does not slice: one side beyond", ((98, 70), (70, 98))),
    Group("bars instead of stretching: sliced by both", LARGE),
    Group("none: sliced by both, handed over at the refined size", LARGE, at_refined_size=True),
)


def pictures(group: Group) -> Iterator[Image.Image]:
    """Scenes that no model was trained on."""
    for index in range(PICTURES):
        rng = random.Random(f"stock/{index}")
        image = render(sample_scene(rng, canvases=dict.fromkeys(group.sizes, 1)))
        if group.at_refined_size:  # llama.cpp then has nothing to resize
            image = at_refined_size(image, best_grid(image.size, RESOLUTION, MAX_SLICES), RESOLUTION, PATCH)
        yield image


def answer(model: Any, processor: MiniCPMVProcessor, image: Image.Image) -> tuple[str, int]:
    """The policy's greedy answer, and the tokens of its prompt."""
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
    rendered = processor.apply_chat_template(messages, add_generation_prompt=True)
    batch = processor(images=image, text=rendered)
    with torch.no_grad():
        output = model.generate(
            **batch, do_sample=False, max_new_tokens=MAX_TOKENS, eos_token_id=processor.end_of_turn, pad_token_id=0
        )
    length = batch["input_ids"].shape[1]
    return processor.tokenizer.decode(output[0, length:], skip_special_tokens=True), length


def ask(client: OpenAI, image: Image.Image) -> tuple[str, int]:
    """The server's, of the picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    content: list[Any] = [
        {"type": "image_url", "image_url": {"url": data_url(buffer.getvalue())}},
        {"type": "text", "text": QUESTION},
    ]
    response: Any = client.chat.completions.create(
        model="stock", messages=[{"role": "user", "content": content}], temperature=0, max_tokens=MAX_TOKENS
    )
    return response.choices[0].message.content, response.usage.prompt_tokens


def write_copied(policy: Policy, file: Path) -> Path:
    """mmproj whose position table is the policy's, by row and column."""
    config = MiniCPMVConfig.from_pretrained(policy.folder)
    vision = config.vision_config
    assert isinstance(vision, MiniCPMVVisionConfig)
    by_two = MiniCPMVVisionConfig(**{**vision.to_dict(), "position_embedding_type": "bucket_2d"})
    with Weights.open(policy.folder) as weights:
        mmproj = build_mmproj(weights, config, load_processor(policy.folder).image_processor, policy.name)
        table = fit_table(weights["vpm.embeddings.position_embedding.weight"], by_two, RESOLUTION)
        tensors: list[Tensor] = [
            replace(tensor, read=table.values.contiguous) if tensor.name == TABLE else tensor
            for tensor in mmproj.tensors
        ]
        write_file(file, "clip", mmproj.metadata, tensors)
    return file


def main() -> int:
    """Prints the table."""
    policy = Policy(POLICY, "policy", "embedded")
    processor = load_processor(POLICY)
    model: Any = MiniCPMVForConditionalGeneration.from_pretrained(POLICY, dtype=torch.float32).eval()
    print("| difference | pictures | same number of slices | same answers |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        language = write_language(policy, folder)
        files = {False: write_mmproj(policy, folder), True: write_copied(policy, folder / "copied.gguf")}
        for copied, mmproj in files.items():
            with (
                serving(language, mmproj, Settings(threads=1), "stock") as (url, _),
                OpenAI(base_url=url, api_key="none", max_retries=0) as client,
            ):
                for group in GROUPS:
                    if group.copied == copied:
                        pairs = [(answer(model, processor, image), ask(client, image)) for image in pictures(group)]
                        same_slices = sum(ours[1] == stock[1] for ours, stock in pairs)
                        same = sum(ours[0] == stock[0] for ours, stock in pairs)
                        print(f"| {group.name} | {len(pairs)} | {same_slices} | {same} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
