"""Our way and the usual one side by side, as ratios with their spread; written to bench/results/latest.json.

make bench                  every name
make bench NAME=packing     one

At the end it prints all that stands in latest.json, which README shows.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial

from bench.comparisons import claims, dpo, packing, pairs, responses, startup
from bench.result import Result, machine, read, table, write

NAMES: dict[str, Callable[[int], Result]] = {
    "claims_small": partial(claims.told, claims.SMALL, "forward passes"),
    "claims_large": partial(claims.told, claims.LARGE, "forward passes"),
    "prefix_cache": partial(claims.told, claims.LARGE, "no cache"),
    "responses": partial(responses.told, responses.SMALL, "one item"),
    "responses_batched": partial(responses.told, responses.LARGE, "batched"),
    "dpo_full": partial(dpo.told, "full", dpo.Load()),
    "dpo_lora": partial(dpo.told, "lora", dpo.Load()),
    "dpo_short_text": partial(dpo.told, "full", dpo.SHORT_TEXT),
    "packing": packing.told,
    "pairs": pairs.told,
    "startup": startup.told,
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(NAMES)}; none: all")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.names) - NAMES.keys():
        print(f"error: there is no benchmark {sorted(unknown)[0]!r}; there are: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    print(machine())
    for name in arguments.names or NAMES:
        print(f"\n{name}", flush=True)
        write({name: NAMES[name](arguments.repeats)})
    print(f"\n{table(read())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
