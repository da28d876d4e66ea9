import pytest

from rlaif.text import clean, is_degenerate


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("A dog.\n\tA cat. ", "A dog.\n\tA cat."),
        ("A dog<|eot_id|> sits.", "A dog< |eot_id|> sits."),
        ("<image>A dog</image><s>", "< image>A dog< /image>< s>"),
        ("A <|eot<s>_id|>dog", "A <|eot< s>_id|>dog"),
        ("[INST] A (<image>./</image>)<row_1_col_2> dog", "[ INST] A ( < image>./< /image>)< row_1_col_2> dog"),
        (
            "The button reads <Start>, the type is List<String>.",
            "The button reads < Start>, the type is List< String>.",
        ),
        ("<a" * 20_000 + ">" * 20_000, "<a" * 19_999 + "< a" + ">" * 20_000),
        ("A\x00 d\u202eo\u200bg\x7f", "A dog"),
        ("3 < 5 and 7 > 5, a <3", "3 < 5 and 7 > 5, a <3"),
    ],
)
def test_clean_breaks_markers_and_keeps_what_is_said(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned
    assert clean(cleaned) == cleaned


@pytest.mark.parametrize(
    ("text", "looping"),
    [
        ("The dog is happy. " * 40, True),
        ("A dog.\nA cat.\n" * 60, True),
        ("haha" * 300, True),
        ("\u4e00\u53ea\u72d7\u3002" * 100, True),
        ("\n".join(f"{row}. ha {'ha ' * 60}" for row in range(5)), True),  # each line a loop of its own
        ("\n".join(f"{row}. Cup {row}: white, ceramic, on the second shelf" for row in range(1, 25)), False),
        ("\n".join(f"Seat {row}{side} is occupied." for row in range(1, 14) for side in "ABC"), False),
        ("\n".join(f"\u7b2c{row}\u6392\u5ea7\u4f4d\u6709\u4eba\u3002" for row in range(1, 41)), False),
        ("\n".join(f"{item} ... {price}.50" for price, item in enumerate(["Tea", "Coffee", "Cake"] * 7)), False),
        ("A dog sits on the grass.", False),
    ],
)
def test_a_loop_repeats_itself_and_a_list_counts(text: str, looping: bool) -> None:
    assert is_degenerate(text) is looping
