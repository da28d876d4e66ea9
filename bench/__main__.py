"""Compares our implementations with the usual ones, as ratios with their spread; writes bench/results/latest.json.

make bench                  all benchmarks
make bench NAME=packing     a single one
make bench NAME=roofline    not a comparison: the share of the machine's matrix rate, into docs/results/roofline.json

At the end it prints all results in latest.json; `make figures` puts it into the documentation.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial

from bench import roofline
from bench.comparisons import claims, dpo, idle, packing, pairs, responses, startup
from bench.result import Result, machine, read, table, write

NAMES: dict[str, Callable[[int], Result | None]] = {  # None: it has a file of its own
    "claims_small": partial(claims.compare, claims.SMALL, "forward passes"),
    "claims_large": partial(claims.compare, claims.LARGE, "forward passes"),
    "prefix_cache": partial(claims.compare, claims.LARGE, "no cache"),
    "responses": partial(responses.compare, responses.SMALL, "one item"),
    "responses_batched": partial(responses.compare, responses.LARGE, "batched"),
    "dpo_full": partial(dpo.compare, "full", dpo.Load()),
    "dpo_lora": partial(dpo.compare, "lora", dpo.Load()),
    "dpo_one_pair": partial(dpo.compare, "full", dpo.ONE_PAIR),
    "dpo_short_text": partial(dpo.compare, "full", dpo.SHORT_TEXT),
    "packing": packing.compare,
    "idle_generation": partial(idle.compare, "generation"),
    "idle_feedback": partial(idle.compare, "feedback"),
    "pairs": pairs.compare,
    "startup": startup.compare,
    "roofline": roofline.compare,
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"benchmarks to run, default all: {', '.join(NAMES)}")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.names) - NAMES.keys():
        print(f"error: unknown benchmark {sorted(unknown)[0]!r}; allowed: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    print(machine())
    for name in arguments.names or NAMES:
        print(f"\n{name}", flush=True)
        if (result := NAMES[name](arguments.repeats)) is not None:
            write({name: result})
    print(f"\n{table(read())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
