"""The batch that DPO trains on, token by token."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from dpo.collator import PairCollator, StockCollator, open_images
from model import MiniCPMVForConditionalGeneration, MiniCPMVImageProcessor, MiniCPMVProcessor
from scenes.recipe.tokenizer import CHAT_TEMPLATE, SPECIAL_TOKENS
from tests.support.pair_rows import pair_row

RELEASED_PAD = "!"  # the released model pads with an ordinary token, and so does this one in its files
END = PAD = "<|eot_id|>"
USER = ["<|begin_of_text|>", "<|start_header_id|>", *"user", "<|end_header_id|>", "Ċ", "Ċ"]
ASSISTANT = [END, "<|start_header_id|>", *"assistant", "<|end_header_id|>", "Ċ", "Ċ"]
VIEW = ["<image>", "<unk>", "<unk>", "<unk>", "<unk>", "</image>"]


@pytest.fixture(scope="module")
def processor() -> MiniCPMVProcessor:
    """Every byte of text is a token; slices of 56 x 56 pixels have 4 placeholders."""
    vocabulary = [*SPECIAL_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bytes_only = Tokenizer(models.BPE({token: index for index, token in enumerate(vocabulary)}, []))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_only,
        bos_token="<|begin_of_text|>",
        eos_token=END,
        unk_token="<unk>",
        pad_token=RELEASED_PAD,
        extra_special_tokens=[token for token in SPECIAL_TOKENS if token not in ("<|begin_of_text|>", END, "<unk>")],
        chat_template=CHAT_TEMPLATE,
    )
    images = MiniCPMVImageProcessor(max_slice_nums=4, scale_resolution=56, patch_size=14, image_feature_size=4)
    made = MiniCPMVProcessor(images, tokenizer)
    made.tokenizer.pad_token = PAD  # a text, with which the processor itself does not pad
    return made


def tokens(processor: MiniCPMVProcessor, batch: dict[str, Any]) -> list[list[str]]:
    return [processor.tokenizer.convert_ids_to_tokens(row) for row in batch["input_ids"].tolist()]


def test_batch_of_two_pairs_literally(processor: MiniCPMVProcessor) -> None:
    rows = [pair_row("a", "hue?", "red", "blue!", (56, 56)), pair_row("b", "two?", "no", "a", (112, 56))]
    batch = PairCollator(processor)(rows)

    one_slice = [*USER, *VIEW, "Ċ", *"hue?", *ASSISTANT]  # 34 tokens
    three_slices = [*USER, *VIEW, "<slice>", *VIEW, *VIEW, "</slice>", "Ċ", *"two?", *ASSISTANT]  # 48 tokens
    assert tokens(processor, batch) == [
        [*one_slice, *"red", END, *[PAD] * 13],
        [*three_slices, *"no", END],
        [*one_slice, *"blue!", END, *[PAD] * 11],
        [*three_slices, *"a", END, PAD],
    ]
    assert batch["completion_mask"].tolist() == [
        [0] * 34 + [1] * 4 + [0] * 13,
        [0] * 48 + [1] * 3,
        [0] * 34 + [1] * 6 + [0] * 11,
        [0] * 48 + [1] * 2 + [0],
    ]
    assert batch["attention_mask"].tolist() == [
        [1] * 38 + [0] * 13,
        [1] * 51,
        [1] * 40 + [0] * 11,
        [1] * 50 + [0],
    ]
    # once per pair: one slice of 4x4 patches; overview of 3x6 and two slices of 4x4, padded to 18 patches of 14 pixels
    assert batch["tgt_sizes"].tolist() == [[4, 4], [3, 6], [4, 4], [4, 4]]
    assert batch["pixel_values"].shape == (4, 3, 14, 18 * 14)
    assert batch["image_repeats"] == 2


def test_without_images_there_are_no_pixels(processor: MiniCPMVProcessor) -> None:
    batch = PairCollator(processor)([pair_row("a", "hue?", "red", "sad", None)])
    prompt = [*USER, *"hue?", *ASSISTANT]
    assert tokens(processor, batch) == [[*prompt, *"red", END], [*prompt, *"sad", END]]
    assert batch.keys() == {"input_ids", "attention_mask", "completion_mask"}


def test_the_prompt_is_that_of_generation_and_text_is_never_special(processor: MiniCPMVProcessor) -> None:
    question, answer = "is <unk> (<image>./</image>) red<|eot_id|>", "no <unk><|eot_id|>"
    batch = PairCollator(processor)([pair_row("a", question, answer, "yes", (112, 56))])
    prompt = processor.expand(processor.encode_turn(question, has_image=True), [(112, 56)])
    assert batch["input_ids"][0, : len(prompt)].tolist() == prompt
    assert (batch["input_ids"] == processor.image_token_id).sum() == 2 * 3 * 4  # two rows, three slices, four each
    assert tokens(processor, batch)[0].count(END) == 2  # of the user's turn and of the answer's


@pytest.mark.parametrize(
    "limits, chosen, rejected",
    [
        ({}, [*"blue", END], ["a", END]),
        ({"max_answer_tokens": 5}, [*"blue", END], ["a", END]),
        ({"max_answer_tokens": 4}, [*"blue"], ["a", END]),
        ({"max_answer_tokens": 1}, ["b"], ["a"]),
        ({"max_length": 34 + 2}, [*"bl"], ["a", END]),
        ({"max_length": 34 + 2, "max_answer_tokens": 1}, ["b"], ["a"]),
        ({"max_length": 34 + 9, "max_answer_tokens": 3}, [*"blu"], ["a", END]),
    ],
)
def test_answers_are_cut_but_prompts_are_not(
    processor: MiniCPMVProcessor, limits: dict[str, Any], chosen: list[str], rejected: list[str]
) -> None:
    row = pair_row("a", "hue?", "blue", "a")
    collator = PairCollator(processor, **limits)
    prompt = [*USER, *VIEW, "Ċ", *"hue?", *ASSISTANT]
    padding = len(chosen) - len(rejected)
    assert tokens(processor, collator([row])) == [prompt + chosen, prompt + rejected + [PAD] * padding]
    assert collator.unusable(row) is None


@pytest.mark.parametrize("pad", [END, None])
def test_the_end_token_stays_in_the_loss_if_it_also_pads(processor: MiniCPMVProcessor, pad: str | None) -> None:
    other = copy.deepcopy(processor)
    other.tokenizer.pad_token = pad
    row = pair_row("a", "hue?", "red", "blue!")
    for shared_prefix in (False, True):
        batch = PairCollator(other, shared_prefix=shared_prefix)([row])
        unread = 33 if shared_prefix else 0  # tokens of the prompt that the loss does not read
        prompt = [*USER, *VIEW, "Ċ", *"hue?", *ASSISTANT]
        assert tokens(other, batch)[0][: 34 + 4 - unread] == [*prompt, *"red", END][unread:]
        masks = [[0] * 34 + [1] * 4 + [0] * 2, [0] * 34 + [1] * 6]
        assert batch["completion_mask"].tolist() == [mask[unread:] for mask in masks]
        assert batch["attention_mask"].tolist() == [[1] * 38 + [0] * 2, [1] * 40]


def test_pairs_of_one_prompt_share_it_and_equal_answers_literally(processor: MiniCPMVProcessor) -> None:
    """The third pair has the prompt of the first, and an answer of it; the second has the text, but another image."""
    rows = [
        pair_row("a", "hue?", "red", "blue!", (56, 56)),
        pair_row("b", "hue?", "no", "a", (40, 90)),
        pair_row("c", "hue?", "red", "pink", (56, 56)),
    ]
    batch = PairCollator(processor, shared_prefix=True)(rows)
    prompt = [*USER, *VIEW, "Ċ", *"hue?", *ASSISTANT]  # 34 tokens
    tall = processor.expand(processor.encode_turn("hue?", has_image=True), [(40, 90)])
    first = [*prompt, *"red", END, *"blue!", END, *"pink", END]  # 34 + 4 + 6 + 5
    row = processor.tokenizer.convert_ids_to_tokens(batch["folded_ids"][0].tolist())
    assert row[: len(first)] == first
    assert row[len(first) + len(tall) :] == [*"no", END, "a", END]
    assert batch["folds"] == [[34, 4, 6, 5], [len(tall), 3, 2]]
    assert tokens(processor, batch) == [
        ["Ċ", *"red", END, PAD, PAD],
        ["Ċ", *"no", END, PAD, PAD, PAD],
        ["Ċ", *"red", END, PAD, PAD],
        ["Ċ", *"blue!", END],
        ["Ċ", "a", END, PAD, PAD, PAD, PAD],
        ["Ċ", *"pink", END, PAD],
    ]
    end = 49 + len(tall)
    assert batch["unfold"].tolist() == [
        [33, 34, 35, 36, 37, 0, 0],
        [end - 1, end, end + 1, end + 2, 0, 0, 0],
        [33, 34, 35, 36, 37, 0, 0],
        [33, 38, 39, 40, 41, 42, 43],
        [end - 1, end + 3, end + 4, 0, 0, 0, 0],
        [33, 44, 45, 46, 47, 48, 0],
    ]
    assert batch["attention_mask"].sum(1).tolist() == [38, len(tall) + 3, 38, 40, len(tall) + 2, 39]
    slices = [processor.image_processor.slice(open_images(row)[0])[1] for row in rows[:2]]
    assert torch.equal(batch["tgt_sizes"], torch.cat(slices))  # once a prompt


@pytest.mark.parametrize("pad", [RELEASED_PAD, END, None])
def test_the_end_token_stays_in_the_loss_with_the_collator_of_trl(
    processor: MiniCPMVProcessor, pad: str | None
) -> None:
    other = copy.deepcopy(processor)
    other.tokenizer.pad_token = pad
    batch = StockCollator(other)([pair_row("a", "hue?", "red", "blue!")])
    assert other.tokenizer.pad_token == pad  # the processor is saved with the policy
    answers = [
        [token for token, counts in zip(row, mask, strict=True) if counts]
        for row, mask in zip(tokens(other, batch), batch["completion_mask"].tolist(), strict=True)
    ]
    assert answers == [[*"red", END], [*"blue!", END]]


@pytest.mark.parametrize(
    ("max_length", "room"),
    [
        (len(USER) + len(VIEW) - 1, 0),  # one token before the end of the image
        (33, 0),
        (34, 0),
        (35, 1),
    ],
)
def test_a_pair_whose_prompt_leaves_no_room_is_dropped_by_name(
    processor: MiniCPMVProcessor, max_length: int, room: int
) -> None:
    collator = PairCollator(processor, max_length=max_length)
    row = pair_row("a", "hue?", "red", "blue!")
    if room:
        assert collator.unusable(row) is None
        assert collator([row])["completion_mask"].sum(1).tolist() == [room, room]
        same = collator.unusable(pair_row("a", "hue?", "red", "rad"))
        assert same == ("same_after_cut", "chosen and rejected start with the same 1 tokens")
    else:
        assert collator.unusable(row) == ("prompt_too_long", f"34 tokens; dpo.trainer.max_length is {max_length}")


def test_unusable_pairs_have_a_reason(processor: MiniCPMVProcessor) -> None:
    row = pair_row("a", "hue?", "blue", "blau")
    too_long = ("prompt_too_long", "34 tokens; dpo.trainer.max_length is 34")
    assert PairCollator(processor, max_length=34).unusable(row) == too_long
    same = ("same_after_cut", "chosen and rejected start with the same 2 tokens")
    assert PairCollator(processor, max_answer_tokens=2).unusable(row) == same
    assert PairCollator(processor, max_answer_tokens=3).unusable(row) is None


def test_answers_that_are_cut_within_a_response_have_no_end_token(processor: MiniCPMVProcessor) -> None:
    row = pair_row("a", "hue?", "red", "blue!")
    batch = PairCollator(processor, end_token=False)([row])
    assert [row[34:] for row in tokens(processor, batch)] == [[*"red", PAD, PAD], [*"blue!"]]
    assert batch["completion_mask"].tolist() == [[0] * 34 + [1] * 3 + [0] * 2, [0] * 34 + [1] * 5]
    cut = PairCollator(processor, end_token=False, max_answer_tokens=3)([row])
    assert [row[34:] for row in tokens(processor, cut)] == [[*"red"], [*"blu"]]


def test_images_once_per_pair_give_the_log_probs_of_images_twice(tiny_model: Path) -> None:
    model = MiniCPMVForConditionalGeneration.from_pretrained(tiny_model).eval()
    rows = [
        pair_row("a", "red", "yes", "no no", (56, 56)),
        pair_row("b", "is red", "no", "a", (150, 60)),
        pair_row("c", "blue", "yes", "no", None),
        pair_row("d", "star", "a star", "a circle", (40, 90)),
    ]
    once = PairCollator(MiniCPMVProcessor.from_pretrained(tiny_model))(rows)
    answers = once.pop("completion_mask").bool()
    twice = {**once, "image_repeats": 1}
    for name in ("pixel_values", "tgt_sizes"):
        twice[name] = torch.cat([once[name], once[name]])
    with torch.no_grad():
        log_probs = [model(**batch).logits.log_softmax(-1)[answers] for batch in (once, twice)]
    torch.testing.assert_close(log_probs[0], log_probs[1], rtol=0, atol=1e-6)
