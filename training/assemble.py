"""The command that assembles a MiniCPM-V for pre-training from a language model and a SigLIP encoder.

    make assemble LLM=meta-llama/Meta-Llama-3-8B-Instruct VISION=google/siglip-so400m-patch14-384

See training.assembly.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.command import exit_status
from rlaif.errors import InputError

VERSIONS = ("2.5", "2.6")  # keys of model.modeling.LANGUAGE_MODELS, whose import is slow


def run(args: argparse.Namespace) -> None:
    """Assemble and save. Errors: RlaifError."""
    if args.out.exists():
        raise InputError(f"{args.out} exists and is not overwritten; choose another folder, or delete it")
    from training.assembly import assemble_folder  # heavy imports are deferred so that `--help` stays fast

    parameters = assemble_folder(
        args.llm, args.vision, args.out, args.version, args.queries, args.scale_resolution, args.seed
    )
    print(f"assembled {args.out}: {parameters:,} parameters")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m training.assemble", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--llm", required=True, help="folder or hub id of a Llama (2.5) or Qwen2 (2.6) model")
    parser.add_argument("--vision", required=True, help="folder or hub id of a SigLIP model")
    parser.add_argument("--out", required=True, type=Path, help="folder for the assembled model")
    parser.add_argument("--version", choices=VERSIONS, default="2.5", help="version of MiniCPM-V; default 2.5")
    parser.add_argument("--queries", type=int, default=96, help="tokens of a slice; default 96, as in 2.5 (2.6: 64)")
    parser.add_argument(
        "--scale-resolution",
        type=int,
        default=448,
        help="side in pixels of the square that has a slice's area; default 448",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the resampler's initial weights; default 0")
    arguments = parser.parse_args(argv)
    return exit_status(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
