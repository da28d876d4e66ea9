"""Renders the figures of docs/results/*.json into the pages, and the chart of the README.

make figures
python -m bench.figures --check        exit status 1 if a page or chart is out of date
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.figures.chart import rounds_chart
from bench.figures.pages import fill, pages
from bench.figures.results import ROOT, read_result
from rlaif.errors import RlaifError
from rlaif.storage.files import atomic_write


def rendered(root: Path = ROOT) -> dict[Path, str]:
    """Up-to-date content of each file with figures. Errors: InputError if a result file, name or key is missing."""
    folder = root / "docs" / "results"
    files = {page: fill(page.read_text(encoding="utf-8"), folder) for page in pages(root)}
    return {**files, root / "docs" / "assets" / "rounds.svg": rounds_chart(read_result("rounds", folder).figures)}


def outdated(root: Path = ROOT) -> dict[Path, str]:
    """Files of `rendered` with other content on disk."""
    return {
        file: text
        for file, text in rendered(root).items()
        if not file.is_file() or file.read_text(encoding="utf-8") != text
    }


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.figures", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if something is out of date")
    check = parser.parse_args(argv).check
    try:
        files = outdated()
    except RlaifError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for file, text in files.items():
        print(f"{'out of date' if check else 'wrote'}: {file.relative_to(ROOT)}")
        if not check:
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(file) as temporary:
                temporary.write_text(text, encoding="utf-8")
    if check and files:
        print("error: run `make figures`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
