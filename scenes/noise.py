"""The noise of web captions, added to honest captions of scenes.

Most of it can be corrected from the text alone: misspelled and joined words, missing punctuation, repetitions, file
names, advertising, hashtags. Some cannot: a text that is cut off, or one that describes nothing.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

CUT_SHARE, EMPTY_SHARE, CLEAN_SHARE = 0.08, 0.08, 0.08
HASHTAGS = ("#art", "#everyday", "#design", "#nofilter", "#things", "#instagood", "#minimal", "#photooftheday")
ADVERTISING = (
    "Click here to enlarge.",
    "Free shipping on all orders!",
    "Buy now, best prices",
    "Stock photo",
    "Image may be subject to copyright.",
    "Read more",
    "Posted by admin",
    "Follow us for more!",
)

Noise = Callable[[str, random.Random], str]


@dataclass(frozen=True)
class NoisyCaption:
    """A caption with noise, and whether the honest caption can be recovered from it."""

    text: str
    recoverable: bool


def misspell_word(word: str, rng: random.Random) -> str:
    """One letter doubled, dropped, changed, or swapped with the next; never the first."""
    index = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(4)
    if kind == 0:
        return word[:index] + word[index] + word[index:]
    if kind == 1:
        return word[:index] + word[index + 1 :]
    if kind == 2:
        return word[:index] + rng.choice("aeinorst") + word[index + 1 :]
    return word[:index] + word[index + 1] + word[index] + word[index + 2 :]


def misspell(text: str, rng: random.Random, share: float = 0.2) -> str:
    def replacement(match: re.Match[str]) -> str:
        return misspell_word(match[0], rng) if rng.random() < share else match[0]

    return re.sub("[A-Za-z]{3,}", replacement, text)


def join_words(text: str, rng: random.Random, share: float = 0.15) -> str:
    """Remove some of the spaces between words."""
    return re.sub(r"(?<=\w) (?=\w)", lambda match: "" if rng.random() < share else match[0], text)


def flatten(text: str, rng: random.Random) -> str:
    """Lower case without punctuation."""
    return re.sub(r"[^\w ]", "", text).lower()


def repeat(text: str, rng: random.Random) -> str:
    """The caption two or three times, as on a page that has it as title, text and description."""
    return rng.choice(("", " ", " - ", " | ")).join([text] * rng.randint(2, 3))


def file_name(rng: random.Random) -> str:
    number = rng.randint(1000, 9999)
    return rng.choice((f"IMG_{number}.jpg", f"DSC0{number}.JPG", f"image-{number}.png", f"scan {number}.jpeg"))


def put_before_or_after(text: str, extra: str, rng: random.Random) -> str:
    return f"{extra} {text}" if rng.random() < 0.5 else f"{text} {extra}"


def with_file_name(text: str, rng: random.Random) -> str:
    return put_before_or_after(text, file_name(rng), rng)


def with_advertising(text: str, rng: random.Random) -> str:
    return put_before_or_after(text, rng.choice(ADVERTISING), rng)


def with_hashtags(text: str, rng: random.Random) -> str:
    return f"{text} {' '.join(rng.sample(HASHTAGS, rng.randint(1, 4)))}"


# in the order in which they are applied
NOISES: tuple[Noise, ...] = (misspell, flatten, join_words, repeat, with_file_name, with_advertising, with_hashtags)


def cut_off(text: str, rng: random.Random) -> str:
    """The start of the text, never with the full stop of a sentence at its end."""
    ends = [end for end in range(len(text) // 4, len(text) - 1) if text[end - 1] not in ". "]
    return text[: rng.choice(ends)] + rng.choice(("", "..."))


def empty(rng: random.Random) -> str:
    """Only file names, advertising and hashtags."""
    text = rng.choice((file_name(rng), rng.choice(ADVERTISING)))
    return rng.choice((with_file_name, with_advertising, with_hashtags))(text, rng) if rng.random() < 0.5 else text


def add_noise(text: str, rng: random.Random) -> NoisyCaption:
    """An honest caption with the noise of the web, mostly of one to three kinds."""
    kind = rng.random()
    if kind < EMPTY_SHARE:
        return NoisyCaption(empty(rng), recoverable=False)
    if kind < EMPTY_SHARE + CUT_SHARE:
        return NoisyCaption(cut_off(text, rng), recoverable=False)
    if kind < EMPTY_SHARE + CUT_SHARE + CLEAN_SHARE:
        return NoisyCaption(text, recoverable=True)
    for number in sorted(rng.sample(range(len(NOISES)), rng.randint(1, 3))):
        text = NOISES[number](text, rng)
    return NoisyCaption(text, recoverable=True)
