"""The embedded world as training tables; the tokenizer and the first weights of the embedded models."""

import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from model import MiniCPMVForConditionalGeneration, MiniCPMVProcessor
from model.resampler import sincos_positions
from scenes.language import find_mentions, mention_is_true
from scenes.recipe.new_model import QUERIES, RESOLUTION
from scenes.recipe.start import main as start
from scenes.recipe.tables import TABLES, in_words, main, phrases, write
from scenes.recipe.tokenizer import SPECIAL_TOKENS, VOCABULARY
from scenes.world import Scene, SceneObject, sample_scene
from scenes.world.signs import WORDS, Sign
from scenes.world.things import COLORS, THINGS
from tests.support.captions.scene_truth import REFERENCE
from training.conversations import Conversations, read_table
from training.encoder.pictures import Pictures

SCENE = Scene(
    84,
    84,
    "room",
    (SceneObject("cat", 1, None, "large", "top"), SceneObject("apple", 2, "red", None, "center")),
    Sign("42", "bottom", "blue"),
)


@pytest.fixture(scope="module")
def new_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an untrained model."""
    folder = tmp_path_factory.mktemp("recipe") / "random"
    assert start(["--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def processor(new_model: Path) -> MiniCPMVProcessor:
    processor: MiniCPMVProcessor = MiniCPMVProcessor.from_pretrained(new_model)
    return processor


# ----- tables


@pytest.mark.slow
def test_every_table_can_be_learnt_from_and_is_the_same_for_the_same_seed(
    processor: MiniCPMVProcessor, tmp_path: Path
) -> None:
    for folder in ("a", "b"):
        assert main(["--out", str(tmp_path / folder), "--rows", "6"]) == 0
    with_images = set()
    for name, (_, columns, _) in TABLES.items():
        file = str(tmp_path / "a" / f"{name}.parquet")
        assert pq.read_table(file) == pq.read_table(tmp_path / "b" / f"{name}.parquet")
        if columns == "phrases":
            pictures = Pictures([file], processor)
            assert len(pictures) == 6 and not pictures.drops[file]
            continue
        table = Conversations(read_table(file), processor, 1024)
        assert len(table) == 6 and not table.drops
        if any(table[index].slices for index in range(6)):
            with_images.add(name)
    texts = {"copying", "language"}
    assert with_images == {name for name, table in TABLES.items() if table[1] != "phrases"} - texts


def test_another_seed_makes_other_rows(tmp_path: Path) -> None:
    for seed in (0, 1):
        write(tmp_path / f"{seed}.parquet", "first", seed, rows=4)
    first, second = (pq.read_table(tmp_path / f"{seed}.parquet").to_pylist() for seed in (0, 1))
    assert len(first) == len(second) == 4 and not any(row in second for row in first)


@pytest.mark.parametrize("name", ["phrases-one", "copying", "first", "easy"])
def test_a_table_is_written_once(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / f"{name}.parquet"
    command = ["--out", str(tmp_path), "--tables", name, "--rows", "2"]
    assert main(command) == 0
    written = file.stat().st_mtime_ns
    capsys.readouterr()
    assert main(command) == 0
    assert capsys.readouterr().out == f"{file}: already there, 2 rows\n" and file.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "2", "--seed", "1"], "is of another seed or version, expected the table of seed 1; delete it to"),
        (["--rows", "3"], "has 2 rows, expected 3; delete it to have it written again, or name another folder with"),
        ([], "has 2 rows, expected 16,000; delete it"),
    ],
)
def test_a_table_with_other_rows_is_not_taken_for_the_one_expected(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as a table of a trial with few rows, by the training that follows."""
    command = ["--out", str(tmp_path), "--tables", "copying"]
    assert main([*command, "--rows", "2"]) == 0
    capsys.readouterr()
    assert main([*command, *options]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'copying.parquet'} {message}")


def test_short_texts_are_all_that_is_true_of_a_scene() -> None:
    assert phrases(SCENE) == [
        *("room", "42", "2", "4"),
        *("cat", "cat top", "large cat"),
        *("apples", "apples center", "red apples", "two apples"),
    ]


def test_a_scene_in_words_holds_all_that_questions_are_about() -> None:
    assert in_words(SCENE) == "room; top: a large cat; center: two red apples; sign: 42\n"


