"""Best-of-N with self-feedback (RLAIF-V, arXiv 2405.17220, section 3.4): the aligned policy answers N times, and the
answer is taken that it has come to prefer most over what its reference would say.

    python -m rlaif.pipelines.best_of_n --config configs/demo.yaml --run runs/demo --set best_of=16

Needs the policy of a finished `make dpo`. `best-of-n/` in its run folder is a run of its own: responses to the prompts
of `evaluation.split`, their claims and scores, rewards, and the figures against N in metrics.json.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import Config
from rlaif.errors import InputError
from rlaif.pipelines.stages import run_stages

STAGES = ("generation", "feedback", "dpo.rewards", "evaluation.selection")


def best_of_n(config: Config, path: Path) -> None:
    """Errors: RlaifError."""
    policy = path / "policy"
    if not policy.is_dir():
        raise InputError(f"no aligned model in {policy}; make it with: make dpo RUN={path}")
    own = {
        "reference_policy": config.policy,
        "policy": config.policy.model_copy(update={"model": str(policy), "revision": None}),
        "generation": config.generation.model_copy(
            update={"num_responses": config.best_of, "splits": [config.evaluation.split]}
        ),
    }
    run_stages(STAGES, config.model_copy(update=own), path / "best-of-n")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    summary = "N answers to each prompt, the best by the policy's own reward and by the labeler."
    return run_stage(Config, "rlaif.pipelines.best_of_n", summary, best_of_n, argv)


if __name__ == "__main__":
    sys.exit(main())
