"""The average of several rounds' policies, the mean of their weights: one more policy to choose from.

    python -m dpo.average --config runs/rounds/average-2-4/config.yaml --run runs/rounds/average-2-4

Rounds end at different points around what is good: each takes up what its own pairs have by chance. The mean of their
weights loses much of that and costs nothing when it is served (model soups, arXiv 2203.05482; Llama 3 averages models
so at each stage of alignment, arXiv 2407.21783, section 4.1.5). The folder is one beside `round-1/`, `round-2/` and so
on; the policies of `averaged_rounds` are taken, and `policy/` is written in their layout.
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
from rlaif.storage.run import Run

WEIGHTS = "*.safetensors"


def average(config: Config, path: Path) -> None:
    """The stage. Errors: RlaifError for whatever the user can put right."""
    if len(config.averaged_rounds) < 2:
        raise ConfigError(f"average_last is {config.average_last} of {config.rounds} rounds; an average needs two")
    policies = [path.parent / f"round-{number}" / "policy" for number in config.averaged_rounds]
    sections = [config.policy.model_copy(update={"model": str(folder), "revision": None}) for folder in policies]
    settings = {"policies": [model_revision(section) for section in sections]}
    run = Run(path, config, "average")
    if run.begin(["policy"], settings, inputs=[]):
        run.announce("the mean of the weights of", *map(str, policies))
        write_average(policies, path / "policy")
        run.finish({}, None)


def write_average(policies: Sequence[Path], folder: Path) -> None:
    """A policy whose tensors are the means of theirs, reckoned in float32 and stored in the precision of the last one,
    from which all else is taken. One file of weights is in memory at a time.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    with atomic_folder(folder) as temporary:
        shutil.copytree(policies[-1], temporary, ignore=shutil.ignore_patterns(WEIGHTS))
        for file in sorted(policies[-1].glob(WEIGHTS)):
            means = {}
            with ExitStack() as stack:
                parts = [stack.enter_context(safe_open(policy / file.name, framework="pt")) for policy in policies]
                names = parts[-1].keys()  # no mapping: it has nothing else to go through
                for name in names:
                    values = [part.get_tensor(name) for part in parts]
                    means[name] = torch.stack([value.float() for value in values]).mean(0).to(values[-1].dtype)
                save_file(means, temporary / file.name, parts[-1].metadata())


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_stage(Config, "dpo.average", "The mean of the weights of the last rounds' policies.", average, argv)


if __name__ == "__main__":
    sys.exit(main())
