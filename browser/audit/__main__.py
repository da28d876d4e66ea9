"""Ask people about a sample of a run's claims and pairs, in a web browser of this machine, and save each verdict.

    python -m browser.audit --run runs/demo --count 200

It prints an address with a random token and serves it on loopback until Ctrl-C. A port that is taken is passed over.
Started again, it goes on with the same sample; a larger count extends it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlaif.command import exit_status, read_port
from rlaif.errors import ConfigError, InputError

if TYPE_CHECKING:
    from evaluation.audit.store import Audit

MOST = 999_999_999  # items, or a seed


def check_finished(path: Path) -> None:
    """Errors: InputError: the claims of a run are not complete, so that a sample would be one of a part of them."""
    from browser.progress import is_locked
    from browser.tables import markers

    marker = dict(markers(path)).get("feedback")
    if marker is None or marker["finished"]:
        return
    state, remedy = "was stopped", f"resume it with `make feedback RUN={path}`, with the same CONFIG and SET"
    if is_locked(path / ".lock"):
        state, remedy = "is under way", "wait until it has finished"
    raise InputError(f"feedback of {path} {state}, and an audit draws its sample from all claims and pairs; {remedy}")


def open_audit(path: Path, count: int, seed: int | None) -> "tuple[Audit, list[str]]":
    """The audit of a run, and lines that say what is not as asked for.

    Errors: InputError: it is not a finished run, or there is nothing to ask about; AuditError: another sample.
    """
    from browser.tables import open_run
    from evaluation.audit.store import Audit

    notes = open_run(path)
    check_finished(path)
    audit = Audit.open(path, count, seed)
    claims, pairs = (len(audit.sample[kind]) for kind in ("claims", "pairs"))
    if not claims and not pairs:
        raise InputError(
            f"{path} has no claim with a verdict and no pair, so there is nothing to ask people about; see why in "
            f"`make browse RUN={path}`"
        )
    if not pairs:
        notes.append(f"{path} has no pairs, so people are asked about claims only")
    if not claims:
        notes.append(f"{path} has no claim with a verdict, so people are asked about pairs only")
    if audit.sample["count"] > count:
        notes.append(f"this audit was drawn with N={audit.sample['count']}, and goes on with all of these items")
    return audit, notes


def serve(path: Path, count: int, seed: int | None, port: int) -> None:
    """Ask until Ctrl-C. Errors: RlaifError."""
    from browser.serving import address, free_port, serve_until_interrupted
    from browser.tables import Runs
    from evaluation.audit.store import TABLE

    audit, notes = open_audit(path, count, seed)
    listening = free_port(port)

    from browser.audit.app import create_app

    app, token = create_app(audit, Runs(path), notes)
    for note in notes:
        print(f"  note     {note}")
    claims, pairs = (len(audit.sample[kind]) for kind in ("claims", "pairs"))
    print(f"  sample   {claims:,} claims and {pairs:,} pairs, seed {audit.sample['seed']}")
    print(f"audit: {path} at {address(listening, token)} ; Ctrl-C ends it", flush=True)
    serve_until_interrupted(app, listening)
    print(f"audit: ended; the verdicts are in {path / TABLE}")
    print(f"  next     make evaluate report RUN={path}, with the same CONFIG and SET")


def read_number(name: str, text: str, least: int) -> int:
    """Errors: ConfigError: it is not a whole number from `least` to MOST."""
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= MOST):
        raise ConfigError(f"{name} is {text[:20]!r}, expected a whole number from {least} to {MOST}; correct {name}=")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status, 2 after an error that the user can fix."""
    parser = argparse.ArgumentParser(prog="python -m browser.audit", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", required=True, type=Path, metavar="FOLDER", help="run folder, such as runs/demo")
    parser.add_argument("--count", default="200", metavar="N", help="claims, and as many pairs; default 200")
    parser.add_argument("--seed", help="seed of the sample; default that of the audit that is there, or of the run")
    parser.add_argument("--port", default="8000", help="first port to try; default 8000")
    arguments = parser.parse_args(argv)

    def run() -> None:
        seed = None if arguments.seed is None else read_number("SEED", arguments.seed, 0)
        serve(arguments.run, read_number("N", arguments.count, 1), seed, read_port(arguments.port))

    return exit_status(run)


if __name__ == "__main__":
    sys.exit(main())
