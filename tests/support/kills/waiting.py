"""A stage that waits, while each of its processes locks a file in the run folder, named by its rank."""

import os
import sys
import time
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import Config
from rlaif.storage.files import lock_until_exit

SECONDS = 180  # then it ends by itself


def wait(config: Config, path: Path) -> None:
    lock_until_exit(path / os.environ["RANK"])
    time.sleep(SECONDS)


if __name__ == "__main__":
    sys.exit(run_stage(Config, "tests.support.kills.waiting", "Wait.", wait))
