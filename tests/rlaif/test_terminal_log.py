"""The log of a stage: whole lines with times, no redraws, nothing outside a run, and a kill keeps what was printed."""

import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tqdm import tqdm

from rlaif.command import run_stage
from rlaif.config import Config
from rlaif.errors import InputError
from rlaif.storage.run import Run
from rlaif.terminal_log import Log, Recorded, recorded
from tests.support import ROOT
from tests.support.runs.browsed import CONFIG

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (.*)")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    return tmp_path / "run"


def lines(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8")
    matches = [TIME.fullmatch(line) for line in text.splitlines()]
    assert all(matches) and (not text or text.endswith("\n"))
    return [match[1] for match in matches if match]


def test_what_is_printed_is_recorded_and_still_printed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with recorded(run / "x.log"):
        print("one", 2)
        print("in ", end="")
        print("parts\n\nand \x1b[31mred\x1b[0m", flush=True)
        sys.stderr.writelines(["error: \u732b\n", "no end"])
    print("afterwards")
    said = capsys.readouterr()
    assert said.out == "one 2\nin parts\n\nand \x1b[31mred\x1b[0m\nafterwards\n"
    assert said.err == "error: \u732b\nno end"
    assert lines(run / "x.log") == ["one 2", "in parts", "and red", "error: \u732b", "no end"]


def test_of_a_progress_bar_only_the_last_state_is_recorded(run: Path) -> None:
    stream = io.StringIO()
    log = Log(run / "x.log")
    for _ in tqdm(range(200), desc="claims", file=Recorded(stream, log), mininterval=0, miniters=1, ncols=60):
        pass
    for text in ("split\r", "\n", "a\rb\rc", "d\r\n", "\r    \r"):
        Recorded.write(recorder := Recorded(stream, log), text)
        recorder.end_line()
    log.close()
    assert stream.getvalue().count("\r") > 200
    shown = lines(run / "x.log")
    assert shown[0].startswith("claims: 100%|") and "200/200" in shown[0] and shown[1:] == ["split", "c", "d"]


def test_a_folder_that_is_no_run_stays_as_it_is(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with recorded(folder / "x.log"):
            print("error: a mistaken RUN=")
    assert list(tmp_path.iterdir()) == []


def test_lines_before_the_folder_becomes_a_run_are_kept(tmp_path: Path) -> None:
    with recorded(tmp_path / "run" / "generation.log"):
        print("before")
        run = Run(tmp_path / "run", CONFIG, "generation")
        run.begin(["prompts"], {}, inputs=[])
        run.announce("prompts of scenes")
        assert lines(run.path / "generation.log") == ["before", f"generation: {run.path}", "  prompts of scenes"]


def test_errors_and_defects_are_recorded_too(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("policy: {model: p}\nlabeler: {model: l}\n")
    argv = ["--config", str(file), "--run", str(run)]

    def status(error: Exception, **given: str) -> int:
        def action(config: Config, path: Path) -> None:
            raise error

        return run_stage(Config, "rlaif.report", "Does.", action, argv, **given)  # type: ignore[arg-type]

    assert status(InputError("no images")) == 2 and status(OSError(28, "No space left on device"), log="other") == 2
    assert lines(run / "report.log") == ["error: no images"] and "No space left" in lines(run / "other.log")[0]
    with pytest.raises(ZeroDivisionError):
        status(ZeroDivisionError("a defect"))
    assert lines(run / "report.log")[-1] == "ZeroDivisionError: a defect"
    assert capsys.readouterr().err.count("error: ") == 2  # the traceback is printed by Python at its end


def test_a_log_that_cannot_be_written_is_noted_and_ends_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run.parent / "outside").touch()
    (run / "x.log").symlink_to(run.parent / "outside")  # a run folder from elsewhere
    with recorded(run / "x.log"):
        print("one")
        print("two")
    said = capsys.readouterr()
    assert said.out == "one\ntwo\n" and (run.parent / "outside").read_text() == ""
    reason = "Too many levels of symbolic links"
    assert said.err == f"note: {run}/x.log is not written any more ({reason}); the stage goes on\n"


def test_only_the_first_process_of_a_launcher_is_recorded(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        with recorded(run / "x.log"):
            print(f"process {rank}")
    assert lines(run / "x.log") == ["process 0"]


def test_a_forked_process_is_not_recorded(run: Path) -> None:
    with recorded(run / "x.log"):
        print("parent")
        if (child := os.fork()) == 0:
            try:
                print("child", file=sys.stderr)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    assert lines(run / "x.log") == ["parent"]


def test_a_stream_is_otherwise_what_it_was(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout.fileno(), sys.stdout.encoding, sys.stdout.isatty()
    with recorded(run / "x.log"):
        assert (sys.stdout.fileno(), sys.stdout.encoding, sys.stdout.isatty()) == before
        subprocess.run(["echo", "of another program"], check=True, stdout=sys.stdout)
    assert "of another program" in capfd.readouterr().out and not (run / "x.log").exists()


@pytest.mark.slow
def test_a_kill_keeps_every_line_and_two_processes_do_not_mix(run: Path) -> None:
    command = (
        "import sys, warnings\nfrom pathlib import Path\nfrom rlaif.terminal_log import recorded\n"
        f"with recorded(Path({str(run)!r}) / 'x.log'):\n    warnings.warn('careful')\n"
        "    for number in range(10**9):\n        print(sys.argv[1] * 500, number, flush=True)\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", command, name], cwd=ROOT, stdout=subprocess.PIPE) for name in "ab"]
    printed = []
    for process in both:
        assert process.stdout is not None
        printed.append([process.stdout.readline().decode().rstrip("\n") for _ in range(200)])
    for process in both:
        process.kill()
        process.communicate()
    time.sleep(0.1)
    shown = lines(run / "x.log")
    warned = [line for line in shown if "warn" in line.lower()]
    assert sum("UserWarning: careful" in line for line in warned) == 2
    assert all(re.fullmatch(r"(a{500}|b{500}) \d+", line) for line in shown if line not in warned)
    for name, said in zip("ab", printed, strict=True):
        numbers = [int(line.split()[1]) for line in shown if line.startswith(name)]
        assert numbers == list(range(len(numbers))) and set(said) <= set(shown)
