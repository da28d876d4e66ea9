"""What the frozen vision parts make of each image, kept on disk for all epochs, runs and rounds: `dpo.cache_vision`.

A file an image, `FOLDER/<key>/<2 digits>/<SHA-256 of its bytes>.safetensors`. It has the states of the vision encoder
[P, D_vision] over the patches of all slices, or, where the resampler is frozen too, its features [S, Q, D]. The key is
a hash of all that decides them: kind and precision, the settings of image processor and encoder, and all bits of the
frozen weights. At full size in bfloat16 the states of a slice take 2.4 MB, its features 0.8 MB.

Files are written beside their place and moved there, so a killed stage resumes with the images that are left, and
several processes and runs can share a folder; with N processes each encodes every Nth image. A policy that reads the
cache decodes and cuts no images, and has neither encoder nor resampler in its steps.
"""

import hashlib
import io
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from transformers.integrations import is_deepspeed_zero3_enabled
from trl import DPOConfig

from dpo.pair_reader import PROMPT, PairReader
from model import MiniCPMVImageProcessor
from model.image_processing import pack_slices
from model.images import FORMATS, open_image
from rlaif.config import DpoSection
from rlaif.errors import ConfigError, InputError
from rlaif.progress import progress_bar

FORMAT = 2  # raise it when the content of a file changes
RESERVE = 1 << 30  # bytes of the disk that are left free
Kind = Literal["no", "states", "features"]
Location = dict[str, Any]  # of a pair, with the number of an image in it


def frozen_vision(dpo: DpoSection) -> Kind:
    """What of the images no training changes: nothing, the vision encoder's output, or that of the resampler too."""
    lora_freezes = {"vision"} if dpo.lora.train_resampler else {"vision", "resampler"}
    frozen = set(dpo.freeze) if dpo.method == "full" else lora_freezes
    return "no" if "vision" not in frozen else "features" if "resampler" in frozen else "states"


@dataclass(frozen=True)
class CachedImage:
    """An image as the collator needs it. tgt_sizes [S, 2]; encoded: states [P, D_vision] or features [S, Q, D]."""

    size: tuple[int, int]
    tgt_sizes: torch.Tensor
    encoded: torch.Tensor


@dataclass(frozen=True)
class VisionCache:
    """The files of one key; can be read in the worker processes of a DataLoader."""

    folder: Path
    kind: Kind
    processor: MiniCPMVImageProcessor
    width: int  # of states or features
    dtype: torch.dtype

    def file(self, image: bytes) -> Path:
        name = hashlib.sha256(image).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"

    def read(self, image: bytes) -> CachedImage:
        """Errors: InputError if its file is missing or damaged."""
        file = self.file(image)
        try:
            with safe_open(file, framework="pt") as opened:
                width, height = (int(side) for side in opened.metadata()["size"].split())
                encoded = opened.get_tensor("encoded")
                if opened.metadata()["sha256"] != sha256_of(encoded):
                    raise ValueError("its bytes have changed since it was written")
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise InputError(
                f"{file} is missing or damaged ({error}); delete it and run the same command, which encodes it again"
            ) from error
        return CachedImage((width, height), self.processor.view_sizes((width, height)), encoded)

    def write(self, image: bytes, size: tuple[int, int], encoded: torch.Tensor) -> None:
        file = self.file(image)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{uuid.uuid4().hex}.tmp")  # another run may write the same image
        try:
            content = encoded.to(self.dtype).contiguous().cpu()
            described = {"size": f"{size[0]} {size[1]}", "sha256": sha256_of(content)}
            save_file({"encoded": content}, temporary, metadata=described)
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)

    def bytes_of(self, image: bytes) -> int:
        """How many its file takes, from the header of the image, without its rotation."""
        with Image.open(io.BytesIO(image), formats=FORMATS) as opened:
            sizes = self.processor.view_sizes(opened.size)
        rows = len(sizes) * self.processor.image_feature_size if self.kind == "features" else int(sizes.prod(1).sum())
        return rows * self.width * self.dtype.itemsize

    def collate(self, images: Sequence[CachedImage]) -> dict[str, torch.Tensor]:
        """vision_states [S, P, D_vision] or image_features [S, Q, D], and tgt_sizes [S, 2], S = 0 without images."""
        sizes = torch.cat([torch.zeros(0, 2, dtype=torch.int32), *(image.tgt_sizes for image in images)])
        if self.kind == "features":
            blank = torch.zeros(0, self.processor.image_feature_size, self.width, dtype=self.dtype)
            return {"image_features": torch.cat([blank, *(image.encoded for image in images)]), "tgt_sizes": sizes}
        slices = [part for image in images for part in image.encoded.split(image.tgt_sizes.prod(1).tolist())]
        states = pad_sequence(slices, batch_first=True) if slices else torch.zeros(0, 1, self.width, dtype=self.dtype)
        return {"vision_states": states, "tgt_sizes": sizes}


