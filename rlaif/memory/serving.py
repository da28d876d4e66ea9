"""What vLLM needs to serve a model on one GPU, and how many sequences its KV cache holds.

vLLM takes `engine.gpu_memory_utilization` of the card, loads the weights, measures one step with the most tokens, and
gives the rest to the KV cache (Kwon et al., arXiv 2309.06180, section 4.2).
"""

from dataclasses import dataclass

from rlaif.config import EngineSection, ModelSection
from rlaif.memory.shapes import Shape
from rlaif.memory.training import BYTES, FOUR_BITS

GIB = 2**30
LARGE_CARD = 70 * GIB  # vLLM's own defaults for tokens of a step, above and below (vllm.engine.arg_utils, 0.32)
STEP_TOKENS = (16384, 8192)
GRAPHS = GIB  # CUDA graphs and buffers of the attention kernels
PATCHES_PER_TOKEN = 4  # of models whose images have no fixed number of tokens: 2 x 2 patches are one token
EIGHT_BITS = ("fp8", "int8", "w8a8", "mxfp8")  # in vLLM's names of quantizations
FEWER_BITS = ("awq", "gptq", "fp4", "int4", "4bit")


@dataclass(frozen=True)
class Serving:
    """Bytes on one GPU. cache: what is left for the KV cache, of which a sequence of full length takes `sequence`."""

    weights: float
    step: float
    cache: float
    sequence: float
    longest: int

    @property
    def sequences(self) -> int:
        """Sequences of full length that are in the cache at the same time."""
        return max(0, int(self.cache // self.sequence))

    @property
    def fits(self) -> bool:
        """vLLM starts where one sequence of full length fits."""
        return self.sequences >= 1


def serving_memory(shape: Shape, model: ModelSection, engine: EngineSection, card: float) -> Serving:
    """The bytes that vLLM needs for a model. card: bytes of the GPU."""
    size = BYTES[shape.stored_as if model.dtype == "auto" else model.dtype]
    gpus = engine.tensor_parallel_size
    weights = (size * shape.parameters + (matrix_bytes(model, size) - size) * shape.linear) / gpus
    longest = engine.max_model_len or int(shape.text.max_position_embeddings)
    cached = 1 if engine.kv_cache_dtype.startswith("fp8") else 2 if engine.kv_cache_dtype != "auto" else size
    step = step_bytes(shape, engine, card, size) / gpus
    cache = engine.gpu_memory_utilization * card - weights - step - GRAPHS
    return Serving(weights, step, cache, shape.key_value_bytes(cached) * longest / gpus, longest)


def matrix_bytes(model: ModelSection, size: int) -> float:
    """Bytes of a weight of a linear layer; size: without quantization."""
    name = (model.quantization or "").lower()
    if any(mark in name for mark in EIGHT_BITS):
        return 1
    return FOUR_BITS if any(mark in name for mark in FEWER_BITS) else size


def step_bytes(shape: Shape, engine: EngineSection, card: float, size: int) -> float:
    """The largest tensors of a step: a layer over all its tokens, logits of all sequences, images of as many tokens."""
    text = shape.text
    tokens = engine.max_num_batched_tokens or STEP_TOKENS[card < LARGE_CARD]
    layer: float = tokens * (3 * text.intermediate_size + 6 * text.hidden_size) * size
    logits: float = engine.max_num_seqs * text.vocab_size * (size + 4)
    vision = getattr(shape.config, "vision_config", None)
    if vision is None:
        return layer + logits
    patches: float = tokens * PATCHES_PER_TOKEN
    if shape.is_minicpmv:
        patches = tokens / shape.config.query_num * (shape.config.image_size / shape.config.patch_size) ** 2
    images = patches * (2 * vision.intermediate_size + 6 * vision.hidden_size) * size
    return float(max(layer, images)) + logits
