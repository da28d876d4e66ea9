"""The embedded world as training tables."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor
from scenes import rendered_text
from scenes.recipe.start import main as start
from scenes.recipe.tables import TABLES, main
from scenes.rendered_text import FACES, WORDS, Text, render_text, sample_text, simplify
from tests.support.photographs import bad_photos, encoded, photo, write_files
from training.conversations import Conversations, read_table


@pytest.mark.slow
def test_every_table_can_be_learnt_from_and_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        assert main(["--out", str(tmp_path / folder), "--rows", "6", "--tables", *TABLES]) == 0
    assert start(["--out", str(tmp_path / "random")]) == 0
    processor = MiniCPMVProcessor.from_pretrained(tmp_path / "random")
    assert MiniCPMVForConditionalGeneration.from_pretrained(tmp_path / "random").config.version == "2.5"
    with_images = set()
    for name in TABLES:
        table = Conversations(read_table(str(tmp_path / "a" / f"{name}.parquet")), processor, 1024)
        assert len(table) == 6 and not table.drops
        if table[0].slices:
            with_images.add(name)
        again = read_table(str(tmp_path / "b" / f"{name}.parquet"))
        assert list(again) == list(table.rows)
    assert {"first", "captions", "recognition"} <= with_images and "language" not in with_images


def test_bad_pictures_of_a_table_are_rows_left_out(tiny_model: Path, tmp_path: Path) -> None:
    """Opened as everywhere else; a path leads into the folder of the table or nowhere."""
    folder = tmp_path / "data"
    write_files(folder, {"pictures/a.png": encoded(photo(40, 40), "PNG")})
    write_files(tmp_path, {"secret.png": encoded(photo(50, 50), "PNG")})
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    bad: list[tuple[bytes | None, str | None]] = [(content, None) for content, _ in bad_photos().values()]
    bad += [(None, path) for path in ("../secret.png", str(tmp_path / "secret.png"), "link.png", "gone.png", "a\0.png")]
    bad += [(None, None)]
    good: list[tuple[bytes | None, str | None]] = [(encoded(photo(56, 56), "PNG"), None), (None, "pictures/a.png")]
    images = [{"bytes": content, "path": path} for content, path in [good[0], *bad, good[1]]]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    captions = ["a red circle"] * len(images)
    pq.write_table(pa.table({"image": pa.array(images, kind), "caption": captions}), folder / "t.parquet")
    processor = MiniCPMVProcessor.from_pretrained(tiny_model)
    table = Conversations(read_table(str(folder / "t.parquet")), processor, None, folder=folder)
    assert [drop.row for drop in table.drops] == list(range(1, len(images) - 1))
    assert {drop.reason for drop in table.drops} == {"unusable_image"}
    assert len(table) == 2 and len(table[1].slices) == 1
    without = Conversations(read_table(str(folder / "t.parquet")), processor, None)
    assert len(without) == 1 and without.drops[-1].detail == "the image has no bytes"


def test_rendered_text_is_complete_and_differs_in_size_face_and_position() -> None:
    texts = [sample_text(random.Random(seed)) for seed in range(200)]
    assert {text.face for text in texts} == set(FACES)
    assert len({(text.height, text.weight, text.slant) for text in texts}) > 40
    for text in texts:
        pixels = np.asarray(render_text(text)).astype(int)
        assert pixels.shape == (text.canvas_height, text.width, 3)
        inked = np.abs(pixels - np.array(text.paper)).sum(-1) > 60
        assert inked.sum() > 20
    plain = Text("EXIT", 20, 0, 0, 84, 84, (0, 0, 0), (255, 255, 255), (0, 0))
    leaning = Text("EXIT", 20, 0, 0.25, 84, 84, (0, 0, 0), (255, 255, 255), (0, 0))
    dark = np.asarray(render_text(plain))[..., 0] < 128
    assert dark[:20, :60].sum() == dark.sum() > 50  # at the top left
    leaning_dark = np.asarray(render_text(leaning))[..., 0] < 128

    def right_edge(inked: np.ndarray) -> int:
        return int(np.nonzero(np.any(inked, axis=0))[0].max())

    assert right_edge(leaning_dark[:, 1:]) > right_edge(dark)


def rendered_texts(name: str, monkeypatch: pytest.MonkeyPatch) -> list[Text]:
    """The texts in 300 rows of a table."""
    texts: list[Text] = []

    def render(text: Text) -> Image.Image:
        texts.append(text)
        return render_text(text)

    monkeypatch.setattr(rendered_text, "render_text", render)
    for seed in range(300):
        TABLES[name][0](random.Random(seed))
    return texts


def test_texts_of_the_stages_are_in_several_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables of pre-training 3 and of both parts of SFT."""
    for name in ("captions", "text", "recognition", "instructions"):
        texts = rendered_texts(name, monkeypatch)
        assert {text.face for text in texts} == set(FACES), name
        assert len({text.height for text in texts}) > 5 and len({text.position for text in texts}) == len(texts)


def test_texts_of_sft_start_plain_and_have_scenes_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, centered in (("text-centred", True), ("text-placed", False)):
        texts = rendered_texts(name, monkeypatch)
        assert 200 < len(texts) < 280, name  # the others are scenes
        assert {text.face for text in texts} == {FACES[0]} and {text.words for text in texts} == set(WORDS)
        assert all((text.position == (0.5, 0.5)) == centered for text in texts)


def test_reading_gets_harder_by_single_aspects() -> None:
    """How much of a text is not plain goes with how hard it is; where it stands is left alone."""
    unlike = {}
    for hard in (0.0, 0.5, 1.0):
        rng = random.Random(0)
        unlike[hard] = 0
        for _ in range(300):
            text = sample_text(rng)
            easy = simplify(text, hard, rng)
            assert easy.position == text.position
            if hard == 1.0:
                assert easy == text
            if hard == 0.0:
                assert easy.words in WORDS and easy.paper == (255, 255, 255) and 18 <= easy.height <= 26
            unlike[hard] += (easy.ink, easy.paper) != ((0, 0, 0), (255, 255, 255))
            unlike[hard] += easy.face != FACES[0]
    assert unlike[0.0] == 0 and 0.4 < unlike[0.5] / unlike[1.0] < 0.6
