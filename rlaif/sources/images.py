"""Load and check the images of a source: Picture -> a file that every tool decodes alike, or the reason why not.

The file is made plain once, here: sampling, labeling, training, endpoints and exports get the same bytes, and a reader
that knows neither HEIC nor EXIF rotation sees in `prompts` and `pairs` what policy and labeler saw. The hash is that of
the file as it came: ids and splits depend neither on the encoder nor on its version.

| reason               | the image                                                                                 |
|----------------------|-------------------------------------------------------------------------------------------|
| no_image             | is absent: the row is text only                                                           |
| several_images       | is one of several of its row                                                              |
| missing_image        | has a path that does not lead to a file                                                   |
| image_outside_folder | has a path that resolves to a file outside the folder of its source (`..`, a link)          |
| url_not_allowed      | is at a host that `data.image_hosts` does not list, redirects to one, or is private         |
| url_failed           | could not be fetched: an error, too large, too slow                                         |
| image_too_large      | has more than `data.max_pixels`, or too many bytes                                          |
| empty_image, unreadable_image, broken_image | does not decode: see model.images                                    |
"""

import hashlib
import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rlaif.errors import OutsideFolderError
from rlaif.sources.cells import DATA_URL, read_data_url
from rlaif.sources.picture import URL, Picture, UnusableImageError
from rlaif.storage.files import file_inside

# how the messages of model.images.open_image start
IMAGE_REASONS = ("empty_image", "unreadable_image", "broken_image", "image_too_large")
MAX_FILE_BYTES = 200 * 2**20
AnyPicture = TypeVar("AnyPicture", bound=Picture)
MAX_THREADS = 8  # each may decode an image, which can take half a gigabyte


@dataclass(frozen=True)
class ImageFile:
    """content: a file as of model.images.plain_file. sha256: of the file from which it was made, in hex digits."""

    content: bytes
    sha256: str


def load_image(picture: Picture, hosts: Collection[str] = (), max_pixels: int | None = None) -> ImageFile:
    """The plain file of an image, which was decoded once as a check.

    hosts: URLs are fetched from these only. max_pixels: `data.max_pixels`; None: the default, outside section `data`.
    Errors: UnusableImageError.
    """
    from model.images import MAX_PIXELS, open_image, plain_file

    try:
        data = picture.image if isinstance(picture.image, bytes) else _read(picture, hosts)
        image = open_image(data, max_pixels or MAX_PIXELS)
        return ImageFile(plain_file(data, image)[0], hashlib.sha256(data).hexdigest())
    except ValueError as error:
        reason = str(error).partition(":")[0].replace(" ", "_")
        hint = "; raise data.max_pixels" if reason == "image_too_large" and max_pixels is not None else ""
        reason = reason if reason in IMAGE_REASONS else "broken_image"
        raise UnusableImageError(reason, f"{error}{hint}") from error


def load_images(
    pictures: Iterable[AnyPicture], hosts: Collection[str], max_pixels: int | None = None
) -> Iterator[tuple[AnyPicture, ImageFile | UnusableImageError]]:
    """Each picture with its image, or the reason why it has none, in order; threads load and check a few ahead."""
    threads = min(MAX_THREADS, len(os.sched_getaffinity(0)))
    ahead: deque[tuple[AnyPicture, Future[ImageFile]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for picture in pictures:
            ahead.append((picture, pool.submit(load_image, picture, hosts, max_pixels)))
            if len(ahead) > 2 * threads:
                yield _result(*ahead.popleft())
        while ahead:
            yield _result(*ahead.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _result(picture: AnyPicture, image: Future[ImageFile]) -> tuple[AnyPicture, ImageFile | UnusableImageError]:
    try:
        return picture, image.result()
    except UnusableImageError as error:
        return picture, error


def _read(picture: Picture, hosts: Collection[str]) -> bytes:
    """The encoded bytes, from a file or a URL. Errors: UnusableImageError."""
    assert not isinstance(picture.image, bytes)
    if picture.fault is not None:
        raise picture.fault
    if picture.image is None:
        raise UnusableImageError("no_image", "the row has no image: it is text only")
    if DATA_URL.match(picture.image):
        return read_data_url(picture.image)
    if URL.match(picture.image):
        from rlaif.sources.fetch import fetch

        return fetch(picture.image, hosts)
    return read_inside(picture.image, picture.folders)


def read_inside(name: str, folders: Sequence[Path]) -> bytes:
    """The bytes of a file in one of the folders; links are resolved first. Errors: UnusableImageError."""
    try:
        if "\\" in name and not (folders[0] / name).exists():  # a path of Windows
            name = name.replace("\\", "/")
        path = file_inside(name, folders)
        if (size := os.path.getsize(path)) > MAX_FILE_BYTES:
            raise UnusableImageError("image_too_large", f"{name}: {size:,} bytes, at most {MAX_FILE_BYTES:,} are read")
        return path.read_bytes()
    except OutsideFolderError as error:
        raise UnusableImageError("image_outside_folder", str(error)) from error
    except OSError as error:
        raise UnusableImageError("missing_image", f"{name}: {error.strerror}") from error
