"""What a step of training needs on one GPU.

    peak = weights + reference + optimizer + max(forward, backward)

Weights, gradients and Adam's two moments are bytes times parameters (Rajbhandari et al., arXiv 1910.02054, section 3.1:
with float32 weights 4 + 4 + 8), divided by the processes where a sharding says so (section 5). Under autocast each
float32 matrix also has a copy in bfloat16 while it is in use. Activations are counted by `rlaif.memory.activations`.
"""

from dataclasses import dataclass

from model.parts import Part
from rlaif.memory.activations import Kept, language_model, vision_encoder
from rlaif.memory.shapes import Shape

SHARDINGS = ("ddp", "fsdp1", "fsdp2", "zero1", "zero2", "zero3")  # see rlaif.processes.sharding
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# bytes of a weight in 4 bits: NF4 with one float32 per 64 weights (Dettmers et al., arXiv 2305.14314, section 3); and
# with these scales in 8 bits, and one float32 per 256 of them (its "double quantization"): 4.127 bits
FOUR_BITS = 0.5 + 4 / 64
FOUR_BITS_TWICE = 0.5 + 1 / 64 + 4 / (64 * 256)
MOMENTS = {  # optimizer -> its bytes per trained parameter, in bytes of the parameter; others are taken for Adam
    "sgd": 0.0,
    "adafactor": 0.0,  # factored: rows and columns
    "lion_32bit": 1.0,
}
EIGHT_BIT = ("8bit",)  # in the name of an optimizer: one byte for each moment
LOGITS_TILE = (4096, 32768)  # tokens and words whose logits TRL's fused head holds at a time
ADAPTER_BYTES = 4  # PEFT keeps adapters in float32
IMAGE_LAYER = 6  # tensors of the encoder's width, beside two of its MLP's, that a layer holds without gradients


@dataclass(frozen=True)
class Lora:
    """An adapter: rank, names of the layers that get one, dropout; whether the resampler trains too."""

    r: int
    targets: tuple[str, ...]
    dropout: float
    resampler: bool


@dataclass(frozen=True)
class Step:
    """A step of one process.

    rows, tokens: sequences of the batch and the tokens of each. losses: tokens with a loss in the whole batch.
    slices, patches: of the batch's images, and of each slice. folds: (prompt, answer, answer) tokens of each pair,
    where a prompt is computed once for both answers; rows is 1 then, and tokens their sum.
    """

    rows: int
    tokens: int
    losses: int
    slices: int
    patches: int
    folds: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Training:
    """How a model is trained.

    dtype: precision of the weights, and frozen that of the parts that do not train, if it is another.
    autocast: computes in bfloat16. reference: precision of a second copy of the weights, None without one.
    four_bits: the linear layers of the language model are held in 4 bits.
    """

    trained: tuple[Part, ...]
    dtype: str
    autocast: bool
    checkpointing: bool
    accumulation: int
    optimizer: str
    lora: Lora | None = None
    reference: str | None = None
    frozen: str = ""
    processes: int = 1
    sharding: str = "ddp"
    four_bits: bool = False


@dataclass(frozen=True)
class Reckoned:
    """Bytes on one GPU by what they are for, and their peak: not all are held at the same time."""

    weights: float
    reference: float
    gradients: float
    optimizer: float
    activations: float
    head: float
    copies: float
    peak: float

    @property
    def certain(self) -> float:
        """What any batch needs: the state of the model."""
        return self.weights + self.reference + self.optimizer + self.gradients


def adapter_parameters(shape: Shape, lora: Lora) -> int:
    """Parameters of an adapter: r (inputs + outputs) for each adapted layer (Hu et al., arXiv 2106.09685)."""
    return sum(lora.r * (inputs + outputs) for name, inputs, outputs in shape.matrices if name in lora.targets)


def trained_parameters(shape: Shape, training: Training) -> int:
    """Parameters with gradients and moments."""
    if training.lora is None:
        return sum(shape.parts[part] for part in training.trained)
    return adapter_parameters(shape, training.lora) + (shape.parts["resampler"] if training.lora.resampler else 0)


def training_memory(shape: Shape, training: Training, step: Step) -> Reckoned:
    """The bytes that a process needs on its GPU."""
    size = BYTES[training.dtype]
    deepspeed = training.sharding.startswith("zero")
    shards = training.processes
    whole = 1 if training.sharding in ("ddp", "zero1", "zero2") else shards  # parts that the weights are divided into
    if deepspeed and training.autocast:
        size = 2  # DeepSpeed trains in bfloat16 weights and keeps float32 masters with the moments
    trained = trained_parameters(shape, training)
    adapter = training.lora is not None
    weights = float(size * shape.parameters)
    if training.frozen and not deepspeed:
        weights += (BYTES[training.frozen] - size) * (shape.parameters - trained)
    if training.four_bits:
        weights += (FOUR_BITS_TWICE - size) * shape.linear
    grown = trained if adapter else 0  # parameters that the adapter adds
    trained_size = ADAPTER_BYTES if adapter and not deepspeed else size
    weights = (weights + grown * trained_size) / whole
    gradients = trained * trained_size / (1 if training.sharding in ("ddp", "zero1") else shards)
    optimizer = moments(training.optimizer, trained_size) * trained / (shards if training.sharding != "ddp" else 1)
    if deepspeed and training.autocast:
        optimizer = (4 + moments(training.optimizer, 4)) * trained / shards
    buckets = trained * trained_size if training.sharding == "ddp" and shards > 1 else 0  # DDP reduces copies
    reference = BYTES[training.reference] * shape.parameters / whole if training.reference else 0.0

    compute = 2 if training.autocast else size
    kept, layer_work = activations(shape, training, step, compute)
    head = head_bytes(shape, training, step, compute)
    copies = matrix_copies(shape, training)
    if training.four_bits:  # one at a time, to compute with it
        copies = float(compute * max(inputs * outputs for _, inputs, outputs in shape.matrices))
        layer_work += copies
    first_gradients = gradients if training.accumulation > 1 or buckets else 0.0  # those of earlier batches are there
    forward = first_gradients + kept.forward + copies + head
    backward = max(
        first_gradients + kept.forward + head + head_gradients(shape, training),
        max(gradients, first_gradients) + kept.last + layer_work,
    )
    if first_gradients or training.checkpointing:  # then a layer is computed again beside them
        backward = max(backward, gradients + kept.all + layer_work)
    images = frozen_images(shape, training, step, compute)
    peak = weights + reference + optimizer + buckets + max(forward, backward, gradients, first_gradients + images)
    return Reckoned(
        weights, reference, gradients + buckets, optimizer, max(kept.all, kept.forward, images), head, copies, peak
    )


