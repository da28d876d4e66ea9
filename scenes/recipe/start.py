"""Writes an untrained MiniCPM-V of toy size.

python -m scenes.recipe.start --out runs/training/random
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scenes.recipe.start", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)

    from transformers import set_seed  # heavy imports are deferred so that --help stays fast

    from model import MiniCPMVForConditionalGeneration
    from scenes.recipe.new_model import build_config, initialize_positions, initialize_words, new_processor, save

    set_seed(arguments.seed)
    processor = new_processor(arguments.seed)
    model = MiniCPMVForConditionalGeneration(build_config(processor.tokenizer))
    initialize_positions(model)
    initialize_words(model)
    save(model, processor, arguments.out)
    print(f"{arguments.out}: {sum(value.numel() for value in model.parameters()):,} parameters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
