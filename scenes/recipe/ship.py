"""Saves trained models in bfloat16 in the folder of the shipped models.

python -m scenes.recipe.ship runs/training/policy runs/training/labeler runs/training/rewriter --out assets
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scenes.recipe.ship", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "models", type=Path, nargs="+", help="folders of training runs or of models; each keeps its name"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for all of them, such as assets")
    arguments = parser.parse_args(argv)

    import torch  # heavy imports are deferred so that --help stays fast

    from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor
    from scenes.recipe.new_model import save

    for folder in arguments.models:
        trained = folder / "model" if (folder / "model").is_dir() else folder
        model = MiniCPMVForConditionalGeneration.from_pretrained(trained, dtype=torch.bfloat16)
        save(model, MiniCPMVProcessor.from_pretrained(trained), arguments.out / folder.name)
        print(f"{arguments.out / folder.name}: {sum(value.numel() for value in model.parameters()):,} parameters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
