"""Peak memory of a process, from /proc.

Not `resource.getrusage`: after fork and exec its `ru_maxrss` still has the peak of the parent, so that a small process
started by a large one seems large.
"""

import re
from pathlib import Path

from rlaif.errors import InputError


def peak_memory(pid: int | None = None) -> int:
    """The largest resident memory that a process has had so far, in bytes; pid None: this process.

    Pages of a mapped model file count as far as they were read. Errors: InputError: there is no such process.
    """
    file = Path(f"/proc/{'self' if pid is None else pid}/status")
    try:
        status = file.read_text()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise InputError(f"{file} is missing; expected a running process on Linux") from error
    line = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    if line is None:  # a zombie has no memory
        raise InputError(f"{file} has no VmHWM; the process has ended")
    return int(line[1]) * 1024
