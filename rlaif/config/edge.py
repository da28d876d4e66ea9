"""Settings of exports to other devices."""

from typing import Literal

from pydantic import Field

from rlaif.config.models import Section
from rlaif.config.tune import TuneSection

Export = Literal["f16", "Q8_0", "Q6_K", "Q4_K_M", "Q4_0", "mmproj", "openvino", "openvino-npu", "qnn-fp16", "qnn-a16w8"]


class EdgeSection(Section):
    """Exports of the aligned policy for laptops and phones."""

    exports: list[Export] = Field(
        ["f16", "Q8_0", "Q4_K_M", "mmproj", "openvino", "qnn-fp16", "qnn-a16w8"],
        min_length=1,
        description="Exports that `make edge-check` compares with the policy, and writes where they are missing: the "
        "language model in a precision; mmproj = stock llama.cpp with both parts; the vision part on a device.",
    )
    pictures: int = Field(
        80,
        ge=1,
        description="Pictures of the split `evaluation.split` on which `make edge-check` compares.",
    )
    tune: TuneSection = Field(TuneSection(), description="The search of `make edge-tune` for the fastest settings.")
