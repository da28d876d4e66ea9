"""Saves trained models in bfloat16 in the folder of the shipped models.

python -m scenes.recipe.ship runs/training/policy runs/training/labeler runs/training/rewriter --out assets
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import exit_status
from scenes.recipe.trained import trained_models


def ship(folders: Sequence[Path], out: Path) -> None:
    """Save the models to `out`, each under the name of its folder. Errors: as `trained_models`, before any is saved."""
    models = trained_models(folders)
    import torch  # heavy imports are deferred so that --help stays fast

    from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor
    from scenes.recipe.new_model import save

    for name, trained in models.items():
        model = MiniCPMVForConditionalGeneration.from_pretrained(trained, dtype=torch.bfloat16)
        save(model, MiniCPMVProcessor.from_pretrained(trained), out / name)
        print(f"{out / name}: {sum(value.numel() for value in model.parameters()):,} parameters")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scenes.recipe.ship", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "models", type=Path, nargs="+", help="folders of training runs or of models; each keeps its name"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for all of them, such as assets")
    arguments = parser.parse_args(argv)
    return exit_status(lambda: ship(arguments.models, arguments.out))


if __name__ == "__main__":
    sys.exit(main())