def test_half_of_the_pictures_that_teach_reading_have_a_sign() -> None:
    for name in ("phrases", "recognition"):
        rows = [TABLES[name][0](random.Random(seed)) for seed in range(200)]
        texts = [str(row.get("texts") or row["conversations"]) for row in rows]
        reads = sum("What does the sign say?" in text or any(f"'{word}'" in text for word in WORDS) for text in texts)
        assert 60 < reads < 130, name  # some have a number


def test_honest_captions_of_tables_are_true(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes: list[Scene] = []

    def sample(*args: object, **options: object) -> Scene:
        scenes.append(sample_scene(*args, **options))  # type: ignore[arg-type]
        return scenes[-1]

    monkeypatch.setattr("scenes.recipe.tables.sample_scene", sample)
    for name in ("first", "small", "captions"):
        for seed in range(50):
            mentions = find_mentions(TABLES[name][0](random.Random(seed))["caption"])
            assert mentions and all(mention_is_true(mention, scenes[-1].truth) for mention in mentions)
    assert {len(scene.objects) for scene in scenes[:50]} == {1, 2, 3, 4}
    assert not any(scene.sign for scene in scenes[:50])


# ----- the tokenizer and the first weights


@pytest.mark.slow
def test_words_of_the_world_are_single_tokens(processor: MiniCPMVProcessor) -> None:
    tokenizer = processor.tokenizer
    names = [form for thing in THINGS.values() for form in (thing.name, thing.plural)]
    words = {word for form in (*names, *COLORS, *WORDS, "yes", "no", "Yes", "No") for word in form.split()}
    assert {word for word in words if len(tokenizer.tokenize(f" {word}")) != 1} == set()
    assert {word for word in ("Yes", "No", "There", "claims") if len(tokenizer.tokenize(word)) != 1} == set()
    assert tokenizer.tokenize(" 42")[1:] == ["4", "2"]  # numbers are read digit by digit
    assert len(tokenizer) <= VOCABULARY
    assert [tokenizer.convert_ids_to_tokens(index) for index in range(len(SPECIAL_TOKENS))] == list(SPECIAL_TOKENS)


@pytest.mark.slow
def test_other_texts_are_bytes_that_come_back(processor: MiniCPMVProcessor) -> None:
    for text in ("Größe: 漢字 🙂\n\tJPEG%", REFERENCE):
        assert processor.tokenizer.decode(processor.tokenizer.encode(text, add_special_tokens=False)) == text


@pytest.mark.slow
@torch.no_grad()
def test_the_new_model_has_the_widths_of_the_recipe(new_model: Path, processor: MiniCPMVProcessor) -> None:
    model = MiniCPMVForConditionalGeneration.from_pretrained(new_model)
    assert model.config.version == "2.5" and model.config.vocab_size == len(processor.tokenizer)
    assert model.config.hidden_size == 256 and model.config.vision_config.hidden_size == 128
    assert model.config.num_hidden_layers == model.config.vision_config.num_hidden_layers == 4
    positions = model.model.vision_model.embeddings.position_embedding.weight
    assert positions.shape == (70 * 70, 128)  # the table of the released model, of which pictures use a part
    assert 0.45 < positions.std().item() < 0.55
    assert model.model.resampler.query.shape == (QUERIES, 256)
    assert 5e6 < sum(value.numel() for value in model.parameters()) < 5.3e6
    assert (processor.image_processor.scale_resolution, processor.image_processor.image_feature_size) == (84, 16)
    assert RESOLUTION == 84


@pytest.mark.slow
@torch.no_grad()
def test_queries_of_a_new_model_look_at_their_own_part_of_a_slice(new_model: Path) -> None:
    """The 4x4 queries attend most to the patches around their positions on a slice of 6x6 patches."""
    resampler = MiniCPMVForConditionalGeneration.from_pretrained(new_model).model.resampler
    keys = sincos_positions(torch.tensor([[6, 6]]), 36, 256).transpose(0, 1)  # of patches that all look the same
    queries = resampler.ln_q(resampler.query).unsqueeze(1)  # [Q, 1, D]
    _, weights = resampler.attn(queries, keys, keys)  # [1, Q, 36]
    patches = torch.arange(36)
    for index, weight in enumerate(weights[0]):
        row, column = (float((weight * place).sum()) for place in (patches // 6, patches % 6))
        assert abs(row - (index // 4 * 1.5 + 0.25)) < 0.75 and abs(column - (index % 4 * 1.5 + 0.25)) < 0.75
        assert weight.max() > 3 / 36
    assert torch.equal(resampler.attn.out_proj.weight, torch.eye(256))  # what they attend to is passed on
