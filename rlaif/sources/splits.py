"""Whether an instruction can be used, and the split and the round that an image belongs to."""

from rlaif.config import DataSection


def find_problem(instruction: str | bytes | None, max_chars: int) -> tuple[str, str] | None:
    """Why an instruction cannot be used, as (reason, detail); None: it can."""
    if isinstance(instruction, bytes):
        return "broken_text", f"the instruction is not valid UTF-8: {instruction[:80]!r}"
    if instruction is None or not instruction.strip():
        return "missing_instruction", "the instruction is empty"
    if len(instruction) > max_chars:
        return "instruction_too_long", f"{len(instruction):,} characters: {instruction[:80]}"
    return None


def split_of(image_sha256: str, data: DataSection) -> str:
    """The split of an image, by its hash: it does not depend on other images, and all its prompts share it."""
    position = int(image_sha256[:8], 16) / 2**32  # uniform in [0, 1)
    if position < data.test_share:
        return "test"
    return "validation" if position < data.test_share + data.validation_share else "train"


def in_part(image_sha256: str, parts: int, round: int) -> bool:
    """Whether a training image belongs to a round, by digits of its hash that do not decide its split."""
    return (int(image_sha256[8:16], 16) - (round - 1)) % parts == 0
