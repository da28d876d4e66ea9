"""Average the policies of several rounds: the mean of their weights is one more policy to choose from.

    python -m dpo.average --config runs/rounds/average-2-4/config.yaml --run runs/rounds/average-2-4

Each round overfits to the noise in its pairs. Averaging the weights cancels much of that at no inference cost (model
soups, arXiv 2203.05482; Llama 3 averages models at each stage of alignment, arXiv 2407.21783, section 4.1.5). The run
folder is next to `round-1/`, `round-2/` and so on. It averages the policies of `averaged_rounds` and writes `policy/`
in their layout.
"""

import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import Config
from rlaif.errors import ConfigError
from rlaif.inference.revision import model_revision
from rlaif.storage.files import atomic_folder

WEIGHTS = "*.safetensors"


def average(config: Config, path: Path) -> None:
    """Run the stage. Errors: RlaifError for anything that the user can fix."""
    from rlaif.storage.run import Run  # heavy imports are deferred so that `--help` stays fast

    if len(config.averaged_rounds) < 2:
        raise ConfigError(
            f"average_last is {config.average_last} with {config.rounds} rounds; an average needs at least two policies"
        )
    policies = [path.parent / f"round-{number}" / "policy" for number in config.averaged_rounds]
    sections = [config.policy.model_copy(update={"model": str(folder), "revision": None}) for folder in policies]
    settings = {"policies": [model_revision(section) for section in sections]}
    run = Run(path, config, "average")
    if run.begin(["policy"], settings, inputs=[]):
        run.announce("averages the weights of", *map(str, policies))
        write_average(policies, path / "policy")
        run.finish({}, None)


def write_average(policies: Sequence[Path], folder: Path) -> None:
    """Write the mean of each tensor, computed in float32 and stored in the precision of the last policy, and copy all
    other files from that one. One file of weights per policy is in memory at a time.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    with atomic_folder(folder) as temporary:
        shutil.copytree(policies[-1], temporary, ignore=shutil.ignore_patterns(WEIGHTS))
        for file in sorted(policies[-1].glob(WEIGHTS)):
            means = {}
            with ExitStack() as stack:
                opened = [stack.enter_context(safe_open(policy / file.name, framework="pt")) for policy in policies]
                names = opened[-1].keys()  # safe_open cannot be iterated over
                for name in names:
                    values = [part.get_tensor(name) for part in opened]
                    means[name] = torch.stack([value.float() for value in values]).mean(0).to(values[-1].dtype)
                save_file(means, temporary / file.name, opened[-1].metadata())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_stage(Config, "dpo.average", "Average the weights of the last rounds' policies.", average, argv)


if __name__ == "__main__":
    sys.exit(main())
