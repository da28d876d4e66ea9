"""Speed of the builds side by side, on one model of random weights in Q4_K_M: tokens a second of prompt and answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from edge.runtime.installed import Installed
from edge.runtime.program import answer_with, quantize_with, write_prompt
from edge.runtime.sample import MIDDLE, write_sample

PROMPT_TOKENS, TOKENS, REPEATS = 128, 32, 7
KIND = "Q4_K_M"


@dataclass(frozen=True)
class Speed:
    """Tokens a second of each repeat."""

    prompt: list[float]
    answer: list[float]


def measure(builds: Sequence[Installed], threads: int) -> dict[str, Speed]:
    """By target. The builds take turns, so that what else the machine does meets all of them."""
    speeds = {build.target: Speed([], []) for build in builds}
    with TemporaryDirectory(prefix="edge-runtime-") as temporary:
        source, model, prompt = (Path(temporary) / name for name in ("f16.gguf", "model.gguf", "prompt"))
        write_sample(source, MIDDLE)
        quantize_with(builds[0].folder, source, model, KIND)
        source.unlink()
        write_prompt(prompt, [index % MIDDLE.vocabulary for index in range(PROMPT_TOKENS)])
        for _ in range(REPEATS):
            for build in builds:
                answer = answer_with(build.folder, model, prompt, TOKENS, threads)
                speeds[build.target].prompt.append(answer.prompt_tokens / answer.prompt_seconds)
                speeds[build.target].answer.append(len(answer.ids) / answer.seconds)
    return speeds


def table(builds: Sequence[Installed], speeds: dict[str, Speed]) -> str:
    """A Markdown table. Builds without a speed are for another machine. Ratios: to the first build that has one."""
    columns = ["build", "instruction sets", "compiled in, s", "prompt, tokens/s", "answer, tokens/s"]
    columns += ["prompt, ratio", "answer, ratio"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    first = next(iter(speeds.values()), None)
    for build in builds:
        cells = [build.target, " ".join(build.features) or "-", f"{build.seconds:.0f}"]
        if (speed := speeds.get(build.target)) and first:
            cells += [spread(speed.prompt), spread(speed.answer)]
            cells += [f"{median(speed.prompt) / median(first.prompt):.2f}"]
            cells += [f"{median(speed.answer) / median(first.answer):.2f}"]
        else:
            cells += ["not run here", "not run here", "-", "-"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Median and range."""
    return f"{median(values):.0f} ({min(values):.0f}-{max(values):.0f})"
