"""Bytes that the forward pass of a model keeps for its backward pass, counted without data or weights.

One and two layers of the model run on FakeTensors, which have shapes and precisions but no memory; what autograd saves
is counted, each storage once and without the parameters. The difference is a layer, which all others equal.
The attention is that of torch (`scaled_dot_product_attention`), which keeps queries, keys, values and its output, but
no scores; FlashAttention and FlexAttention keep the same.

Private: `torch._subclasses.fake_tensor`, the mode behind `torch.compile`; tests/rlaif/memory shows what a new torch
breaks.
"""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PretrainedConfig
from transformers.initialization import no_init_weights

from rlaif.memory.shapes import Shape, build


@dataclass(frozen=True)
class Kept:
    """Bytes kept by the forward pass of a part: outside its layers, by each layer, and of a layer's input."""

    outside: float
    layer: float
    input: float
    layers: int

    def total(self, checkpointing: bool) -> float:
        """All that is kept. Checkpointing keeps the inputs of layers, and one layer at a time while it is computed
        again (Chen et al., arXiv 1604.06174, section 3).
        """
        if checkpointing:
            return self.outside + self.layers * self.input + self.layer
        return self.outside + self.layers * self.layer


NOTHING = Kept(0, 0, 0, 0)


@cache
def language_model(
    shape: Shape, rows: int, tokens: int, folds: tuple[tuple[int, ...], ...], dtype: str, autocast: bool, trains: bool
) -> Kept:
    """What the language model keeps for `rows` sequences of `tokens` tokens.

    folds: of a row of answers behind their prompts, see `model.shared_prefix`; empty for plain sequences.
    dtype: of the weights. autocast: it computes in bfloat16. trains: its weights need gradients (otherwise its inputs).
    """

    def run(model: Any) -> None:
        decoder, width = model.get_decoder(), shape.text.hidden_size
        decoder.config.use_cache = False
        states = torch.empty(rows, tokens, width, dtype=getattr(torch, dtype), requires_grad=True)
        decoder(inputs_embeds=states)

    def with_layers(config: Any, count: int) -> None:
        text = config.get_text_config()
        text.num_hidden_layers = count
        if getattr(text, "layer_types", None):
            text.layer_types = list(text.layer_types[:count])

    one, two = (_kept(shape.config, with_layers, count, run, dtype, autocast, trains) for count in (1, 2))
    states = rows * tokens * shape.text.hidden_size * (4 if dtype == "float32" else 2)
    layer = two - one
    if folds:  # attention runs for each answer, over a copy of the keys and values of its prompt, and joins the outputs
        size = 2 if autocast or dtype != "float32" else 4
        attended = sum(prompt + answer for prompt, *answers in folds for answer in answers)
        layer += attended * shape.key_value_bytes(size) / shape.text.num_hidden_layers
        layer += tokens * shape.text.hidden_size * size
    return Kept(2 * one - two, layer, states, shape.text.num_hidden_layers)


@cache
def vision_encoder(shape: Shape, slices: int, patches: int, dtype: str, autocast: bool) -> Kept:
    """What a MiniCPM-V's vision encoder and resampler keep while they train, for slices of so many patches."""
    vision: Any = shape.config.vision_config

    def run(model: Any) -> None:
        side = vision.patch_size
        pixels = torch.empty(slices, 3, side, patches * side)
        sizes = torch.ones(slices, 2, dtype=torch.int32)
        model.model.get_image_features(pixels, sizes)

    def with_layers(config: Any, count: int) -> None:
        config.vision_config.num_hidden_layers = count
        config.num_hidden_layers = 1

    one, two = (_kept(shape.config, with_layers, count, run, dtype, autocast, True) for count in (1, 2))
    states = slices * patches * vision.hidden_size * (4 if dtype == "float32" else 2)
    return Kept(one - (two - one), two - one, states, vision.num_hidden_layers)


def _kept(
    config: PretrainedConfig,
    with_layers: Callable[[Any, int], None],
    layers: int,
    run: Callable[[Any], None],
    dtype: str,
    autocast: bool,
    trains: bool,
) -> float:
    """Bytes that autograd saves in a forward pass of a model with so many layers, apart from parameters."""
    small = copy.deepcopy(config)
    with_layers(small, layers)
    small.dtype = dtype
    sizes: dict[int, int] = {}
    alive = []  # the address of a storage that is gone may be used again
    with FakeTensorMode():
        with no_init_weights():
            model = build(small).train().requires_grad_(trains)
        own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                sizes[storage._cdata] = storage.nbytes()
                alive.append(tensor)
            return tensor

        precision = torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext()
        with precision, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            run(model)
    return sum(sizes.values())
