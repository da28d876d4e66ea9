"""Words of a text: the fast path for ASCII gives the same words as the pattern for all scripts."""

from hypothesis import given
from hypothesis import strategies as st

from rlaif.text import _WORD, content_words, share_in, words


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_is_split_as_any_text(text: str) -> None:
    assert words(text) == _WORD.findall(text.lower())


def test_scripts() -> None:
    assert words("A re-used snake_case\x1f\tIT'S") == ["a", "re", "used", "snake", "case", "it", "s"]
    assert words("Zwei H\u00c4USER \u732b\u72ac") == ["zwei", "h\u00e4user", "\u732b", "\u72ac"]


def test_words_with_content() -> None:
    assert content_words("There are two dogs, barking") == ["two", "dog", "bark"]
    assert share_in("two dogs barking", {"dog", "bark"}) == 2 / 3
    assert share_in("there it is", set()) == 1.0