def open_cache(folder: Path, kind: Kind, model: Any, processor: MiniCPMVImageProcessor, args: DPOConfig) -> VisionCache:
    """The cache for a model, as it is before it trains, and the precision of the arguments.

    Errors: ConfigError with ZeRO-3, where no process has the whole encoder.
    """
    if is_deepspeed_zero3_enabled():
        raise ConfigError(
            "dpo.cache_vision is set, but ZeRO-3 divides the vision encoder over the processes; use SHARDING=zero2 or "
            "fsdp2, or remove dpo.cache_vision"
        )
    encoder: torch.nn.Module = model.get_encoder(modality="image")
    parts = [encoder, model.model.resampler] if kind == "features" else [encoder]
    dtype = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else next(encoder.parameters()).dtype
    vision: Any = model.config.vision_config
    described = {
        "format": FORMAT,
        "kind": kind,
        "dtype": str(dtype),
        "processor": processor.to_dict(),
        "vision": vision.to_dict(),
    }
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
    for part in parts:
        for name, tensor in sorted(part.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    width = vision.hidden_size if kind == "states" else model.config.hidden_size
    return VisionCache(folder / digest.hexdigest()[:16], kind, processor, width, dtype)


def missing_images(
    cache: VisionCache, read: PairReader, datasets: Sequence[Dataset]
) -> tuple[list[Location], int, int]:
    """The location of each image without a file; the bytes that these files will take; the number of all images."""
    missing: list[Location] = []
    seen: set[str] = set()
    needed = 0
    for dataset in datasets:
        prompts: set[int] = set()
        for location in dataset:
            if location[PROMPT] in prompts:
                continue
            prompts.add(location[PROMPT])
            for number, image in enumerate(read([location])[0]["images"]):
                file = cache.file(image["bytes"])
                if file.name not in seen and not file.is_file():
                    missing.append({**location, "image": number})
                    needed += cache.bytes_of(image["bytes"])
                seen.add(file.name)
    return missing, needed, len(seen)


def fill(
    cache: VisionCache,
    model: Any,
    args: DPOConfig,
    read: PairReader,
    datasets: Sequence[Dataset],
) -> None:
    """Encode the images of the pairs that have no file yet; all processes must call it, and each does its share.

    Errors: InputError if the disk is too small.
    """
    state: Any = args.distributed_state
    missing, needed, count = missing_images(cache, read, datasets)
    cache.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache.folder).free
    if needed + RESERVE > free:
        raise InputError(
            f"dpo.cache_vision needs {size_in_words(needed)} for {len(missing):,} images, and {cache.folder} has "
            f"{size_in_words(free)} free, of which {size_in_words(RESERVE)} stay free; "
            "make room, name a folder on another disk, or remove dpo.cache_vision"
        )
    if args.process_index == 0:
        print(
            f"  {cache.folder} keeps the {cache.kind} of {count:,} images; "
            f"{len(missing):,} are missing and take {size_in_words(needed)} of {size_in_words(free)}",
            flush=True,
        )
    state.wait_for_everyone()  # all have counted before one writes
    encode(cache, model, args, read, missing[args.process_index :: args.world_size])
    state.wait_for_everyone()


@dataclass(frozen=True)
class Slicer:
    """The location of an image -> its bytes, its size, its pixels [S, 3, side, P * side] and tgt_sizes [S, 2]."""

    read: PairReader
    processor: MiniCPMVImageProcessor

    def __call__(self, locations: Sequence[Location]) -> tuple[bytes, tuple[int, int], torch.Tensor, torch.Tensor]:
        (location,) = locations
        image: bytes = self.read([location])[0]["images"][location["image"]]["bytes"]
        opened = open_image(image)
        slices, sizes = self.processor.slice(opened)
        return image, opened.size, pack_slices(slices), sizes


@torch.no_grad()
def encode(cache: VisionCache, model: Any, args: DPOConfig, read: PairReader, locations: Sequence[Location]) -> None:
    """Write the files of these images. Images are decoded and cut in the workers that the arguments name."""
    device, encoder = args.device, model.get_encoder(modality="image")
    start, training = next(encoder.parameters()).device, model.training
    model.eval()
    for part in (encoder, model.model.resampler):
        part.to(device)
    loader: Any = DataLoader(
        locations,  # type: ignore[arg-type]  # a sequence is enough
        collate_fn=Slicer(read, cache.processor),
        num_workers=args.dataloader_num_workers if locations else 0,
    )
    autocast = torch.autocast(device.type, dtype=cache.dtype, enabled=args.bf16 or args.fp16)
    with autocast, progress_bar("images", "image", total=len(locations)) as bar:
        for image, size, pixels, sizes in loader:
            if cache.kind == "features":
                encoded = model.get_image_features(pixels.to(device), sizes.to(device))
            else:
                states = encoder(pixels.to(device), sizes.to(device))  # [S, P, D_vision]
                lengths = sizes.prod(1).tolist()
                encoded = torch.cat([state[:length] for state, length in zip(states, lengths, strict=True)])
            cache.write(image, size, encoded)
            bar.update()
    for part in (encoder, model.model.resampler):
        part.to(start)
    model.train(training)


def sha256_of(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def size_in_words(count: int) -> str:
    """Bytes as GB, or as MB where they are fewer than one GB."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
