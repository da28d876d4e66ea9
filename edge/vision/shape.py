"""The sizes of a vision part: all that a host or a graph needs to know beside its tensors. Imports no torch."""

from dataclasses import dataclass

POSITION_TABLE = "vpm.embeddings.position_embedding.weight"


@dataclass(frozen=True)
class VisionShape:
    """Sizes of the vision encoder, then of the resampler.

    resolution: side in pixels of a square slice. positions: bucket_1d or bucket_2d (`model.configuration.POSITIONS`).
    out_width: width of the language model.
    """

    width: int
    layers: int
    heads: int
    eps: float
    patch: int
    resolution: int
    positions: str
    table_side: int
    queries: int
    out_width: int
    out_heads: int
    out_eps: float

    @property
    def patch_values(self) -> int:
        return 3 * self.patch**2
