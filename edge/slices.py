"""What the parts of an edge answer hand to each other: the slices of a picture, and a prompt with their slots.

Arrays are of numpy, so that vision encoders and the language model run without torch. In shapes, `side` is that of a
patch in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rlaif.errors import InputError

Floats: TypeAlias = NDArray[np.float32]
Piece: TypeAlias = list[int] | Floats  # token ids [T], or embeddings [T, D]


@dataclass(frozen=True)
class Slices:
    """The overview of a picture and its slices.

    strips: the patches of each slice in row-major order, float32 [3, side, P_i * side], normalized.
    sizes: int32 [S, 2], the (rows, columns) of each slice in patches.
    """

    strips: list[Floats]
    sizes: NDArray[np.int32]


@dataclass(frozen=True)
class Prompt:
    """A user turn, up to where the answer begins.

    ids: [T], with placeholders for the features of slices. slots: the first and the last + 1 of the placeholders of
    each slice. slices: None without a picture. end_of_turn: the token that ends the answer.
    """

    ids: list[int]
    slots: list[tuple[int, int]]
    slices: Slices | None
    end_of_turn: int

    def pieces(self, features: Floats | None) -> list[Piece]:
        """The prompt in order, token ids and embeddings in turn: each slot holds the features [Q, D] of its slice.

        features: [S, Q, D]. Errors: InputError: they are not of so many slices, or of other lengths than the slots.
        """
        rows: Sequence[Floats] = [] if features is None else list(features)
        if [len(row) for row in rows] != [end - start for start, end in self.slots]:
            raise InputError(
                f"features of shape {_shape(features)} for {len(self.slots)} slices of "
                f"{sorted({end - start for start, end in self.slots})} tokens; encode the slices of this prompt"
            )
        pieces: list[Piece] = []
        position = 0
        for (start, end), row in zip(self.slots, rows, strict=True):
            pieces += [self.ids[position:start], row]
            position = end
        pieces.append(self.ids[position:])
        return [piece for piece in pieces if len(piece)]


def _shape(features: Any) -> list[int] | None:
    return None if features is None else list(features.shape)
