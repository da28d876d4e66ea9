"""What every export is compared with: the policy's own answer to a picture, one file each. Loads numpy only."""

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from edge.slices import Floats, Prompt, Slices
from rlaif.errors import InputError
from rlaif.storage.files import atomic_write


@dataclass(frozen=True)
class Reference:
    """The policy's answer to one picture.

    features: [S, Q, D]. ids: the tokens of the answer, the one that ends it included. logits: [T, V], of each of them.
    text: without special tokens. seconds: of generation, without the prompt.
    """

    prompt: Prompt
    features: Floats
    ids: list[int]
    logits: Floats
    text: str
    seconds: float


def reference_file(folder: Path, index: int) -> Path:
    """The file of the picture with this index."""
    return folder / f"{index:06}.npz"


def save_reference(file: Path, reference: Reference) -> None:
    """Write the file of a picture, whole or not at all."""
    prompt = reference.prompt
    assert prompt.slices is not None
    with atomic_write(file) as temporary, temporary.open("wb") as opened:
        np.savez(
            opened,
            prompt_ids=np.array(prompt.ids, dtype=np.int32),
            slots=np.array(prompt.slots, dtype=np.int32),
            end_of_turn=prompt.end_of_turn,
            strips=np.concatenate(prompt.slices.strips, axis=-1),
            sizes=prompt.slices.sizes,
            features=reference.features,
            ids=np.array(reference.ids, dtype=np.int32),
            logits=reference.logits,
            text=np.array(reference.text),
            seconds=reference.seconds,
        )


def load_reference(file: Path) -> Reference:
    """Read the file of a picture. Errors: InputError: it is damaged."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            strips, sizes = arrays["strips"], arrays["sizes"]  # [3, side, sum of P_i * side], [S, 2]
            ends = np.cumsum(sizes.prod(axis=1) * strips.shape[1])[:-1]
            prompt = Prompt(
                ids=arrays["prompt_ids"].tolist(),
                slots=[(start, end) for start, end in arrays["slots"].tolist()],
                slices=Slices(np.split(strips, ends, axis=-1), sizes),
                end_of_turn=int(arrays["end_of_turn"]),
            )
            return Reference(
                prompt,
                arrays["features"],
                arrays["ids"].tolist(),
                arrays["logits"],
                str(arrays["text"]),
                float(arrays["seconds"]),
            )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(f"{file} is damaged ({error}); delete its folder and run `make edge-check` again") from error
