"""Pictures of the pages of `make browse` and `make audit` for docs/, taken with Chromium.

    make screenshots RUN=runs/demo OTHER=runs/cool       # two runs of the same prompts
    python -m bench.figures.screenshots --run runs/demo --other runs/cool

The runs are copied first, without models and checkpoints, as an audit writes into its run. Both commands run as users
start them, so that what is shown is what they show. A second start with the same runs and the same Chromium gives the
same files.
"""

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from rlaif.command import exit_status
from rlaif.errors import ConfigError, InputError
from rlaif.storage.files import atomic_write, read_json

WIDTH, HEIGHT = 1240, 800
MARGIN = 24  # above a part of a page
SCALE = 1.5  # pixels of a CSS pixel
QUALITY = 82  # of WebP
LARGEST = 150_000  # bytes of a file
COPIED = ("*.parquet", "*.json", "*.log", ".*lock", "report.html")
SWITCHES = ("--no-sandbox", "--disable-font-subpixel-positioning")  # with it, the same page is not always drawn alike
INSTALL = "install it with `apt-get install chromium`"


@dataclass(frozen=True)
class Shot:
    """A picture. path: the page's, with {shared}, a prompt of which both runs have pairs; top: where it begins."""

    name: str
    path: str
    theme: str = "light"
    top: str = "body"
    height: int = HEIGHT


BROWSE = (
    Shot("browse-overview", "", height=690),
    Shot("browse-pairs", "pairs?sort=-margin"),
    Shot("browse-pairs-dark", "pairs?sort=-margin", theme="dark"),
    Shot("browse-prompt", "prompt/{shared}"),
    Shot("browse-compare", "compare/{shared}"),
    Shot("report-gallery", "report", top="section:has(.gallery)", height=640),
)
AUDIT = (
    Shot("audit-claim", "next?person=Ann"),
    Shot("audit-pair", "item?person=Ann&kind=pair&id={pair}", theme="dark"),
)


def take(run: Path, other: Path, folder: Path) -> None:
    """Write the pictures of two runs into a folder. Errors: RlaifError."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        raise InputError(f"Chromium is not on this machine, and it takes the pictures; {INSTALL}")
    from playwright.sync_api import sync_playwright

    if not (run / "report.html").is_file():
        raise InputError(f"{run} has no report.html, and a picture shows its gallery; run `make report RUN={run}`")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        copies = [copy_run(path, Path(temporary) / str(number)) for number, path in enumerate((run, other))]
        names = {"shared": shared_prompt(*copies)}
        chromium = playwright.chromium.launch(executable_path=executable, args=list(SWITCHES))
        with serving("browser", copies[0], "--other", str(copies[1])) as address:
            for shot in BROWSE:
                save(chromium, address, shot, names, folder)
        with serving("browser.audit", copies[0]) as address:
            names["pair"] = first_pair(copies[0])
            for shot in AUDIT:
                save(chromium, address, shot, names, folder)
        chromium.close()


def copy_run(path: Path, parent: Path) -> Path:
    """A copy of a run's tables, markers and logs, under the same name. Errors: InputError."""
    if not (path / "pairs.parquet").is_file():
        raise InputError(f"{path} has no pairs.parquet, and the pictures show pairs; run `make feedback RUN={path}`")
    copy = parent / path.resolve().name
    copy.mkdir(parents=True)
    for pattern in COPIED:
        for file in path.glob(pattern):
            shutil.copy2(file, copy / file.name)
    if (log := path / "dpo" / "log.json").is_file():
        (copy / "dpo").mkdir()
        shutil.copy2(log, copy / "dpo" / log.name)
    return copy


def shared_prompt(run: Path, other: Path) -> str:
    """The first prompt of which both runs have a pair. Errors: InputError: there is none."""
    import pyarrow.parquet as pq

    tables = (pq.read_table(path / "pairs.parquet", columns=["prompt_id"]) for path in (run, other))
    first, second = (dict.fromkeys(table["prompt_id"].to_pylist()) for table in tables)
    shared = next((prompt for prompt in first if prompt in second), None)
    if shared is None:
        raise InputError(
            f"{run.name} and {other.name} have no prompt with pairs in common; give another OTHER=, a run of the same "
            "data and seed"
        )
    return str(shared)


def first_pair(run: Path) -> str:
    """The first pair that an audit asks about."""
    return str(read_json(run / "audit.json")["pairs"][0])


@contextmanager
def serving(module: str, run: Path, *arguments: str) -> Iterator[str]:
    """The address that a command prints. Errors: InputError: it ended without one."""
    command = [sys.executable, "-m", module, "--run", str(run), *arguments, "--port", "18000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = next((match[0] for line in process.stdout if (match := re.search(r"http://\S+/", line))), None)
        if address is None:
            raise InputError(f"`{' '.join(command[1:])}` ended without an address; see its error above")
        yield address
    finally:
        process.terminate()
        process.communicate()


def save(chromium: Any, address: str, shot: Shot, names: dict[str, str], folder: Path) -> None:
    """Write a picture of a page."""
    size = {"width": WIDTH, "height": shot.height}
    page = chromium.new_page(viewport=size, device_scale_factor=SCALE, color_scheme=shot.theme, reduced_motion="reduce")
    page.goto(address + shot.path.format(**names), wait_until="networkidle")
    top = page.locator(shot.top).bounding_box()["y"]
    clip = {"x": 0, "y": max(0, top - MARGIN), "width": WIDTH, "height": shot.height}  # scrolled pages differ by pixels
    content = encode(page.screenshot(full_page=True, clip=clip, animations="disabled", caret="hide"), shot.name)
    page.close()
    with atomic_write(folder / f"{shot.name}.webp") as temporary:
        temporary.write_bytes(content)
    print(f"wrote {folder / shot.name}.webp ({len(content):,} bytes)")


def encode(png: bytes, name: str) -> bytes:
    """A picture as WebP. Errors: InputError: it is larger than a page of documentation should load."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).save(buffer, "WEBP", quality=QUALITY, method=6)
    if buffer.tell() > LARGEST:
        raise InputError(
            f"{name} has {buffer.tell():,} bytes, expected at most {LARGEST:,}; give a run with simpler pictures"
        )
    return buffer.getvalue()


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status, 2 after an error that the user can fix."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m bench.figures.screenshots", description=summary)
    parser.add_argument("--run", required=True, type=Path, metavar="FOLDER", help="run folder, such as runs/demo")
    parser.add_argument("--other", required=True, metavar="FOLDER", help="another run of the same prompts")
    parser.add_argument("--out", default=Path("docs/assets"), type=Path, metavar="FOLDER", help="default docs/assets")
    arguments = parser.parse_args(argv)

    def run() -> None:
        if not arguments.other:
            raise ConfigError("OTHER is not set; give another run of the same prompts, to show both side by side")
        take(arguments.run, Path(arguments.other), arguments.out)

    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
