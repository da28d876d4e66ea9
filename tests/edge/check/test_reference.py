"""The policy's answers: files of pictures, and the greedy answer itself against `generate` and a whole forward pass."""

from pathlib import Path

import numpy as np
import pytest

from edge.check.policy_answers import answer_missing, begin_answers, end_tokens, greedy_answer, missing_answers
from edge.check.reference import Reference, load_reference, reference_file, save_reference
from edge.pictures import Picture
from edge.prompt import encode_prompt
from edge.slices import Prompt, Slices
from rlaif.errors import InputError
from tests.support.tiny import load_model, noise_image

MAX_TOKENS = 6


def png(size: tuple[int, int], seed: int = 0) -> bytes:
    import io

    buffer = io.BytesIO()
    noise_image(size, seed).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(*sizes: tuple[int, int]) -> list[Picture]:
    return [Picture(f"p{seed}", png(size, seed), "What is there?", "scenes", None) for seed, size in enumerate(sizes)]


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    """Two slices of 2 x 1 and 1 x 3 patches, 2 pixels each: strips of 4 and 6 pixels."""
    strips = [np.full((3, 2, 4), 1, np.float32), np.full((3, 2, 6), 2, np.float32)]
    slices = Slices(strips, np.array([[2, 1], [1, 3]], np.int32))
    prompt = Prompt([5, 2, 2, 6, 2, 2], [(1, 3), (4, 6)], slices, 9)
    written = Reference(prompt, np.ones((2, 2, 4), np.float32), [7, 9], np.eye(2, 10, dtype=np.float32), "猫", 0.5)
    save_reference(tmp_path / "000000.npz", written)
    read = load_reference(tmp_path / "000000.npz")
    assert read.prompt.slices is not None
    assert [strip.tolist() for strip in read.prompt.slices.strips] == [strip.tolist() for strip in strips]
    assert read.prompt.slices.sizes.tolist() == [[2, 1], [1, 3]]
    assert (read.prompt.ids, read.prompt.slots, read.prompt.end_of_turn) == (prompt.ids, prompt.slots, 9)
    assert read.features.tolist() == written.features.tolist() and read.logits.tolist() == written.logits.tolist()
    assert (read.ids, read.text, read.seconds) == ([7, 9], "猫", 0.5)


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "000000.npz"
    for content in (b"", b"PK\x03\x04 and nothing more"):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"is damaged .*; delete its folder and run `make edge-check` again"):
            load_reference(file)


def test_end_tokens() -> None:
    assert end_tokens([1, 2], 3) == {1, 2, 3}
    assert end_tokens(1, 3) == {1, 3}
    assert end_tokens(None, 3) == {3}


@pytest.mark.slow
def test_the_greedy_answer_is_that_of_generate_and_of_a_whole_forward_pass(tiny_model: Path) -> None:
    import torch

    from model.image_processing import pack_slices

    model, processor = load_model(tiny_model)
    prompt = encode_prompt(processor, png((120, 90)), "What is there?")
    assert prompt.slices is not None and len(prompt.slices.strips) > 1
    inputs = {
        "pixel_values": pack_slices([torch.from_numpy(strip) for strip in prompt.slices.strips]),
        "tgt_sizes": torch.from_numpy(prompt.slices.sizes),
    }
    with torch.inference_mode():
        features = model.get_image_features(**inputs)
        ends = end_tokens(model.generation_config.eos_token_id, processor.end_of_turn)
        ids, logits, seconds = greedy_answer(model, prompt, features, ends, MAX_TOKENS)
        generated = model.generate(
            input_ids=torch.tensor([prompt.ids]),
            **inputs,
            max_new_tokens=MAX_TOKENS,
            do_sample=False,
            eos_token_id=list(ends),
        )
        whole = model(input_ids=torch.tensor([prompt.ids + ids[:-1]]), **inputs).logits[0, len(prompt.ids) - 1 :]
        _, other, _ = greedy_answer(model, prompt, features.flip(0), ends, MAX_TOKENS)
        stopped, rows, _ = greedy_answer(model, prompt, features, {ids[1]}, MAX_TOKENS)
    assert ids == generated[0, len(prompt.ids) :].tolist() and len(ids) > 2
    assert np.abs(logits - whole.numpy()).max() < 1e-4 and seconds > 0
    assert np.abs(logits[0] - other[0]).max() > 1e-2  # features count, and so does their order
    assert stopped == ids[: ids.index(ids[1]) + 1] and len(rows) == len(stopped)


@pytest.mark.slow
def test_a_stopped_check_answers_what_is_missing(tiny_model: Path, tmp_path: Path) -> None:
    asked, files = pictures((60, 60), (120, 90)), [reference_file(tmp_path, index) for index in range(2)]
    answer_missing(tiny_model, asked, MAX_TOKENS, tmp_path)
    first = [load_reference(file) for file in files]
    assert first[0].ids != first[1].ids or first[0].logits.tolist() != first[1].logits.tolist()

    files[1].unlink()  # as after a kill
    time = files[0].stat().st_mtime_ns
    assert missing_answers(tmp_path, 2) == [1]
    answer_missing(tiny_model, asked, MAX_TOKENS, tmp_path)
    assert files[0].stat().st_mtime_ns == time
    again = load_reference(files[1])
    assert again.ids == first[1].ids and again.features.tolist() == first[1].features.tolist()


def test_answers_of_another_policy_are_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "check"
    begin_answers(folder, {"revision": "r1"})
    reference_file(folder, 0).write_bytes(b"answer")
    begin_answers(folder, {"revision": "r1"})
    assert missing_answers(folder, 2) == [1]
    begin_answers(folder, {"revision": "r2"})
    assert missing_answers(folder, 2) == [0, 1]


@pytest.mark.slow
def test_a_picture_that_cannot_be_read_is_one_line(tiny_model: Path, tmp_path: Path) -> None:
    broken = [Picture("p0", b"GIF89a and nothing more", "What is there?", "scenes", None)]
    with pytest.raises(InputError, match="expected a picture"):
        answer_missing(tiny_model, broken, MAX_TOKENS, tmp_path)
