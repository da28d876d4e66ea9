"""Rounds of alignment (RLAIF-V, arXiv 2405.17220, section 3.3): each samples from, labels and trains on what the one
before left, which is also its reference.

    python -m rlaif.pipelines.rounds --config configs/rounds.yaml --run runs/rounds --set rounds=4

`round-1/`, `round-2/` and so on are run folders like any other, each with the configuration (config.yaml) by which its
stages were run, each stage a process of its own. Stopped, it goes on where it was, as its stages do.

Nothing is chosen by the test split. Within a round TRL keeps the checkpoint with the least loss on validation pairs
(`dpo.trainer.load_best_model_at_end`). Among rounds, and the average of the last ones (`average_last`, in
`average-2-4/` say), the policy is taken whose answers to validation prompts have the least share of claims that the
labeler rejects, of those that say nearly as much of what it accepts as the first policy did: silence is not truth, and
false claims are no loss. That policy is then held against the first one on the test split, once, in the run folder
itself; `rounds.json` has the figures.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlaif.command import run_stage
from rlaif.config import Config
from rlaif.errors import ConfigError
from rlaif.pipelines.stages import STAGES, RunStages, run_stages
from rlaif.report.figures import format_with_interval
from rlaif.storage.files import atomic_write, lock_until_exit

LEAST_CLAIMS = 0.9  # accepted claims an answer must make, for each one that the first policy made
TEST = "test"
AVERAGE_STAGES = ("dpo.average", *STAGES[-2:])

Figures = dict[str, Any]


@dataclass
class Candidate:
    """A policy that may be chosen, and what validation says of it."""

    name: str
    round: int | None  # that left it; 0 for the policy that rounds begin with, None for an average
    folder: str  # of the run that has these figures
    figures: Figures
    intervals: Figures


def rounds(config: Config, path: Path, run: RunStages = run_stages) -> None:
    """Makes `config.rounds` rounds, picks one, looks at the test split. Errors: RlaifError."""
    check(config)
    path.mkdir(parents=True, exist_ok=True)
    lock_until_exit(path.resolve() / ".rounds.lock")
    policy = config.policy
    candidates: list[Candidate] = []
    for number in range(1, config.rounds + 1):
        folder = path / f"round-{number}"
        print(f"rounds: round {number} of {config.rounds}, from {policy.model}", flush=True)
        run(STAGES, config.model_copy(update={"round": number, "policy": policy}), folder)
        if number == 1:
            candidates.append(candidate("start", 0, folder, "before"))
        candidates.append(candidate(f"round {number}", number, folder))
        policy = config.policy.model_copy(update={"model": str(folder / "policy"), "revision": None})
    if len(averaged := config.averaged_rounds) > 1:
        folder = path / f"average-{averaged[0]}-{averaged[-1]}"
        print(f"rounds: the average of the policies of rounds {averaged[0]} to {averaged[-1]}", flush=True)
        lay_prompts(path, folder)
        run(AVERAGE_STAGES, config, folder)
        candidates.append(candidate(f"average of {averaged[0]} to {averaged[-1]}", None, folder))
    chosen = choose([one.figures for one in candidates])
    write_history(path, candidates, chosen)
    print(table(candidates, chosen))
    if chosen == 0:
        print("rounds: no round was better on validation than the policy they began with; the test split stays unseen")
        return
    link(path, candidates[chosen].folder)
    last_look = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"split": TEST})})
    run(STAGES[-2:], last_look, path)


def check(config: Config) -> None:
    """Errors: ConfigError: something that rounds are chosen by is not there."""
    data, evaluation = config.data, config.evaluation
    if not config.dpo.trainer.get("load_best_model_at_end") or "validation" not in config.generation.splits:
        raise ConfigError(
            "dpo.trainer.load_best_model_at_end and `validation` among generation.splits are needed: the checkpoint of "
            "a round is chosen by the loss on validation pairs; configs/rounds.yaml has both"
        )
    if not (data.validation_prompts if data.source == "scenes" else data.validation_share):
        needed = "data.validation_prompts" if data.source == "scenes" else "data.validation_share"
        raise ConfigError(f"{needed} is 0, but rounds are chosen by the validation split; set it")
    if not (data.test_prompts if data.source == "scenes" else data.test_share):
        needed = "data.test_prompts" if data.source == "scenes" else "data.test_share"
        raise ConfigError(f"{needed} is 0, but the result is measured on the test split; set it")
    if evaluation.split != "validation" or not evaluation.labeler:
        raise ConfigError(
            f"evaluation.split is {evaluation.split!r} and evaluation.labeler {str(evaluation.labeler).lower()}; "
            "rounds are chosen by the labeler on the validation split: set evaluation.split=validation "
            "evaluation.labeler=true"
        )


def candidate(name: str, number: int | None, folder: Path, which: str = "after") -> Candidate:
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return Candidate(name, number, folder.name, metrics[which], metrics["intervals"][which])


def choose(figures: Sequence[Figures]) -> int:
    """Which policy to take; the first of them is what rounds begin with. The earliest of equals."""
    least = LEAST_CLAIMS * accepted_claims(figures[0])
    talking = [
        number
        for number, one in enumerate(figures)
        if one["rejected_share"] is not None and accepted_claims(one) >= least
    ]
    return min(talking, key=lambda number: figures[number]["rejected_share"], default=0)


def accepted_claims(figures: Figures) -> float:
    """Of an answer, on average; 0 where none could be divided."""
    return (figures["mean_claims"] or 0.0) * (1 - (figures["rejected_share"] or 0.0))


def link(path: Path, folder: str) -> None:
    """The run folder gets the policy that was chosen, and the prompts."""
    policy = path / "policy"
    if policy.is_symlink():
        policy.unlink()
    policy.symlink_to(Path(folder) / "policy")
    lay_prompts(path, path)


def lay_prompts(path: Path, folder: Path) -> None:
    """The prompts of the first round: validation and test are the same in all."""
    folder.mkdir(exist_ok=True)
    with atomic_write(folder / "prompts.parquet") as temporary:
        shutil.copyfile(path / "round-1" / "prompts.parquet", temporary)


def write_history(path: Path, candidates: Sequence[Candidate], chosen: int) -> None:
    history = {"chosen": chosen, "candidates": [asdict(one) for one in candidates]}
    with atomic_write(path / "rounds.json") as temporary:
        temporary.write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")


def table(candidates: Sequence[Candidate], chosen: int) -> str:
    """What validation says of every policy, as text for the terminal; in brackets 95% confidence intervals."""
    lines = [f"{'validation':24}" + "".join(f"{one.name:>20}" for one in candidates)]
    for name in candidates[0].figures:
        cells = (format_with_interval(name, one.figures[name], one.intervals.get(name)) for one in candidates)
        lines.append(f"{name:24}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join([*lines, f"chosen: {candidates[chosen].name}"])


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_stage(Config, "rlaif.pipelines.rounds", "Rounds of alignment, one chosen on validation.", rounds, argv)


if __name__ == "__main__":
    sys.exit(main())
