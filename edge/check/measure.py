"""An export's answers to the pictures that the policy has answered: first all features, then all answers.

Each half is a function of plain arguments, for a process of its own: its peak memory is that of the part, as on a
device that loads one after the other. Neither loads torch.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.check.distance import Comparison, compare, feature_error
from edge.check.reference import load_reference
from edge.language import LanguageModel
from edge.settings import Settings
from edge.vision.encoder import open_encoder
from rlaif.progress import progress_bar


@dataclass(frozen=True)
class Answer:
    """An export's answer to one picture. tokens: generated ones, in `seconds`, without the prompt."""

    text: str
    comparison: Comparison
    tokens: int
    seconds: float


def encode_pictures(edge: Path, device: str, references: Sequence[Path], features: Path) -> tuple[list[float], str]:
    """Write the features of each picture into the folder `features`, under the name of its reference.

    Returns the error of each picture's features, and where they were computed, in words. Errors: as `open_encoder`.
    """
    errors = []
    with closing(open_encoder(edge, device)) as encoder, progress_bar(device, "picture", len(references), 0) as bar:
        for file in references:
            reference = load_reference(file)
            assert reference.prompt.slices is not None
            encoded = encoder.encode(reference.prompt.slices)
            np.save(features / f"{file.stem}.npy", encoded)
            errors.append(feature_error(reference.features, encoded))
            bar.update()
        return errors, encoder.where


def answer_pictures(
    language: Path,
    settings: Settings,
    references: Sequence[Path],
    features: Path,
    errors: Sequence[float],
    max_tokens: int,
) -> list[Answer]:
    """The answers to all pictures, from their features in the folder `features`, which have these errors.

    Errors: as `LanguageModel`.
    """
    answers = []
    with (
        closing(LanguageModel(language, settings)) as model,
        progress_bar(language.stem, "picture", len(references), 0) as bar,
    ):
        for file, error in zip(references, errors, strict=True):
            reference = load_reference(file)
            encoded = np.load(features / f"{file.stem}.npy", allow_pickle=False)
            generated = model.generate(reference.prompt, encoded, max_tokens, logits=True)
            assert generated.logits is not None
            ids = generated.logits.argmax(axis=-1).tolist()  # with the token that ends the answer
            comparison = compare(reference.ids, reference.logits, ids, generated.logits, error)
            answers.append(Answer(model.text(generated.ids), comparison, len(ids), generated.seconds))
            bar.update()
    return answers
