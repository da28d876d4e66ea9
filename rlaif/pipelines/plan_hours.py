"""Hours of the stages on GPUs, by arithmetic: operations over a card's rate, bytes over its bandwidth.

A token takes 2 operations per weight forward, twice that backward for its inputs and as much again for weights that
train, and one more forward pass with checkpointing (Kaplan et al., arXiv 2001.08361, section 2.1). Reading prompts and
training are bound by matrix products; writing answers by memory, as each step reads all weights and the KV cache.
"""

from dataclasses import dataclass

from rlaif.config import Config
from rlaif.memory.shapes import Shape
from rlaif.memory.training import BYTES, Step, Training


@dataclass(frozen=True)
class Assumed:
    """What is assumed of a GPU and of the data. operations and bytes: a second, by the data sheet; computing, reading:
    the share of them that is reached.
    """

    operations: float = 989e12
    bytes: float = 3.35e12
    computing: float = 0.4
    reading: float = 0.5
    answer_tokens: int = 150
    claims: int = 6
    claim_tokens: int = 40
    prompts: int = 4000

    def lines(self) -> list[str]:
        """What the hours assume, in words."""
        return [
            f"hours: {self.operations / 1e12:.0f} TFLOP/s in bfloat16 and {self.bytes / 1e12:.2f} TB/s (data sheet of "
            f"an H100, whatever GPU_MEMORY is), of which {self.computing:.0%} and {self.reading:.0%} are assumed",
            f"{self.prompts:,} prompts, answers of {self.answer_tokens} tokens, {self.claims} claims of "
            f"{self.claim_tokens} tokens each",
        ]


def reading_seconds(shape: Shape, tokens: float, patches: float, assumed: Assumed) -> float:
    """Seconds to read tokens of prompts and patches of images."""
    language = shape.linear + shape.output
    return 2 * (tokens * language + patches * shape.parts["vision"]) / (assumed.operations * assumed.computing)


def writing_seconds(shape: Shape, tokens: float, context: float, sequences: int, assumed: Assumed) -> float:
    """Seconds to write tokens of answers, `sequences` at a time behind so many tokens of context each."""
    size = BYTES["bfloat16"]
    step = size * shape.linear + sequences * context * shape.key_value_bytes(size)
    return tokens / max(sequences, 1) * step / (assumed.bytes * assumed.reading)


def sampling_hours(policy: Shape, config: Config, image: tuple[int, int], sequences: int, assumed: Assumed) -> float:
    """GPU hours of `make generate`. image: tokens and patches of one."""
    tokens, patches = image
    answers = config.generation.num_responses * assumed.answer_tokens
    each = reading_seconds(policy, tokens, patches, assumed)
    each += writing_seconds(policy, answers, tokens + assumed.answer_tokens / 2, sequences, assumed)
    return assumed.prompts * each / 3600


def labeling_hours(labeler: Shape, config: Config, image: tuple[int, int], sequences: int, assumed: Assumed) -> float:
    """GPU hours of `make feedback`: answers are read and divided into claims, and every claim is verified."""
    tokens, patches = image
    answers, claims = config.generation.num_responses, config.generation.num_responses * assumed.claims
    read = tokens + answers * assumed.answer_tokens + claims * assumed.claim_tokens
    written = claims * assumed.claim_tokens
    each = reading_seconds(labeler, read, patches, assumed)
    each += writing_seconds(labeler, written, 2 * assumed.answer_tokens, sequences, assumed)
    return assumed.prompts * each / 3600


def training_hours(
    shape: Shape, training: Training, step: Step, samples: float, passes: float, beforehand: bool, assumed: Assumed
) -> float:
    """GPU hours of a training. samples: of how many `step` is one batch; passes: over all of them.

    beforehand: a reference is computed once for all passes; with training.reference, and with LoRA, in each.
    """
    language = shape.linear + shape.output
    full = training.lora is None
    forward = 2 * step.rows * step.tokens * language
    images = 2 * step.slices * step.patches * shape.parts["vision"]
    language_trains = full and "llm" in training.trained
    work = forward * (2 + language_trains + training.checkpointing) + images
    if full and "vision" in training.trained:
        work += images * (2 + training.checkpointing)
    operations = samples * (passes * work + (forward if beforehand else 0))
    if not beforehand and step.folds:
        operations += samples * passes * forward
    return operations / (assumed.operations * assumed.computing) / 3600
