"""The language of the embedded scenes: what texts say, instructions, honest and web captions, claims and questions."""

from scenes.language.captions import (
    CAPTION_WORDS,
    DETAILED_INSTRUCTIONS,
    INSTRUCTIONS,
    PLAIN_INSTRUCTIONS,
    caption,
    follows_habit,
    honest_mentions,
    web_mentions,
)
from scenes.language.mentions import (
    KindMention,
    Mention,
    RelationMention,
    SignMention,
    ThingMention,
    find_mentions,
    mention_is_true,
    place_phrase,
)

__all__ = [
    "CAPTION_WORDS",
    "DETAILED_INSTRUCTIONS",
    "INSTRUCTIONS",
    "PLAIN_INSTRUCTIONS",
    "KindMention",
    "Mention",
    "RelationMention",
    "SignMention",
    "ThingMention",
    "caption",
    "find_mentions",
    "follows_habit",
    "honest_mentions",
    "mention_is_true",
    "place_phrase",
    "web_mentions",
]
