"""Show a run in a web browser of this machine, without changing anything in it.

    python -m browser --run runs/demo --port 8000
    python -m browser --run runs/demo --other runs/seed-1

It prints an address with a random token and serves it on loopback until Ctrl-C. A port that is taken is passed over.
"""

import argparse
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import read_port, report_error
from rlaif.errors import ConfigError, RlaifError

LOOPBACK = "127.0.0.1"
PORTS_TRIED = 50


def free_port(port: int) -> socket.socket:
    """A socket that listens on loopback, at the first free port from `port`. Errors: ConfigError: none is free."""
    for number in range(port, min(port + PORTS_TRIED, 65536)):
        try:
            return socket.create_server((LOOPBACK, number))
        except OSError:  # taken, or one that only root may use
            continue
    raise ConfigError(f"no port from {port} to {number} can be used on {LOOPBACK}; give another PORT=")


def serve(run: Path, other: Path | None, port: int) -> None:
    """Serve the pages until Ctrl-C. Errors: RlaifError."""
    from browser.tables import Runs, open_run

    notes = [note for path in (run, other) if path is not None for note in open_run(path)]
    listening = free_port(port)
    import uvicorn

    from browser.app import create_app

    runs = Runs(run, other)
    runs.snapshot()  # so that a damaged table is an error here, not in the browser
    app, token = create_app(runs, notes)
    for note in notes:
        print(f"  note     {note}")
    both = str(run) if other is None else f"{run} and {other}"
    print(f"browse: {both} at http://{LOOPBACK}:{listening.getsockname()[1]}/{token}/ ; Ctrl-C ends it", flush=True)
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, lifespan="off", ws="none")
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        print("browse: ended")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status, 2 after an error that the user can fix."""
    parser = argparse.ArgumentParser(prog="python -m browser", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", required=True, type=Path, metavar="FOLDER", help="run folder, such as runs/demo")
    parser.add_argument("--other", type=Path, metavar="FOLDER", help="another run, to compare prompt by prompt")
    parser.add_argument("--port", default="8000", help="first port to try; default 8000")
    arguments = parser.parse_args(argv)
    try:
        serve(arguments.run, arguments.other, read_port(arguments.port))
    except (RlaifError, OSError) as error:
        report_error(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