@dataclass(frozen=True)
class Activations:
    """Bytes kept at the end of the forward pass, at most in the backward pass, and when its last layer is computed."""

    forward: float
    all: float
    last: float


def activations(shape: Shape, training: Training, step: Step, compute: int) -> tuple[Activations, float]:
    """What is kept, and what the backward pass of a layer needs beside it: the gradients of its widest tensors."""
    text = shape.text
    adapter = training.lora is not None
    dtype = training.dtype
    llm_trains = "llm" in training.trained and not adapter
    llm_dtype = dtype if llm_trains else training.frozen or dtype
    language = language_model(shape, step.rows, step.tokens, step.folds, llm_dtype, training.autocast, llm_trains)
    tokens = step.rows * step.tokens
    if training.lora is not None:
        added = adapter_activations(shape, training.lora, tokens, training.autocast) / text.num_hidden_layers
        language = Kept(language.outside, language.layer + added, language.input, language.layers)
    parts = [language]
    if shape.is_minicpmv and not adapter and "vision" in training.trained and step.slices:
        parts.append(vision_encoder(shape, step.slices, step.patches, dtype, training.autocast))
    embedded = 2 * tokens * text.hidden_size * BYTES[dtype]  # of the text, and with the images in it
    checkpointing = training.checkpointing
    if checkpointing:
        forward = embedded + sum(part.outside + part.layers * part.input for part in parts)
        every = forward + max(part.layer for part in parts)
    else:
        forward = every = embedded + sum(part.total(False) for part in parts)
    last = embedded + sum(part.outside for part in parts) + parts[-1].layer
    # the two factors of a gated MLP and their product, and the states around it
    work = tokens * (3 * text.intermediate_size + 4 * text.hidden_size) * compute
    return Activations(forward, every, last), work


def adapter_activations(shape: Shape, lora: Lora, tokens: int, autocast: bool) -> float:
    """What adapters keep: their inputs after dropout, its mask, and the r values between their two matrices."""
    size = 2 if autocast else 4
    per_input = size + (1 if lora.dropout else 0)
    return sum(
        tokens * (per_input * inputs + size * lora.r) for name, inputs, _ in shape.matrices if name in lora.targets
    )


def frozen_images(shape: Shape, training: Training, step: Step, compute: int) -> float:
    """What a frozen encoder needs while it runs: one layer, and its states."""
    if not shape.is_minicpmv or not step.slices or ("vision" in training.trained and training.lora is None):
        return 0.0
    vision = shape.config.vision_config
    values = 2 * vision.intermediate_size + IMAGE_LAYER * vision.hidden_size
    return float(step.slices * step.patches * values * compute)


def head_bytes(shape: Shape, training: Training, step: Step, compute: int) -> float:
    """The output layer computes the logits of a tile at a time, and keeps the states of the tokens with a loss, with
    their gradients in float32.
    """
    tile = min(step.losses, LOGITS_TILE[0]) * LOGITS_TILE[1] * compute  # also where the vocabulary is smaller
    return float(tile + shape.text.hidden_size * step.losses * (2 * compute + 4))


def head_gradients(shape: Shape, training: Training) -> float:
    """Where the output layer trains, its gradient is summed up in float32 before it is one of the gradients."""
    if training.lora is not None or "llm" not in training.trained:
        return 0.0
    return shape.output * (4.0 + BYTES[training.dtype])


def matrix_copies(shape: Shape, training: Training) -> float:
    """The bfloat16 copies of float32 matrices that autocast keeps until the forward pass ends, with checkpointing.

    Without it they are among what autograd saves. Sharded weights have copies of one layer at a time.
    """
    cached = training.autocast and training.dtype == "float32" and training.lora is None and "llm" in training.trained
    if not cached or not training.checkpointing or training.sharding != "ddp":
        return 0.0
    return 2.0 * (shape.linear + shape.output)


def moments(optimizer: str, size: int) -> float:
    """Bytes of an optimizer's state per trained parameter of so many bytes; unknown ones are taken for Adam."""
    name = optimizer.lower()
    if any(mark in name for mark in EIGHT_BIT):
        return 2.0
    return MOMENTS.get(name, 2.0) * size
