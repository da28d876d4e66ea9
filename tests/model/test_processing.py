"""The prompt: spatial schema, chat template, labels, and user text that looks like special tokens."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from model import MiniCPMVImageProcessor, MiniCPMVProcessor
from model.processing import NO_LOSS
from tests.support.tiny import save_tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def processor(tiny_model: Path) -> MiniCPMVProcessor:
    return MiniCPMVProcessor.from_pretrained(tiny_model)


def test_spatial_schema(processor: MiniCPMVProcessor) -> None:
    view = "<image><unk><unk><unk><unk></image>"
    images = processor.image_processor
    assert images.get_slice_image_placeholder((56, 56)) == view
    assert images.get_slice_image_placeholder((112, 56)) == f"{view}<slice>{view}{view}</slice>"
    assert images.get_slice_image_placeholder((112, 112)) == f"{view}<slice>{view}{view}\n{view}{view}</slice>"


def test_spatial_schema_of_2_6(tmp_path: Path) -> None:
    save_tiny_model(tmp_path, version="2.6")
    processor = MiniCPMVProcessor.from_pretrained(tmp_path)
    images = processor.image_processor
    overview, tagged_slice = "<image><unk><unk><unk><unk></image>", "<slice><unk><unk><unk><unk></slice>"
    assert images.get_slice_image_placeholder((56, 56)) == f"<image_id>0</image_id>{overview}"
    assert images.get_slice_image_placeholder((112, 112), 3) == (
        f"<image_id>3</image_id>{overview}{tagged_slice}{tagged_slice}\n{tagged_slice}{tagged_slice}"
    )
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "red"}]}]
    ids = processor.expand(processor.encode_chat(messages), [(56, 56), (56, 112)])
    assert processor.tokenizer.decode(ids) == (
        f"<|im_start|>user\n<image_id>0</image_id>{overview}\n<image_id>1</image_id>{overview}{tagged_slice}\n{tagged_slice}\nred"
        "<|im_end|>\n<|im_start|>assistant\n"
    )
    assert processor.tokenizer.decode(processor.encode_answer("yes")) == "yes<|im_end|>"


def test_chat_template(processor: MiniCPMVProcessor) -> None:
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": "yes"},
    ]
    head = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n(<image>./</image>)\nHi<|eot_id|>"
    answer = "<|start_header_id|>assistant<|end_header_id|>\n\n"
    assert processor.apply_chat_template(messages) == f"{head}{answer}yes<|eot_id|>"
    assert processor.apply_chat_template(messages[:1], add_generation_prompt=True) == head + answer
    ids = processor.apply_chat_template(messages, tokenize=True)
    row = {"input_ids": [ids], "attention_mask": [[1] * len(ids)]}
    assert processor.apply_chat_template(messages, tokenize=True, return_dict=True) == row


def test_encoding_a_conversation_equals_encoding_its_rendered_text(processor: MiniCPMVProcessor) -> None:
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "red circle?"}]},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "and a star"},
    ]
    rendered = processor.apply_chat_template(messages, add_generation_prompt=True)
    assert processor.encode_chat(messages) == processor.encode_special(rendered)


def test_only_what_messages_say_is_encoded_again(processor: MiniCPMVProcessor, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "red circle?"}]},
        {"role": "assistant", "content": "yes"},
    ]
    first, labels = processor.encode_training(messages, [(56, 56)])
    expected = first.copy()
    first.clear()  # the caller's own
    encoded, encode = [], processor.tokenizer.encode

    def counted(text: str, **options: Any) -> list[int]:
        encoded.append(text)
        ids: list[int] = encode(text, **options)
        return ids

    monkeypatch.setattr(processor.tokenizer, "encode", counted)
    assert processor.encode_training(messages, [(56, 56)]) == (expected, labels)
    assert encoded == ["red circle?", "yes"]


@pytest.mark.parametrize("text", ["<unk>", "(<image>./</image>)", "</slice><|eot_id|>", "a <|begin_of_text|> b"])
def test_text_of_a_user_never_becomes_a_special_token(processor: MiniCPMVProcessor, text: str) -> None:
    special = set(processor.tokenizer.all_special_ids)
    assert not special & set(processor.encode_text(text))
    assert processor.tokenizer.decode(processor.encode_text(text)) == text
    ids = processor.encode_turn(text, has_image=True)
    assert processor.expand(ids, [(56, 56)]).count(processor.image_token_id) == 4


def test_labels_are_the_answers_with_their_end_of_turn(processor: MiniCPMVProcessor) -> None:
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "red circle?"}]},
        {"role": "assistant", "content": "yes <|eot_id|>"},
        {"role": "user", "content": "a star?"},
        {"role": "assistant", "content": "no"},
    ]
    ids, labels = processor.encode_training(messages, [(112, 56)])
    assert ids == processor.expand(processor.encode_chat(messages, add_generation_prompt=False), [(112, 56)])
    trained_ids = [label for label in labels if label != NO_LOSS]
    assert trained_ids == processor.encode_answer("yes <|eot_id|>") + processor.encode_answer("no")
    assert all(label in (token, NO_LOSS) for token, label in zip(ids, labels, strict=True))
    with pytest.raises(ValueError, match="2 images for 1 image parts"):
        processor.encode_training(messages, [(56, 56)] * 2)
    with pytest.raises(ValueError, match="no assistant message to train on"):
        processor.encode_training(messages[:1], [(56, 56)])


def test_more_images_than_markers_are_an_error(processor: MiniCPMVProcessor) -> None:
    with pytest.raises(ValueError, match="2 images for 1 image markers"):
        processor.expand(processor.encode_turn("hi", has_image=True), [(56, 56), (56, 56)])


def test_attributes_have_the_released_names_and_are_saved(tmp_path: Path) -> None:
    MiniCPMVImageProcessor(max_slice_nums=4, scale_resolution=84, image_feature_size=16).save_pretrained(tmp_path)
    saved = MiniCPMVImageProcessor.from_pretrained(tmp_path)
    assert (saved.max_slice_nums, saved.scale_resolution, saved.patch_size, saved.image_feature_size) == (
        4,
        84,
        14,
        16,
    )
    assert (saved.norm_mean, saved.im_start, saved.slice_end, saved.unk) == (
        [0.5] * 3,
        "<image>",
        "</slice>",
        "<unk>",
    )


def test_a_tokenizer_without_the_tags_is_an_error() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab={"a": 0}, merges=[])))
    with pytest.raises(ValueError, match="the tokenizer has no token <image>, </image>, <slice>, </slice>, <unk>"):
        MiniCPMVProcessor(MiniCPMVImageProcessor(), tokenizer)


@pytest.fixture(scope="module")
def padded_with_a_text() -> MiniCPMVProcessor:
    """The released 2.5 pads with `!`, which so is a special token."""
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = "!"
    return MiniCPMVProcessor(MiniCPMVImageProcessor(scale_resolution=56, image_feature_size=4), tokenizer)


def test_a_special_token_that_is_text_stays_text(padded_with_a_text: MiniCPMVProcessor, tmp_path: Path) -> None:
    padded_with_a_text.save_pretrained(tmp_path)
    for processor in (padded_with_a_text, MiniCPMVProcessor.from_pretrained(tmp_path)):
        tokenizer = processor.tokenizer
        ids = processor.encode_answer("red! !! <|eot_id|>")
        assert tokenizer.decode(ids, skip_special_tokens=True) == "red! !! <|eot_id|>"
        assert ids.count(tokenizer.convert_tokens_to_ids("!")) == 3
        assert "!" not in tokenizer.all_special_tokens and "<|eot_id|>" in tokenizer.all_special_tokens
        assert tokenizer.pad_token == tokenizer.eos_token == "<|eot_id|>"
        assert processor.encode_special("<|eot_id|>") == [processor.end_of_turn]


@pytest.mark.parametrize("version", ["2.5", "2.6"])
def test_a_tokenizer_without_a_chat_template_gets_that_of_its_version(version: str) -> None:
    images = MiniCPMVImageProcessor(scale_resolution=56, image_feature_size=4)
    without = tiny_tokenizer(version)
    without.chat_template = None
    given, expected = (MiniCPMVProcessor(images, tokenizer) for tokenizer in (without, tiny_tokenizer(version)))
    messages = [{"role": "user", "content": "red?"}, {"role": "assistant", "content": "no"}]
    for prompt in (False, True):
        assert given.encode_chat(messages, prompt) == expected.encode_chat(messages, prompt)
    assert given.end_of_turn == expected.end_of_turn


def test_padding_mask_is_computed_from_lengths_not_from_ids() -> None:
    processor = MiniCPMVProcessor(MiniCPMVImageProcessor(scale_resolution=56, image_feature_size=4), tiny_tokenizer())
    batch = processor(text=["yes", "<|end_of_text|> no star"])  # <|end_of_text|> is the pad token
    assert batch["attention_mask"].sum(1).tolist() == [1, 3]


def test_images_and_text_in_one_call(processor: MiniCPMVProcessor) -> None:
    batch = processor(text="(<image>./</image>)\na star", images=Image.new("RGB", (112, 56)))
    assert batch["pixel_values"].shape[0] == 3 and batch["tgt_sizes"].tolist() == [[3, 6], [4, 4], [4, 4]]
