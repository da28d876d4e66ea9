"""Stages in a process that kills itself at its n-th moment: a request to the engine, or a change on disk.

The double answers request by request, as a real engine would, and logs its requests to a file.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from evaluation.stage import evaluate
from feedback.stage import feedback
from generation.rewrite import rewrite
from generation.stage import generate
from rlaif.config import Config, EngineSection, ModelSection, RewriteConfig
from rlaif.inference.engine import Completion, Request
from tests.support.doubles import ScriptedEngine

MOMENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "tests.request"}
COLORS = ("red", "blue")


class CountingEngine(ScriptedEngine):
    """A scripted engine: each request is a moment, and a line of the file `log`."""

    def __init__(self, log: Path) -> None:
        super().__init__(answer, words={"yes": (1,), "no": (2,)})
        self.log = log

    def complete(self, request: Request) -> list[Completion]:
        sys.audit("tests.request")
        answers = super().complete(request)
        with self.log.open("a") as file:
            file.write(json.dumps(request.text) + "\n")
        return answers


def answer(request: Request) -> list[str] | dict[int, float]:
    """As policy one or two sentences; as splitter a claim per sentence; as labeler yes to red things."""
    if request.first_words:
        return {1: -0.1, 2: -2.4} if "red" in request.text else {1: -2.4, 2: -0.1}
    if request.json_schema and "claims" in request.json_schema["properties"]:
        facts = [part.strip() for part in request.text.rpartition("Text: ")[2].split(".") if part.strip()]
        claims = [{"claim": f"{fact}.", "question": fact.replace("There is", "Is there") + "?"} for fact in facts]
        return [json.dumps({"claims": claims})]
    if request.json_schema:
        return [json.dumps({"question": "What is it?", "answer": request.text.rpartition("Caption: ")[2]})]
    start = request.seed or 0
    texts = [f"There is a {COLORS[(start + index) % 2]} circle." for index in range(request.n)]
    return [text + " There is a blue star." * (index % 2) for index, text in enumerate(texts)]


def run_until(stage: str, settings: dict[str, Any], path: Path, moment: int | None) -> int:
    """Run a stage and return its number of moments; at `moment` the process is killed."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in MOMENTS or (event == "open" and not str(arguments[0]).startswith(str(path))):
            return
        count += 1
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    os.environ["TQDM_DISABLE"] = "1"
    log = path.with_suffix(".requests")

    def open_engine(model: ModelSection, engine: EngineSection, seed: int) -> CountingEngine:
        return CountingEngine(log)

    if stage == "rewrite":
        rewrite(RewriteConfig.model_validate(settings), path, open_engine)
        return count
    config = Config.model_validate(settings)
    if stage == "generation":
        generate(config, path, open_engine)
    elif stage in ("feedback", "divided"):
        feedback(config, path, open_engine)
    else:
        evaluate(config, path, open_engine)
    return count
