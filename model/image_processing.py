"""Image processor: an image -> overview and slices, each as a strip of patches side by side.

The constructor's arguments are the keys of the released `preprocessor_config.json`. The attributes have the same names,
because transformers saves attributes and loads arguments. In shapes, `side` is patch_size.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature

from model.slicing import Grid, Size, best_grid, fitted_size, refined_size, slice_image


def patch_strip(
    view: Image.Image, patch_size: int, mean: np.ndarray, std: np.ndarray
) -> tuple[torch.Tensor, tuple[int, int]]:
    """A view (RGB, sides of whole patches) -> its normalized patches in row-major order [3, side, P * side], and its
    (rows, columns) in patches.
    """
    pixels = (np.asarray(view, dtype=np.float32) / 255.0 - mean) / std  # [H, W, 3]
    rows, columns = pixels.shape[0] // patch_size, pixels.shape[1] // patch_size
    tiles = torch.from_numpy(pixels).reshape(rows, patch_size, columns, patch_size, 3)
    strip = tiles.permute(4, 1, 0, 2, 3).reshape(3, patch_size, rows * columns * patch_size)  # [3, side, P * side]
    return strip.contiguous(), (rows, columns)


def pack_slices(slices: list[torch.Tensor]) -> torch.Tensor:
    """Slices [3, side, P_i * side] -> [S, 3, side, P * side], padded with zeros to the longest."""
    return pad_sequence([strip.permute(2, 0, 1) for strip in slices], batch_first=True).permute(0, 2, 3, 1)


class MiniCPMVImageProcessor(BaseImageProcessor):
    """Adaptive slicing (see `model.slicing`) and normalization."""

    model_input_names = ["pixel_values", "tgt_sizes"]  # noqa: RUF012

    def __init__(
        self,
        max_slice_nums: int = 9,
        scale_resolution: int = 448,
        patch_size: int = 14,
        image_feature_size: int = 96,
        slice_mode: bool = True,
        im_start: str = "<image>",
        im_end: str = "</image>",
        slice_start: str = "<slice>",
        slice_end: str = "</slice>",
        unk: str = "<unk>",
        norm_mean: tuple[float, ...] = (0.5, 0.5, 0.5),
        norm_std: tuple[float, ...] = (0.5, 0.5, 0.5),
        version: float | str = 2.5,
        use_image_id: bool = False,
        im_id_start: str = "<image_id>",
        im_id_end: str = "</image_id>",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.max_slice_nums = max_slice_nums
        self.scale_resolution = scale_resolution
        self.patch_size = patch_size
        self.image_feature_size = image_feature_size
        self.slice_mode = slice_mode
        self.im_start = im_start
        self.im_end = im_end
        self.slice_start = slice_start
        self.slice_end = slice_end
        self.unk = unk
        self.norm_mean = list(norm_mean)
        self.norm_std = list(norm_std)
        self.version = version
        self.use_image_id = use_image_id
        self.im_id_start = im_id_start
        self.im_id_end = im_id_end

    @property
    def im_start_token(self) -> str:
        """vLLM's name of `im_start`."""
        return self.im_start

    @property
    def im_end_token(self) -> str:
        """vLLM's name of `im_end`."""
        return self.im_end

    @property
    def slice_limit(self) -> int:
        return self.max_slice_nums if self.slice_mode else 1

    @property
    def tags(self) -> tuple[str, ...]:
        """The tokens of the spatial schema; the tokenizer must have each as one special token."""
        id_tags = (self.im_id_start, self.im_id_end) if self.use_image_id else ()
        return (self.im_start, self.im_end, self.slice_start, self.slice_end, self.unk, *id_tags)

    def get_sliced_grid(self, image_size: Size, max_slice_nums: int | None = None) -> Grid | None:
        """The (columns, rows) that an image of (width, height) is cut into; None: the overview alone."""
        limit = self.slice_limit if max_slice_nums is None else min(max_slice_nums, self.slice_limit)
        return best_grid(image_size, self.scale_resolution, limit)

    def get_slice_image_placeholder(
        self,
        image_size: Size,
        image_idx: int = 0,
        max_slice_nums: int | None = None,
        use_image_id: bool | None = None,
    ) -> str:
        """The text that represents an image of (width, height) in the prompt: the spatial schema of 2.5 or 2.6, with
        `image_feature_size` placeholders a slice.

        In 2.5 each slice has image tags, and one pair of slice tags encloses all slices. In 2.6 each slice has slice
        tags, and the number of the image in its conversation, `image_idx`, comes first.
        """
        placeholders = self.unk * self.image_feature_size
        view = f"{self.im_start}{placeholders}{self.im_end}"
        if self.use_image_id if use_image_id is None else use_image_id:
            overview = f"{self.im_id_start}{image_idx}{self.im_id_end}{view}"
        else:
            overview = view
        grid = self.get_sliced_grid(image_size, max_slice_nums)
        if grid is None:
            return overview
        columns, rows = grid
        if str(self.version) == "2.5":
            return overview + self.slice_start + "\n".join([view * columns] * rows) + self.slice_end
        tagged_slice = f"{self.slice_start}{placeholders}{self.slice_end}"
        return overview + "\n".join([tagged_slice * columns] * rows)

    def view_sizes(self, size: Size) -> torch.Tensor:
        """The tgt_sizes [S, 2] of an image of (width, height), without its pixels."""
        side, resolution = self.patch_size, self.scale_resolution
        grid = self.get_sliced_grid(size)
        width, height = fitted_size(*size, resolution, side, upscale=grid is None)
        sizes = [(height // side, width // side)]
        if grid is not None:
            columns, rows = grid
            width, height = refined_size(size, grid, resolution, side)
            sizes += [(height // rows // side, width // columns // side)] * (columns * rows)
        return torch.tensor(sizes, dtype=torch.int32)

    def slice(self, image: Image.Image) -> tuple[list[torch.Tensor], torch.Tensor]:
        """An image -> its overview and slices as [3, side, P_i * side] each, and tgt_sizes [S, 2]."""
        views, _ = slice_image(image.convert("RGB"), self.scale_resolution, self.patch_size, self.slice_limit)
        mean, std = np.asarray(self.norm_mean, dtype=np.float32), np.asarray(self.norm_std, dtype=np.float32)
        strips, sizes = zip(*(patch_strip(view, self.patch_size, mean, std) for view in views), strict=True)
        return list(strips), torch.tensor(sizes, dtype=torch.int32)

    def __call__(self, images: Any, *args: Any, **kwargs: Any) -> BatchFeature:
        return self.preprocess(images, *args, **kwargs)

    def preprocess(self, images: Any, do_pad: bool = True, return_tensors: Any = None, **kwargs: Any) -> BatchFeature:
        """An image, a list of images of one text, or a list of such lists -> the slices of each text's images.

        Returns:
            pixel_values: list (texts) of lists (slices) of [3, side, P_i * side]; image_sizes: list of lists of
            (width, height); tgt_sizes: list of [S, 2] int32. Slices differ in length and are not stacked here (see
            `pack_slices`); `do_pad` and `return_tensors`, which vLLM passes, are ignored.
        """
        if isinstance(images, Image.Image):
            images = [images]
        batches = [images] if not images or isinstance(images[0], Image.Image) else images
        pixel_values, image_sizes, tgt_sizes = [], [], []
        for batch in batches:
            sliced = [self.slice(image) for image in batch]
            pixel_values.append([strip for strips, _ in sliced for strip in strips])
            image_sizes.append([image.size for image in batch])
            tgt_sizes.append(
                torch.cat([sizes for _, sizes in sliced]) if sliced else torch.zeros(0, 2, dtype=torch.int32)
            )
        return BatchFeature({"pixel_values": pixel_values, "image_sizes": image_sizes, "tgt_sizes": tgt_sizes})
