"""The mean of the weights of several rounds' policies: one more policy to choose from.

    python -m dpo.average --config runs/rounds/mean-2-4/config.yaml --run runs/rounds/mean-2-4

Rounds end at different points around what is good: each takes up what its own pairs have by chance. The mean of their
weights loses much of that and costs nothing when it is served (model soups, arXiv 2203.05482; Llama 3 averages models
so at each stage of alignment, arXiv 2407.21783, section 4.1.5). The folder is one beside `round-1/`, `round-2/` and so
on; the last `average_last` of `rounds` are taken, and `policy/` is written in their layout.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rlaif.command import run_stage
from rlaif.config import Config
from rlaif.run import Run, model_revision

WEIGHTS = "*.safetensors"


def average(config: Config, path: Path) -> None:
    """The stage. Errors: RlaifError for whatever the user can put right."""
    first = max(1, config.rounds - config.average_last + 1)
    policies = [path.parent / f"round-{number}" / "policy" for number in range(first, config.rounds + 1)]
    sections = [config.policy.model_copy(update={"model": str(folder), "revision": None}) for folder in policies]
    settings = {"policies": [model_revision(section) for section in sections]}
    run = Run(path, config, "average")
    if run.begin(["policy"], settings, inputs=[]):
        run.announce("the mean of the weights of", *map(str, policies))
        write_mean(policies, path / "policy")
        run.finish({}, None)


def write_mean(policies: Sequence[Path], folder: Path) -> None:
    """A policy whose tensors are the means of theirs, reckoned in float32 and stored in the precision of the last one,
    from which all else is taken. One file of weights is in memory at a time.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    temporary = folder.with_name(f".{folder.name}.tmp")
    for leftover in (temporary, folder):  # of a try that was killed before its stage could finish
        shutil.rmtree(leftover, ignore_errors=True)
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
    os.replace(temporary, folder)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_stage(Config, "dpo.average", "The mean of the weights of the last rounds' policies.", average, argv)


if __name__ == "__main__":
    sys.exit(main())
