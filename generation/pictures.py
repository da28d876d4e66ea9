"""Pictures as a source names them -> the bytes of a file that can be opened; or the reason why not.

| reason               | the picture                                                                              |
|----------------------|------------------------------------------------------------------------------------------|
| missing_image        | is not given, or its path leads to no file                                               |
| image_outside_folder | has a path that leads out of the folder of its source, as it is, by `..` or by a link     |
| url_not_allowed      | is at a host that `data.image_hosts` does not name, or leads to one, or is no public address |
| url_failed           | could not be fetched: an error, too large, too slow                                      |
| image_too_large      | has more bytes or pixels than are read                                                   |
| empty_image, unreadable_image, broken_image | cannot be opened: see model.images                                |
"""

import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from generation.unusable import URL, Unusable
from rlaif.errors import OutsideFolderError
from rlaif.storage.files import file_inside

# heads of model.images.open_image's messages
IMAGE_REASONS = ("empty_image", "unreadable_image", "broken_image", "image_too_large")
MAX_FILE_BYTES = 200 * 2**20
THREADS = 8  # at most; each may have an image decoded, which can take half a gigabyte


Drop = Callable[[str, str, str], None]  # (row_id, reason, detail)


@dataclass(frozen=True)
class Picture:
    """An image as its source has it, and what is to be asked about it.

    name: by which a person finds it again. image: file bytes, a path or URL, or None where the source has none.
    instructions: bytes where they are no UTF-8. folders: relative paths start from the first; each path has to lead
    into one of them.
    """

    name: str
    image: bytes | str | None
    instructions: Sequence[str | bytes | None]
    path: str
    split: str | None = None  # None: by its bytes, see generation.prompts.split_of
    reference: str | None = None
    folders: Sequence[Path] = ()


def usable_image(picture: Picture, hosts: Collection[str] = ()) -> bytes:
    """The file bytes of a picture that can be opened. `hosts`: from which URLs are fetched. Errors: Unusable."""
    from model.images import open_image

    try:
        data = picture.image if isinstance(picture.image, bytes) else _read(picture, hosts)
        open_image(data)
    except ValueError as error:
        reason = str(error).partition(":")[0].replace(" ", "_")
        raise Unusable(reason if reason in IMAGE_REASONS else "broken_image", str(error)) from error
    return data


def usable_images(pictures: Iterable[Picture], hosts: Collection[str]) -> Iterator[tuple[Picture, bytes | Unusable]]:
    """Each picture with `usable_image` of it or why there is none, in order; threads check some of them ahead."""
    threads = min(THREADS, len(os.sched_getaffinity(0)))
    ahead: deque[tuple[Picture, Future[bytes]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for picture in pictures:
            ahead.append((picture, pool.submit(usable_image, picture, hosts)))
            if len(ahead) > 2 * threads:
                yield _checked(*ahead.popleft())
        while ahead:
            yield _checked(*ahead.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _checked(picture: Picture, image: Future[bytes]) -> tuple[Picture, bytes | Unusable]:
    try:
        return picture, image.result()
    except Unusable as problem:
        return picture, problem


def _read(picture: Picture, hosts: Collection[str]) -> bytes:
    """Errors: Unusable."""
    assert not isinstance(picture.image, bytes)
    if picture.image is None:
        raise Unusable("missing_image", "the source has no image here")
    if URL.match(picture.image):
        from generation.fetch import fetch

        return fetch(picture.image, hosts)
    return read_inside(picture.image, picture.folders)


def read_inside(name: str, folders: Sequence[Path]) -> bytes:
    """The bytes of a file that lies in one of the folders, links followed. Errors: Unusable."""
    try:
        path = file_inside(name, folders)
        if (size := os.path.getsize(path)) > MAX_FILE_BYTES:
            raise Unusable("image_too_large", f"{name}: {size:,} bytes, at most {MAX_FILE_BYTES:,} are read")
        return path.read_bytes()
    except OutsideFolderError as error:
        raise Unusable("image_outside_folder", str(error)) from error
    except OSError as error:
        raise Unusable("missing_image", f"{name}: {error.strerror}") from error
