"""Best-of-N with self-feedback (RLAIF-V, arXiv 2405.17220, section 3.4).

    python -m rlaif.pipelines.best_of_n --config configs/demo.yaml --run runs/demo --set best_of=16

The aligned policy answers N times, and the answer with its highest implicit reward is selected. Needs the policy of a
finished `make dpo`. `best-of-n/` in the run folder is a run folder too: responses to the prompts of
`evaluation.split`, their claims, scores and rewards, and the figures by N in metrics.json.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import Config
from rlaif.errors import InputError
from rlaif.pipelines.stages import run_stages

BEST_OF_N_STAGES = ("generation", "feedback", "dpo.rewards", "evaluation.selection")


def best_of_n(config: Config, path: Path) -> None:
    """Run all stages. Errors: RlaifError if the run has no aligned policy, or a stage fails."""
    policy = path / "policy"
    if not policy.is_dir():
        raise InputError(f"{policy} does not exist; train it first: `make dpo RUN={path}` with the same CONFIG and SET")
    changes = {
        "reference_policy": config.policy,
        "policy": config.policy.model_copy(update={"model": str(policy), "revision": None}),
        "generation": config.generation.model_copy(
            update={"num_responses": config.best_of, "splits": [config.evaluation.split]}
        ),
    }
    run_stages(BEST_OF_N_STAGES, config.model_copy(update=changes), path / "best-of-n")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    summary = "N answers to each prompt, the best by the policy's own reward, by its likelihood and by the labeler."
    return run_stage(Config, "rlaif.pipelines.best_of_n", summary, best_of_n, argv)


if __name__ == "__main__":
    sys.exit(main())
