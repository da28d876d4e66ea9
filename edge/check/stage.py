"""Compares every export of a run with the policy that it was made from.

    python -m edge.check --config configs/demo.yaml --run runs/demo

The policy in float32 and each export of `edge.exports` answer the first `edge.pictures` prompts of the split
`evaluation.split` greedily. Exports that are missing are written first.

| output          | content                                                                                        |
|-----------------|------------------------------------------------------------------------------------------------|
| edge/check.json | a list with an entry for the policy and one for each export: `edge.check.table.Row`, provenance|
| edge/check/     | the policy's answers, which later checks reuse                                                 |
| edge/README.md  | the card of `make export-edge` with these figures, once there is an mmproj                     |

Hallucination is measured as in `make evaluate`: the truth of an image is the column `reference` of prompts.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge.check.distance import Comparison
from edge.check.measure import Answer, answer_pictures, encode_pictures
from edge.check.policy_answers import answer_with_policy
from edge.check.reference import load_reference, reference_file
from edge.check.stock import ask_pictures
from edge.check.table import Row, make_row, rows_table
from edge.gguf.card import write_card
from edge.gguf.export import ensure_language, ensure_mmproj
from edge.gguf.names import mmproj_file
from edge.parts import run_part
from edge.pictures import Picture, read_pictures
from edge.policy import Policy, locked_folder
from edge.settings import read_settings
from edge.vision.export import ensure_vision
from evaluation.hallucination import answer_counts
from evaluation.truth import truth_of
from rlaif.config import Config
from rlaif.errors import ModelError, RlaifError
from rlaif.storage.files import write_json
from rlaif.storage.versions import code_version

DEVICES = ("openvino", "openvino-npu", "qnn-fp16", "qnn-a16w8")  # exports of the vision part; others are on "cpu"
POLICY = "policy"


def check(config: Config, path: Path) -> None:
    """Run the command. Errors: RlaifError; rows of the exports that could be measured are written even so."""
    pictures = read_pictures(config, path, config.evaluation.split, config.edge.pictures)
    policy = Policy.of(config, path)
    exports = list(dict.fromkeys(config.edge.exports))
    print(f"edge-check: {len(pictures):,} pictures of split {config.evaluation.split!r}, exports {', '.join(exports)}")
    folder = locked_folder(path) / "check"
    peak = answer_with_policy(policy.folder, policy.revision, pictures, config.evaluation.max_tokens, folder)
    references = [reference_file(folder, index) for index in range(len(pictures))]
    rows = [_policy_row(config, pictures, references, policy.folder, peak)]
    failures: dict[str, RlaifError] = {}
    features = folder / "features"
    shutil.rmtree(features, ignore_errors=True)  # left by a killed check
    checker = _Checker(config, policy, path, pictures, references, features)
    for export in exports:
        try:
            rows.append(checker.measure(export))
        except RlaifError as error:
            failures[export] = error
    shutil.rmtree(features, ignore_errors=True)
    provenance = {
        "policy": policy.name,
        "revision": policy.revision,
        "code_version": code_version(),
        "split": config.evaluation.split,
        "max_tokens": config.evaluation.max_tokens,
    }
    write_json(path / "edge" / "check.json", [row.to_json(provenance) for row in rows])
    if mmproj_file(path).is_file():
        write_card(path / "edge")
    print(rows_table(rows))
    if failures:
        first = next(iter(failures))
        raise ModelError(
            f"could not measure {len(failures)} of {len(exports)} exports: {', '.join(failures)} "
            f"({first}: {failures[first]}); remove them from edge.exports, or correct this"
        )


@dataclass(frozen=True)
class _Encoded:
    """The features of all pictures in a folder, from one device. bytes: of its files."""

    folder: Path
    errors: list[float]
    where: str
    peak_bytes: int
    bytes: int


@dataclass
class _Checker:
    """Measures exports of one run; each device encodes the pictures once, into the folder `features`."""

    config: Config
    policy: Policy
    path: Path
    pictures: Sequence[Picture]
    references: Sequence[Path]
    features: Path
    _encoded: dict[str, _Encoded] = field(default_factory=dict)

    def measure(self, export: str) -> Row:
        """The row of an export, which is written if it is missing. Errors: RlaifError."""
        return self._stock() if export == "mmproj" else self._parts(export)

    def _parts(self, export: str) -> Row:
        """Vision part and language model one after the other; one of them is the export, the other is the plain one."""
        device, quant = (export, "f16") if export in DEVICES else ("cpu", export)
        language = ensure_language(self.policy, self.path, quant)
        encoded = self._encode(device)
        answers, peak = run_part(
            language.name,
            answer_pictures,
            language,
            read_settings(self.path / "edge"),
            self.references,
            encoded.folder,
            encoded.errors,
            self.config.evaluation.max_tokens,
        )
        size = encoded.bytes if export in DEVICES else language.stat().st_size
        remark = f"features of {encoded.where}" + (f", language model {quant}" if export in DEVICES else "")
        return self._row(export, answers, size, max(peak, encoded.peak_bytes), remark)

    def _encode(self, device: str) -> _Encoded:
        if device not in self._encoded:
            files = ensure_vision(self.config, self.policy, self.path, device)
            folder = self.features / device
            folder.mkdir(parents=True)
            (errors, where), peak = run_part(
                device, encode_pictures, self.path / "edge", device, self.references, folder
            )
            size = sum(file.stat().st_size for file in files)
            self._encoded[device] = _Encoded(folder, errors, where, peak, size)
        return self._encoded[device]

    def _stock(self) -> Row:
        language, mmproj = ensure_language(self.policy, self.path, "f16"), ensure_mmproj(self.policy, self.path)
        answers, peak = ask_pictures(
            language,
            mmproj,
            read_settings(self.path / "edge"),
            self.references,
            [(picture.image, picture.instruction) for picture in self.pictures],
            self.config.evaluation.max_tokens,
        )
        alike = [answer for answer in answers if answer.same_slices]
        remark = (
            f"stock llama.cpp with both parts, language model f16; it cuts {len(alike):,} of {len(answers):,} pictures "
            f"into as many slices as the policy, and answers {sum(it.comparison.same for it in alike):,} of these alike"
        )
        return self._row("mmproj", answers, mmproj.stat().st_size, peak, remark)

    def _row(self, export: str, answers: Sequence[Answer], size: int, peak: int, remark: str) -> Row:
        return make_row(
            export,
            [answer.comparison for answer in answers],
            [
                answer_counts(answer.text, truth_of(picture.source, picture.reference))
                for answer, picture in zip(answers, self.pictures, strict=True)
            ],
            size,
            peak,
            sum(answer.seconds for answer in answers),
            sum(answer.tokens for answer in answers),
            self.config.seed,
            remark,
        )


def _policy_row(
    config: Config, pictures: Sequence[Picture], references: Sequence[Path], folder: Path, peak: int
) -> Row:
    """The policy against itself, the same by definition; its hallucination is what that of exports is compared with."""
    comparisons, counts, tokens, seconds = [], [], 0, 0.0
    for file, picture in zip(references, pictures, strict=True):
        reference = load_reference(file)
        comparisons.append(Comparison(True, [0.0] * len(reference.ids), 0.0))
        counts.append(answer_counts(reference.text, truth_of(picture.source, picture.reference)))
        tokens += len(reference.ids)
        seconds += reference.seconds
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return make_row(POLICY, comparisons, counts, size, peak, seconds, tokens, config.seed, "PyTorch, float32")
