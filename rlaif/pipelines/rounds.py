"""Rounds of alignment (RLAIF-V, arXiv 2405.17220, section 3.3).

    make rounds ROUNDS=4 PROCESSES=8
    python -m rlaif.pipelines.rounds --config configs/rounds.yaml --run runs/rounds --set rounds=4 --processes 8

Each round samples from, labels and trains the policy of the round before, which is also its reference. `round-1/`,
`round-2/` and so on are ordinary run folders with the configuration (config.yaml) of their stages, each of which runs
in its own process, DPO in several with PROCESSES. A stopped command resumes when it is started again, as the stages do.

Nothing is chosen by the test split. Within a round TRL keeps the checkpoint with the lowest loss on validation pairs
(`dpo.trainer.load_best_model_at_end`). Candidates are the policies of all rounds and the average of the last ones
(`average_last`, in a folder such as `average-2-4/`). The chosen policy is the one whose answers to validation prompts
have the smallest share of rejected claims. Only policies that make nearly as many accepted claims as the first one are
considered, because a policy that says nothing makes no errors. The chosen policy is then compared with the first one on
the test split, once, in the run folder itself; `rounds.json` has the figures.
"""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rlaif.command import run_stage
from rlaif.config import Config
from rlaif.errors import ConfigError
from rlaif.launch import Launching, launching_options
from rlaif.pipelines.stages import ROUNDS, STAGES, RunStages, run_stages
from rlaif.report.figures import format_with_interval
from rlaif.storage.files import atomic_write, lock_until_exit, read_json, write_json

MIN_CLAIMS = 0.9  # accepted claims per answer, as a share of those of the first policy
TEST = "test"
AVERAGE_STAGES = ("dpo.average", *STAGES[-2:])

Figures = dict[str, Any]


@dataclass
class Candidate:
    """A policy that may be chosen, with its figures on the validation split.

    round: the round that trained it; 0 for the first policy, None for an average. folder: of the run with its figures.
    """

    name: str
    round: int | None
    folder: str
    figures: Figures
    intervals: Figures


def rounds(config: Config, path: Path, run: RunStages = run_stages) -> None:
    """Run `config.rounds` rounds, choose a policy and measure it on the test split. Errors: RlaifError."""
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
            candidates.append(read_candidate("start", 0, folder, "before"))
        candidates.append(read_candidate(f"round {number}", number, folder))
        policy = config.policy.model_copy(update={"model": str(folder / "policy"), "revision": None})
    if len(averaged := config.averaged_rounds) > 1:
        folder = path / f"average-{averaged[0]}-{averaged[-1]}"
        print(f"rounds: the average of the policies of rounds {averaged[0]} to {averaged[-1]}", flush=True)
        copy_prompts(path, folder)
        run(AVERAGE_STAGES, config, folder)
        candidates.append(read_candidate(f"average of {averaged[0]} to {averaged[-1]}", None, folder))
    chosen = choose([candidate.figures for candidate in candidates])
    history = {"chosen": chosen, "candidates": [asdict(candidate) for candidate in candidates]}
    write_json(path / "rounds.json", history)
    print(table(candidates, chosen))
    if chosen == 0:
        print("rounds: no round improved on the first policy on validation; the test split is not used")
        return
    link_policy(path, candidates[chosen].folder)
    copy_prompts(path, path)
    test_config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"split": TEST})})
    run(STAGES[-2:], test_config, path)


def check(config: Config) -> None:
    """Errors: ConfigError if a setting that the choice of a round needs is missing."""
    data, evaluation = config.data, config.evaluation
    if not config.dpo.trainer.get("load_best_model_at_end") or "validation" not in config.generation.splits:
        raise ConfigError(
            "rounds need dpo.trainer.load_best_model_at_end=true and `validation` in generation.splits: the checkpoint "
            "of a round is chosen by the loss on validation pairs; configs/rounds.yaml has both"
        )
    if not (data.validation_prompts if data.source == "scenes" else data.validation_share):
        key = "data.validation_prompts" if data.source == "scenes" else "data.validation_share"
        raise ConfigError(f"{key} is 0, but rounds are chosen on the validation split; set it above 0")
    if not (data.test_prompts if data.source == "scenes" else data.test_share):
        key = "data.test_prompts" if data.source == "scenes" else "data.test_share"
        raise ConfigError(f"{key} is 0, but the result is measured on the test split; set it above 0")
    if evaluation.split != "validation" or not evaluation.labeler:
        raise ConfigError(
            f"evaluation.split is {evaluation.split!r} and evaluation.labeler {str(evaluation.labeler).lower()}, but "
            "rounds are chosen by the labeler on the validation split; set evaluation.split=validation "
            "evaluation.labeler=true"
        )


def read_candidate(name: str, number: int | None, folder: Path, which: str = "after") -> Candidate:
    """The figures of a policy, with the share of its short answers that are correct, where questions were asked."""
    metrics = read_json(folder / "metrics.json")
    figures, intervals = metrics[which], metrics["intervals"][which]
    if short := metrics.get("short_answers"):
        figures = {**figures, "short_answers": short[which]}
        intervals = {**intervals, "short_answers": metrics["intervals"]["short_answers"][which]}
    return Candidate(name, number, folder.name, figures, intervals)


def choose(figures: Sequence[Figures]) -> int:
    """The index of the chosen policy, the earliest of equal ones; candidate 0 is the policy before all rounds."""
    least = MIN_CLAIMS * accepted_claims(figures[0])
    allowed = [
        index
        for index, candidate in enumerate(figures)
        if candidate["rejected_share"] is not None and accepted_claims(candidate) >= least
    ]
    return min(allowed, key=lambda index: figures[index]["rejected_share"], default=0)


def accepted_claims(figures: Figures) -> float:
    """Mean number per answer; 0 if no answer could be divided."""
    return float((figures["mean_claims"] or 0.0) * (1 - (figures["rejected_share"] or 0.0)))


def link_policy(path: Path, folder: str) -> None:
    """Make `policy` of the run folder a link to that of the chosen round."""
    policy = path / "policy"
    if policy.is_symlink():
        policy.unlink()
    policy.symlink_to(Path(folder) / "policy")


def copy_prompts(path: Path, folder: Path) -> None:
    """Copy the prompts of the first round to `folder`: validation and test are the same in all rounds."""
    folder.mkdir(exist_ok=True)
    with atomic_write(folder / "prompts.parquet") as temporary:
        shutil.copyfile(path / "round-1" / "prompts.parquet", temporary)


def table(candidates: Sequence[Candidate], chosen: int) -> str:
    """Validation figures of every policy, as text for the terminal; in brackets 95% confidence intervals."""
    lines = [f"{'validation':24}" + "".join(f"{candidate.name:>20}" for candidate in candidates)]
    for name in candidates[0].figures:
        cells = (
            format_with_interval(name, candidate.figures[name], candidate.intervals.get(name))
            for candidate in candidates
        )
        lines.append(f"{name:24}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join([*lines, f"chosen: {candidates[chosen].name}"])


def rounds_on(config: Config, path: Path, **launching: str) -> None:
    """`rounds`, with DPO on several processes: see rlaif.launch. Errors: RlaifError."""
    on = Launching(**launching)
    on.check()
    rounds(config, path, partial(run_stages, launching=on))


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    summary = "Rounds of alignment, one chosen on validation."
    return run_stage(Config, ROUNDS, summary, rounds_on, argv, launching_options())


if __name__ == "__main__":
    sys.exit(main())
