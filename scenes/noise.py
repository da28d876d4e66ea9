"""What the web makes of an honest caption of a scene.

Most of the noise can be mended by whoever reads the text alone: misspelt and glued words, lost punctuation,
repetitions, file names, advertising, hashtags. Some cannot: a text cut off, or one with nothing of the picture in it.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from scenes.language import OPINIONS
from scenes.world import COLORS, PLACES, SHAPES, SIZES

CUT_SHARE, EMPTY_SHARE, CLEAN_SHARE = 0.08, 0.08, 0.08
HASHTAGS = ("#art", "#shapes", "#design", "#nofilter", "#geometry", "#instagood", "#minimal", "#photooftheday")
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
# all that a caption of the world says; what else stands in one is no description
PHRASES = ("There is", "I can also see", "The picture shows", "a", "an", "and", "at the", "in the", "on the")
WORDS = frozenset(re.findall("[a-z]+", " ".join([*SIZES, *COLORS, *SHAPES, *PLACES, *OPINIONS, *PHRASES]).lower()))

Noise = Callable[[str, random.Random], str]


@dataclass(frozen=True)
class Found:
    """A caption as found, and whether its text alone tells what it should be."""

    text: str
    mendable: bool


def misspell_word(word: str, rng: random.Random) -> str:
    """One letter doubled, dropped, changed, or in its neighbour's place; never the first."""
    at = rng.randrange(1, len(word) - 1)
    way = rng.randrange(4)
    if way == 0:
        return word[:at] + word[at] + word[at:]
    if way == 1:
        return word[:at] + word[at + 1 :]
    if way == 2:
        return word[:at] + rng.choice("aeinorst") + word[at + 1 :]
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def misspell(text: str, rng: random.Random, share: float = 0.2) -> str:
    def maybe(match: re.Match[str]) -> str:
        return misspell_word(match[0], rng) if rng.random() < share else match[0]

    return re.sub("[A-Za-z]{3,}", maybe, text)


def glue(text: str, rng: random.Random, share: float = 0.15) -> str:
    """Spaces between words get lost."""
    return re.sub(r"(?<=\w) (?=\w)", lambda match: "" if rng.random() < share else match[0], text)


def flatten(text: str, rng: random.Random) -> str:
    """Lower case, no punctuation."""
    return re.sub(r"[^\w ]", "", text).lower()


def repeat(text: str, rng: random.Random) -> str:
    """As a page that has the caption as title, as text and as description."""
    return rng.choice(("", " ", " - ", " | ")).join([text] * rng.randint(2, 3))


def file_name(rng: random.Random) -> str:
    number = rng.randint(1000, 9999)
    return rng.choice((f"IMG_{number}.jpg", f"DSC0{number}.JPG", f"image-{number}.png", f"scan {number}.jpeg"))


def beside(text: str, extra: str, rng: random.Random) -> str:
    return f"{extra} {text}" if rng.random() < 0.5 else f"{text} {extra}"


def with_file_name(text: str, rng: random.Random) -> str:
    return beside(text, file_name(rng), rng)


def with_advertising(text: str, rng: random.Random) -> str:
    return beside(text, rng.choice(ADVERTISING), rng)


def with_hashtags(text: str, rng: random.Random) -> str:
    return f"{text} {' '.join(rng.sample(HASHTAGS, rng.randint(1, 4)))}"


# in the order in which they come upon a text
NOISES: tuple[Noise, ...] = (misspell, flatten, glue, repeat, with_file_name, with_advertising, with_hashtags)


def cut_off(text: str, rng: random.Random) -> str:
    """As where a page has no more room, never at the end of a sentence."""
    places = [place for place in range(len(text) // 4, len(text) - 1) if text[place - 1] not in ". "]
    return text[: rng.choice(places)] + rng.choice(("", "..."))


def empty(rng: random.Random) -> str:
    """File names, advertising, hashtags and nothing else."""
    text = rng.choice((file_name(rng), rng.choice(ADVERTISING)))
    return rng.choice((with_file_name, with_advertising, with_hashtags))(text, rng) if rng.random() < 0.5 else text


def as_found(text: str, rng: random.Random) -> Found:
    """An honest caption as the web has it: mostly with one to three kinds of noise."""
    way = rng.random()
    if way < EMPTY_SHARE:
        return Found(empty(rng), mendable=False)
    if way < EMPTY_SHARE + CUT_SHARE:
        return Found(cut_off(text, rng), mendable=False)
    if way < EMPTY_SHARE + CUT_SHARE + CLEAN_SHARE:
        return Found(text, mendable=True)
    for number in sorted(rng.sample(range(len(NOISES)), rng.randint(1, 3))):
        text = NOISES[number](text, rng)
    return Found(text, mendable=True)
