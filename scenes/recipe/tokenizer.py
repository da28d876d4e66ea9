"""A small byte-level BPE tokenizer for the embedded models: single tokens for the words of their world, bytes for any
other text.
"""

import random
from collections.abc import Iterator

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = (
    "<|begin_of_text|>", "<|end_of_text|>", "<unk>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<image>", "</image>", "<slice>", "</slice>",
)  # fmt: skip
VOCABULARY = 2048  # at most: words that are whole tokens take less

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


def corpus(seed: int) -> Iterator[str]:
    """Prompts and answers of the tasks, and the words of chat templates and verdicts."""
    from scenes.language import INSTRUCTIONS, SignMention, caption, honest_mentions
    from scenes.prompts import SPLIT_PROMPT, WHOLE_PROMPT
    from scenes.recipe import tasks
    from scenes.short_questions import short_questions
    from scenes.world import sample_scene
    from scenes.world.signs import WORDS
    from scenes.world.things import THINGS

    for index in range(4000):
        rng = random.Random(f"tokenizer/{seed}/{index}")
        scene = sample_scene(rng, signs=0)  # numbers of signs have no tokens but their digits
        text = caption(honest_mentions(scene, detailed=rng.random() < 0.5), rng)
        yield from (text for question in short_questions(scene.truth, rng) for text in question[1:])
        yield from [text, f"Text: {text}", tasks.split_answer(text)]
    yield from [*INSTRUCTIONS, SPLIT_PROMPT, WHOLE_PROMPT] * 500
    for word in WORDS:
        yield from [SignMention(word).claim, f" {word}"] * 50
    for thing in THINGS.values():
        yield from [f" {thing.name} {thing.plural}"] * 50
    yield from [
        "(<image>./</image>)\n",
        "user",
        "assistant",
        "system",
        "Yes",
        "No",
        " Yes",
        " No",
        "yes",
        "no",
        " yes",
        " no",
    ] * 500


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Train the vocabulary on the text of the tasks; special tokens are named as in the released model."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(seed), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        unk_token="<unk>",
        pad_token="<|end_of_text|>",
        extra_special_tokens=[
            token
            for token in SPECIAL_TOKENS
            if token not in ("<|begin_of_text|>", "<|eot_id|>", "<unk>", "<|end_of_text|>")
        ],
        chat_template=CHAT_TEMPLATE,
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )
