"""Settings of the search for the fastest way to run an export."""

from typing import Literal

from pydantic import Field

from rlaif.config.models import Section


class TuneSection(Section):
    """What `make edge-tune` searches: every combination of the listed values that llama.cpp takes."""

    configurations: int = Field(
        48, ge=1, description="Most configurations that are tried; of more, so many are drawn by the seed."
    )
    prompt: int = Field(
        256, ge=8, description="Tokens of the prompt of a trial; a picture of MiniCPM-V 2.5 takes 96 a slice."
    )
    answer: int = Field(32, ge=2, description="Tokens of the answer of a trial.")
    threads: list[int] = Field([], description="Numbers of threads; [] = 1, 2, 4 ... up to the cores.")
    batches: list[int] = Field([2048, 256], min_length=1, description="Tokens that one call of llama.cpp takes.")
    ubatches: list[int] = Field([512, 128, 32], min_length=1, description="Tokens that are computed at once.")
    flash_attention: list[Literal["on", "off"]] = Field(["on", "off"], min_length=1, description="Flash attention.")
    kv_types: list[Literal["f16", "q8_0", "q4_0"]] = Field(
        ["f16", "q8_0"],
        min_length=1,
        description="Precision of the KV cache. Other ones than f16 change answers a little.",
    )
    repack: list[bool] = Field(
        [True, False], min_length=1, description="Whether quantized weights are laid out for the machine when loaded."
    )
    builds: list[str] = Field(
        [],
        description="Builds of llama.cpp, by their targets; [] = all that `make edge-runtime` made for this machine.",
    )
