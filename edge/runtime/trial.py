"""A new build is tried before it is installed: every quantization of a small model, against the known answer."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from edge.runtime.program import FILE_TYPES, ROW, answer_with, quantize_with, write_prompt
from edge.runtime.sample import SMALL, chain, embeddings, write_sample
from rlaif.errors import ModelError

TOKENS = 16
PROMPT = [5, ROW, ROW, ROW, *range(40, 72), 11]  # ids, rows of features, ids: as a picture stands in a text
ROWS = [17, 18, 19]  # tokens whose embeddings are the rows


def try_build(folder: Path, name: str, threads: int, runner: Sequence[str] = ()) -> None:
    """Quantize and answer with the build in `folder`. runner: an emulator, for a build of another machine.

    Errors: ModelError if the build dies or answers something else.
    """
    expected = chain(PROMPT[-1], TOKENS, SMALL)
    with TemporaryDirectory(prefix="edge-runtime-") as temporary:
        source, prompt = Path(temporary) / "f16.gguf", Path(temporary) / "prompt"
        write_sample(source, SMALL)
        write_prompt(prompt, PROMPT, embeddings(SMALL)[ROWS])
        for kind in FILE_TYPES:
            model = source if kind == "f16" else Path(temporary) / f"{kind}.gguf"
            try:
                if kind != "f16":
                    quantize_with(folder, source, model, kind, threads, runner)
                ids = answer_with(folder, model, prompt, TOKENS, threads, runner).ids
            except ModelError as error:
                raise ModelError(failure(name, kind, str(error))) from error
            if ids != expected:
                raise ModelError(failure(name, kind, f"it answered {ids[:4]}..., not {expected[:4]}..."))


def failure(name: str, kind: str, what: str) -> str:
    """The line about a build that does not work."""
    other = "portable" if name != "portable" else "host"
    return (
        f"the new build {name} does not work on {kind} weights: {what}; expected the known answer of a small model; "
        f"an older build is kept; run `make edge-runtime TARGET={other}`"
    )
