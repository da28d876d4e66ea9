"""What every vision encoder of a device is: slices in, features out, one slice at a time."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from edge.slices import Floats, Slices

EncodeSlice = Callable[[Floats, tuple[int, int]], Floats]


class VisionEncoder(Protocol):
    """The vision encoder and the resampler of a policy, on some device.

    where: the device, for people. revision: of the policy that the file was written from; None where it says nothing.
    """

    where: str
    revision: str | None

    def encode(self, slices: Slices) -> Floats:
        """The features of each slice, float32 [S, Q, D]."""
        ...

    def close(self) -> None:
        """Free its memory; it encodes nothing afterwards."""
        ...


class SliceBySlice:
    """Encodes one slice after the other: so memory is that of one slice, and no slice is padded for another.

    encode_slice: strip [3, side, P * side] and its (rows, columns) in patches -> [Q, D], float32. Whatever it holds is
    freed by `close`. shape: queries and width, for pictures without slices. where, revision: see `VisionEncoder`.
    """

    def __init__(
        self, where: str, shape: tuple[int, int], encode_slice: EncodeSlice, revision: str | None = None
    ) -> None:
        self.where = where
        self.revision = revision
        self._shape = shape
        self._encode_slice: EncodeSlice | None = encode_slice

    def encode(self, slices: Slices) -> Floats:
        assert self._encode_slice is not None, "the encoder is closed"
        features = np.empty((len(slices.strips), *self._shape), dtype=np.float32)
        for index, (strip, (rows, columns)) in enumerate(zip(slices.strips, slices.sizes.tolist(), strict=True)):
            features[index] = self._encode_slice(strip, (rows, columns))
        return features

    def close(self) -> None:
        self._encode_slice = None
