"""The policy itself, in float32, answers each picture greedily, for exports to be compared with.

Its answers are kept in RUN/edge/check/, so that a stopped check resumes, and a new export is measured against the same
ones. Files of another policy, of other pictures or settings are deleted.
"""

import shutil
import time
from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.check.reference import Reference, reference_file, save_reference
from edge.parts import run_part
from edge.pictures import Picture
from edge.policy import load_processor
from edge.prompt import encode_prompt
from edge.slices import Floats, Prompt
from rlaif.progress import progress_bar
from rlaif.storage.files import read_json, write_json
from rlaif.storage.versions import code_version, library_versions

if TYPE_CHECKING:
    from model import MiniCPMVForConditionalGeneration

IDENTITY, PEAK = "identity.json", "peak.json"


def answer_with_policy(policy: Path, revision: str, pictures: Sequence[Picture], max_tokens: int, folder: Path) -> int:
    """Answer the pictures that have no file in `folder` yet; returns the peak memory of the process that did, in bytes.

    Errors: InputError for a picture that cannot be read; ModelError.
    """
    begin_answers(
        folder,
        {
            "revision": revision,
            "prompts": [picture.prompt_id for picture in pictures],
            "max_tokens": max_tokens,
            "code_version": code_version(),
            "versions": library_versions(),
        },
    )
    if (folder / PEAK).is_file() and not missing_answers(folder, len(pictures)):
        print(f"edge-check: the policy has answered these {len(pictures):,} pictures before, see {folder}")
        kept: int = read_json(folder / PEAK)["bytes"]
        return kept
    _, peak = run_part("policy", answer_missing, policy, pictures, max_tokens, folder)
    write_json(folder / PEAK, {"bytes": peak})
    return peak


def begin_answers(folder: Path, identity: dict[str, Any]) -> None:
    """Make the folder one of answers with this identity: those with another one are deleted."""
    if not (folder / IDENTITY).is_file() or read_json(folder / IDENTITY) != identity:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_json(folder / IDENTITY, identity)


def missing_answers(folder: Path, count: int) -> list[int]:
    """The pictures, out of `count`, that have no file yet."""
    return [index for index in range(count) if not reference_file(folder, index).is_file()]


def answer_missing(policy: Path, pictures: Sequence[Picture], max_tokens: int, folder: Path) -> None:
    """Write the files that are missing, in this process. Errors: as `answer_with_policy`."""
    import torch

    from model import MiniCPMVForConditionalGeneration
    from model.image_processing import pack_slices

    processor = load_processor(policy)
    model = MiniCPMVForConditionalGeneration.from_pretrained(policy, dtype=torch.float32).eval()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    ends = end_tokens(model.generation_config.eos_token_id, processor.end_of_turn)
    missing = missing_answers(folder, len(pictures))
    with progress_bar("policy", "picture", len(pictures), len(pictures) - len(missing)) as bar, torch.inference_mode():
        for index in missing:
            prompt = encode_prompt(processor, pictures[index].image, pictures[index].instruction)
            assert prompt.slices is not None
            strips = pack_slices([torch.from_numpy(strip) for strip in prompt.slices.strips]).to(model.device)
            features = model.get_image_features(strips, torch.from_numpy(prompt.slices.sizes).to(model.device))
            ids, logits, seconds = greedy_answer(model, prompt, features, ends, max_tokens)
            text = processor.tokenizer.decode(ids, skip_special_tokens=True)
            reference = Reference(prompt, features.cpu().numpy(), ids, logits, text, seconds)
            save_reference(reference_file(folder, index), reference)
            bar.update()


def end_tokens(eos: int | list[int] | None, end_of_turn: int) -> set[int]:
    """The tokens that end an answer: those of generation_config.json and the end of a turn."""
    return {end_of_turn, *(eos if isinstance(eos, list) else [] if eos is None else [eos])}


def greedy_answer(
    model: "MiniCPMVForConditionalGeneration", prompt: Prompt, features: Any, ends: Container[int], max_tokens: int
) -> tuple[list[int], Floats, float]:
    """The most probable tokens after a prompt with features [S, Q, D], up to one of `ends` or `max_tokens` of them.

    Returns the tokens, the end token included; their logits [T, V]; the seconds after the prompt.
    """
    import torch

    assert prompt.slices is not None
    inputs: dict[str, Any] = {
        "input_ids": torch.tensor([prompt.ids], device=model.device),
        "tgt_sizes": torch.from_numpy(prompt.slices.sizes).to(model.device),
        "image_features": features,
    }
    output = model(**inputs, use_cache=True, logits_to_keep=1)
    started = time.perf_counter()
    ids: list[int] = []
    rows: list[Floats] = []
    while True:
        rows.append(output.logits[0, -1].float().cpu().numpy())
        ids.append(int(rows[-1].argmax()))
        if ids[-1] in ends or len(ids) == max_tokens:
            return ids, np.stack(rows), time.perf_counter() - started
        output = model(
            input_ids=torch.tensor([ids[-1:]], device=model.device),
            past_key_values=output.past_key_values,
            use_cache=True,
        )
