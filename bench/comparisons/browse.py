"""How fast `make browse` answers on a run with 100,000 pairs: its pages, each with another filter, over its own routes.

    make bench-browse                                     # some minutes, most of which write the run
    python -m bench.comparisons.browse --pairs 1000

The run is that of `bench.comparisons.pairs`, with ten responses a prompt and ten claims a response, and the pairs that
`feedback.make_pairs` builds of them, so there are ten times as many responses and fifty times as many claims. A page is
asked through its route without a network; seconds are the median and the largest of the repeats.
"""

import argparse
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from starlette.testclient import TestClient

from bench.comparisons.pairs import K, ours, write_run
from bench.figures.tables import markdown_table
from bench.isolated import run_isolated
from browser.app import create_app
from browser.tables import Runs

PAIRS_PER_PROMPT = 2
PAGES = (  # what is asked, its address
    ("the first page", ""),
    ("pairs in table order", "pairs"),
    ("by margin, the largest first", "pairs?sort=-margin"),
    ("the last page", "pairs?page=9999999"),
    ("weak verdicts, the weakest first", "pairs?q=weakest<0.05&sort=weakest"),
    ("two conditions and an order", "pairs?q=margin>=2 split=train&sort=-length_difference"),
    ("words in a claim", 'pairs?q=claim~"wooden umbrella"'),
    ("p(yes) of a claim", "pairs?q=p_yes<0.001"),
    ("a word in any text of a pair", "pairs?q=umbrella"),
    ("prompts without pairs", "prompts?q=pairs=0"),
    ("words in a response of a prompt", 'prompts?q=response~"wooden umbrella"'),
    ("dropped rows of a reason", "dropped?q=reason=all_scores_equal"),
    ("a prompt with its ten responses", "prompt/{prompt_id}"),
    ("a picture", "picture/{prompt_id}/0"),
)


def measure(path: Path, repeats: int) -> tuple[float, list[tuple[str, list[float]]]]:
    """Seconds until the first page can be asked, and the seconds of each page."""
    start = time.perf_counter()
    runs = Runs(path)
    runs.snapshot()
    opened = time.perf_counter() - start
    app, token = create_app(runs, [])
    client = TestClient(app, base_url="http://localhost")
    first = client.get(f"/{token}/pairs").text
    found = re.search(rf"/{token}/prompt/(\w+)", first)
    assert found is not None
    measured = []
    for name, page in PAGES:
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            answer = client.get(f"/{token}/{page.format(prompt_id=found[1])}")
            seconds.append(time.perf_counter() - start)
            assert answer.status_code == 200, answer.text
        measured.append((name, seconds))
    return opened, measured


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.comparisons.browse", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "run"
        run_isolated(write_run, path, arguments.pairs // PAIRS_PER_PROMPT * K)
        pairs = run_isolated(ours, path)
        opened, measured = run_isolated(measure, path, arguments.repeats)
    print(f"{pairs:,} pairs; opened in {opened:.1f} s\n")
    rows = [(f"open the run, {pairs:,} pairs", f"{opened:.2f} s", "")]
    rows += [(name, f"{statistics.median(seconds):.2f} s", f"{max(seconds):.2f} s") for name, seconds in measured]
    print(markdown_table(("asked", "median", "largest"), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
