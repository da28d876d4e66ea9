"""Images that a model gets smaller, and how many tokens that makes."""

import math

import pytest
from PIL import Image

from rlaif.config.load import load_config
from rlaif.inference.image_size import scale_down, scaled_size
from tests.support import ROOT

PHOTO = (4000, 3000)  # 12 megapixels
SHAPES = [PHOTO, (3000, 4000), (12000, 9000), (10000, 1000), (1003, 1001), (20000, 150)]


@pytest.mark.parametrize("size", [*SHAPES, (20000, 1), (3, 90000)])
@pytest.mark.parametrize("limit", [1, 7, 784, 1_003_520])
def test_the_limit_holds_and_the_shape_is_kept(size: tuple[int, int], limit: int) -> None:
    if size[0] * size[1] <= limit:
        return
    width, height = scaled_size(*size, limit)
    assert width >= 1 and height >= 1 and width * height <= limit
    scale = math.sqrt(limit / (size[0] * size[1]))
    if min(size) * scale >= 1:
        assert (width, height) == (int(size[0] * scale), int(size[1] * scale))


def test_an_image_within_the_limit_is_the_same_object() -> None:
    image = Image.new("RGB", (40, 30))
    assert scale_down(image, None) is image and scale_down(image, 1200) is image
    assert scale_down(image, 300).size == (20, 15)


@pytest.mark.parametrize("name", ["minicpmv-2.5", "minicpmv-2.6", "chinese"])
def test_a_photograph_fits_the_labeler_of_the_configuration(name: str) -> None:
    """The tokens of Qwen2.5-VL by transformers' own rule: a square of 28 pixels each, sides rounded to 28."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    config = load_config(ROOT / "configs" / f"{name}.yaml")
    released_limit = 12_845_056  # max_pixels in the preprocessor_config.json of Qwen2.5-VL-7B-Instruct

    def tokens(size: tuple[int, int]) -> int:
        height, width = smart_resize(size[1], size[0], factor=28, min_pixels=3136, max_pixels=released_limit)
        return int(height * width) // 28**2

    assert tokens(PHOTO) == 107 * 143, "15,301 tokens as it is"
    limit, longest = config.labeler.max_pixels, config.engine.max_model_len
    assert limit is not None and longest is not None
    assert tokens(scaled_size(*PHOTO, limit)) == 31 * 41
    room = config.generation.max_tokens + 200  # the whole response and the words around it
    assert all(tokens(scaled_size(*size, limit)) + room < longest for size in SHAPES)
    assert tokens(PHOTO) + room > longest, "without the limit it would not fit"
