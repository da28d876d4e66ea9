"""Searches the settings with which llama.cpp runs an export of a run fastest on this machine.

    make edge-tune RUN=runs/demo QUANT=Q4_K_M

1. The default runs several times: how much equal runs differ is the noise.
2. Successive halving over threads, batch, ubatch, flash attention, KV type, repacking and build. Each trial is a
   process that may die.
3. The winner and the default run in turns, eight processes each. If the interval of their ratio is not above 1, the
   winner is no better than the default, and the default is written.

Writes RUN/edge/settings.json, which `make edge-answer` reads, and RUN/edge/tuning.json with every trial. Other work on
the machine disturbs the search; what it did to the noise is in the first line.
"""

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge.gguf.names import find_language
from edge.policy import locked_folder
from edge.runtime.installed import find_build, package_version, read_installed
from edge.runtime.targets import TARGETS
from edge.settings import Settings, write_settings
from edge.tuning.halving import Candidate, Measure, Outcome, exhaustive, search
from edge.tuning.process import Work, run_trial
from edge.tuning.report import describe, final_table, trials_table
from edge.tuning.space import choose, space
from edge.tuning.statistics import REPEATS, Comparison, Estimate, is_better, relative_noise, speedup
from rlaif.config import Config
from rlaif.errors import ModelError
from rlaif.storage.files import sha256_of, write_json
from rlaif.storage.versions import code_version

NOISE_RUNS = 5
MUCH_NOISE = 0.2
EXHAUSTIVE_REPEATS = 7  # as many as the finalists of a search of a few dozen get
PATIENCE = 5  # a trial is ended after this many times the default's seconds


def tune(config: Config, run: Path, quant: str, search_all: bool = False) -> Settings:
    """Search, print, and write; returns the settings that were written. Errors: RlaifError."""
    section = config.edge.tune
    work = Work(find_language(run, quant), section.prompt, section.answer)
    locked_folder(run)
    builds = builds_here()
    cores = len(os.sched_getaffinity(0))
    configurations = choose(space(section, cores, builds), section.configurations, config.seed)

    default = Settings()
    start = time.monotonic()
    noise = measure_noise(work, default)
    limit = PATIENCE * (time.monotonic() - start) / NOISE_RUNS
    print(f"edge-tune: the default's time differs by {noise:.1%} from run to run (standard deviation of {NOISE_RUNS})")
    if noise > MUCH_NOISE:
        print("edge-tune: that is much: what is found now may be chance; run it while the machine does nothing else")

    measure = announced(work, limit, len(configurations))
    if search_all:
        candidates = exhaustive(configurations, measure, EXHAUSTIVE_REPEATS)
    else:
        candidates = search(configurations, measure, noise)
    print(f"\n{trials_table(candidates, work)}\n")
    best = candidates[0]
    if best.error is not None:
        raise ModelError(f"every trial failed, the best with: {best.error}; expected one that runs; change edge.tune")
    comparison = compare(work, default, best.settings)
    chosen = best.settings if is_better(comparison.ratio) else default
    print(final_table(comparison, best.settings, work))
    print(f"\nedge-tune: {verdict(comparison.ratio, best.settings)}")

    provenance = {"file": work.file.name, "machine": machine(), "llama_cpp": package_version(), "code": code_version()}
    provenance |= {"sha256": sha256_of(work.file)}
    write_json(run / "edge" / "tuning.json", record(noise, candidates, comparison, chosen, work, provenance))
    write_settings(run / "edge", chosen, **provenance)
    return chosen


def builds_here() -> list[str]:
    """The builds for this machine; one that uses what the machine does not execute dies in its trial.

    Errors: ModelError where there is none for the default; InputError for a damaged one.
    """
    find_build("host")
    builds = [read_installed(name) for name in TARGETS]
    return [build.target for build in builds if build is not None and build.machine == platform.machine()]


def measure_noise(work: Work, default: Settings) -> float:
    """The relative noise of the default. Errors: ModelError if the default does not run."""
    outcomes = [run_trial(work, default, 1) for _ in range(NOISE_RUNS)]
    if errors := [outcome.error for outcome in outcomes if outcome.error]:
        raise ModelError(
            f"{work.file} does not run with the default settings: {errors[0]}; expected an answer; check it with "
            "`make edge-answer`"
        )
    return relative_noise([outcome.seconds[0] for outcome in outcomes])


def announced(work: Work, limit: float, count: int) -> Measure:
    """The measurement, with a line for each trial."""
    done = 0

    def measure(settings: Settings, repeats: int) -> Outcome:
        nonlocal done
        done += 1
        outcome = run_trial(work, settings, repeats, limit * max(1, repeats))
        result = outcome.error or f"{min(outcome.seconds):.3f} s"
        print(f"edge-tune: trial {done} ({count} configurations): {describe(settings)}: {result}", flush=True)
        return outcome

    return measure


def compare(work: Work, default: Settings, winner: Settings) -> Comparison:
    """Both in turns, in fresh processes. Errors: ModelError if one fails now."""
    outcomes: tuple[list[Outcome], list[Outcome]] = ([], [])
    for _ in range(REPEATS):
        for settings, collected in zip((default, winner), outcomes, strict=True):
            outcome = run_trial(work, settings, 1)
            if outcome.error:
                raise ModelError(
                    f"{describe(settings)} failed when it was measured again: {outcome.error}; expected an answer; run "
                    "the search again"
                )
            collected.append(outcome)
    seconds = [[outcome.seconds[0] for outcome in side] for side in outcomes]
    return Comparison(*outcomes, speedup(*seconds))


def verdict(ratio: Estimate, winner: Settings) -> str:
    """What the comparison says, in one line."""
    if is_better(ratio):
        return f"{ratio} times as fast as the default with {describe(winner)}; settings.json has it"
    return f"no better than the default: {ratio} times as fast; settings.json has the default"


def machine() -> str:
    """The processor, and the cores that this process may use."""
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


def record(
    noise: float,
    candidates: Sequence[Candidate],
    comparison: Comparison,
    chosen: Settings,
    work: Work,
    provenance: dict[str, str],
) -> dict[str, Any]:
    """The content of tuning.json."""
    outcome: Callable[[Outcome], dict[str, Any]] = asdict
    return {
        **provenance,
        "prompt": work.prompt,
        "answer": work.answer,
        "noise": noise,
        "trials": [asdict(candidate) for candidate in candidates],
        "default": [outcome(one) for one in comparison.default],
        "winner": [outcome(one) for one in comparison.winner],
        "ratio": asdict(comparison.ratio),
        "chosen": asdict(chosen),
    }
