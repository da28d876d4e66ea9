"""Which files of a folder are images: by suffix, or by their first bytes where there is none that says so.

Real folders hold more: Thumbs.db, .DS_Store, arrays, sidecars, downloads that did not finish. They are counted, not
dropped one by one.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

IMAGE_SUFFIX = re.compile(
    r"\.(a?png|avifs?|bmp|dib|gif|hei[cf]s?|hif|ico|j2[ck]|jfif|jp[2cefx]|jpe?g|p[bgnp]m|tiff?|webp)", re.IGNORECASE
)
UNFINISHED_SUFFIX = re.compile(r"\.(bak|crdownload|download|part|partial|tmp)", re.IGNORECASE)
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8")
BRANDS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
SYSTEM_FOLDERS = frozenset(("__MACOSX", "@eaDir"))  # of zip files from macOS, with no images; thumbnails of Synology
MOST_KINDS = 4  # named in a summary


def files_below(folder: Path) -> tuple[list[str], Counter[str]]:
    """The names of the images below a folder, relative to it and sorted; and how many other files, by kind."""
    images: list[str] = []
    others: Counter[str] = Counter()
    for path, name in _files(folder):
        *folders, file = name.split("/")
        if file.startswith(".") or any(part.startswith(".") or part in SYSTEM_FOLDERS for part in folders):
            others["hidden"] += 1
        elif IMAGE_SUFFIX.fullmatch(path.suffix) or (
            not UNFINISHED_SUFFIX.fullmatch(path.suffix) and starts_as_image(path)
        ):
            images.append(name)
        else:
            others[path.suffix.lower() or "without suffix"] += 1
    return sorted(images), others


def starts_as_image(path: Path) -> bool:
    """Whether a file begins as a JPEG, PNG, GIF, WebP, HEIC or AVIF does; not if it cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:
        return False
    is_webp = start[:4] == b"RIFF" and start[8:] == b"WEBP"
    return is_webp or start.startswith(SIGNATURES) or (start[4:8] == b"ftyp" and start[8:] in BRANDS)


def summary(others: Counter[str]) -> str:
    """Such as: 50,003 other files (50,000 .npy, 2 .db, 1 without suffix)."""
    most = sorted(others.items(), key=lambda item: (-item[1], item[0]))[:MOST_KINDS]
    kinds = [f"{count:,} {kind}" for kind, count in most]
    if len(others) > MOST_KINDS:
        kinds.append("and others")
    return f"{others.total():,} other files ({', '.join(kinds)})"


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path, path.relative_to(folder).as_posix()
