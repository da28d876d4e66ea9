"""Show a run in a web browser of this machine, without changing anything in it.

    python -m browser --run runs/demo --port 8000
    python -m browser --run runs/demo --other runs/cool

It prints an address with a random token and serves it on loopback until Ctrl-C. A port that is taken is passed over.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import exit_status, read_port


def serve(run: Path, other: Path | None, port: int) -> None:
    """Serve the pages until Ctrl-C. Errors: RlaifError."""
    from browser.serving import address, free_port, serve_until_interrupted
    from browser.tables import Runs, open_run

    notes = [note for path in (run, other) if path is not None for note in open_run(path)]
    listening = free_port(port)
    from browser.app import create_app

    runs = Runs(run, other)
    runs.snapshot()  # so that a damaged table is an error here, not in the browser
    app, token = create_app(runs, notes)
    for note in notes:
        print(f"  note     {note}")
    both = str(run) if other is None else f"{run} and {other}"
    print(f"browse: {both} at {address(listening, token)} ; Ctrl-C ends it", flush=True)
    serve_until_interrupted(app, listening)
    print("browse: ended")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status, 2 after an error that the user can fix."""
    parser = argparse.ArgumentParser(prog="python -m browser", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", required=True, type=Path, metavar="FOLDER", help="run folder, such as runs/demo")
    parser.add_argument("--other", type=Path, metavar="FOLDER", help="another run, to compare prompt by prompt")
    parser.add_argument("--port", default="8000", help="first port to try; default 8000")
    arguments = parser.parse_args(argv)
    return exit_status(lambda: serve(arguments.run, arguments.other, read_port(arguments.port)))


if __name__ == "__main__":
    sys.exit(main())
