"""The command: its errors, the port, the address that it prints, and that it ends."""

import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from browser.__main__ import main
from browser.serving import LOOPBACK, free_port
from rlaif.errors import ConfigError
from tests.support import ROOT
from tests.support.project.make import dry_run
from tests.support.runs.browsed import write_run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "runs/never"], "error: run folder runs/never does not exist; create it with"),
        (["--run", "tests"], "error: tests is not a run"),
        (["--run", "{run}", "--other", "tests"], "error: tests is not a run"),
        (["--run", "{run}", "--port", "many"], "error: PORT is 'many', expected a number from 1 to 65535"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    run = write_run(tmp_path / "run")
    capsys.readouterr()
    assert main([argument.format(run=run) for argument in arguments]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(message) and shown.err.count("\n") == 1 and shown.out == ""


def test_a_port_that_is_taken_is_passed_over() -> None:
    with free_port(20_000) as first:
        number = first.getsockname()[1]
        with free_port(number) as second:
            assert second.getsockname() == (LOOPBACK, second.getsockname()[1])
            assert number < second.getsockname()[1] < number + 50


def test_no_free_port() -> None:
    with free_port(65535), pytest.raises(ConfigError, match="no port from 65535 to 65535 can be used"):
        free_port(65535)


@pytest.mark.slow
def test_it_serves_on_loopback_until_it_is_interrupted(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "browser", "--run", str(run), "--port", str(port)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.search(r"http://127\.0\.0\.1:(\d+)/[\w-]{32}/", line)
            assert match and int(match[1]) > port and "Ctrl-C ends it" in line
            with urllib.request.urlopen(f"{match[0]}pairs") as answer:
                assert answer.status == 200 and b"pair-p1" in answer.read() and "server" not in answer.headers
            with pytest.raises(urllib.error.HTTPError) as error:
                urllib.request.urlopen(f"http://127.0.0.1:{match[1]}/pairs")
            assert error.value.code == 403
            error.value.close()
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert "Traceback" not in errors and process.returncode == 0, output + errors


def test_make_browses_a_run() -> None:
    shown = dry_run("browse", "RUN=runs/it's", "OTHER=runs/two", "PORT=9000")
    assert r"-m browser --run 'runs/it'\''s' --other 'runs/two' --port '9000'" in shown
    assert "--other" not in dry_run("browse")
