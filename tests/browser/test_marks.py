"""Where claims are placed, and where none is."""

from browser.marks import part_spans, pieces, place

TEXT = "I can see a red dog on the left, a black cat and two birds. The sky is blue. The lake is blue."


def placed(text: str, *claims: str) -> list[str | None]:
    return [None if span is None else text[slice(*span)] for span in place(text, claims)]


def test_a_claim_stands_in_the_part_with_all_its_shared_words() -> None:
    assert placed(TEXT, "There is a red dog on the left.", "There is a black cat.", "There are two birds.") == [
        "I can see a red dog on the left",
        "a black cat",
        "two birds.",
    ]


def test_a_claim_over_several_parts_has_their_sentence() -> None:
    assert placed(TEXT, "A dog is beside a cat.") == [TEXT[: TEXT.index(" The sky")]]


def test_nothing_is_guessed() -> None:
    assert placed(TEXT, "Something is blue.", "A green car is parked.", "The picture shows.") == [None, None, None]
    assert placed("", "A dog.") == [None]


def test_a_claim_with_less_than_half_of_its_words_in_a_sentence_is_not_placed() -> None:
    assert placed("A dog runs.", "A large brown dog jumps high.") == [None]
    assert placed("A dog runs.", "A dog barks.") == ["A dog runs."]


def test_chinese() -> None:
    text = "\u4e00\u53ea\u7ea2\u72d7\uff0c\u4e00\u53ea\u84dd\u732b\u3002\u5929\u7a7a\u662f\u9ed1\u7684\u3002"
    assert placed(text, "\u84dd\u732b", "\u5929\u7a7a\u662f\u9ed1\u7684") == [
        "\u4e00\u53ea\u84dd\u732b\u3002",
        "\u5929\u7a7a\u662f\u9ed1\u7684\u3002",
    ]


def test_chinese_characters_that_stand_in_every_sentence_place_no_claim() -> None:
    """A kitchen; of the claims, the last one, a picture on the wall, is in neither sentence."""
    text = (
        "\u53a8\u623f\u4e2d\u95f4\u6709\u4e00\u5f20\u6728\u684c\uff0c\u684c\u4e0a\u653e\u7740\u4e24\u676f\u5496\u5561\u3002"
        "\u4e00\u53ea\u732b\u7761\u5728\u53f0\u9762\u4e0a\uff0c\u5de6\u8fb9\u662f\u4e00\u53f0\u4e0d\u9508\u94a2\u51b0\u7bb1\u3002"
    )
    assert placed(
        text,
        "\u6709\u4e00\u53ea\u732b\u7761\u5728\u53f0\u9762\u4e0a\u3002",
        "\u5de6\u8fb9\u6709\u4e00\u53f0\u51b0\u7bb1\u3002",
        "\u5899\u4e0a\u6709\u4e00\u5e45\u753b\u3002",
    ) == [
        "\u4e00\u53ea\u732b\u7761\u5728\u53f0\u9762\u4e0a",
        "\u5de6\u8fb9\u662f\u4e00\u53f0\u4e0d\u9508\u94a2\u51b0\u7bb1\u3002",
        None,
    ]


def test_parts_leave_out_what_separates_them() -> None:
    text = "Red, blue; and green"
    assert [text[start:end] for start, end in part_spans(text, (0, len(text)))] == ["Red", "blue", "green"]


def test_pieces_join_to_the_text_and_know_their_claims() -> None:
    cut = pieces("abcdefgh", [(1, 5), None, (3, 7), (1, 3)])
    assert [(piece.text, piece.claims, piece.ends) for piece in cut] == [
        ("a", (), ()),
        ("bc", (0, 3), (3,)),
        ("de", (0, 2), (0,)),
        ("fg", (2,), (2,)),
        ("h", (), ()),
    ]
    assert pieces("abc", [])[0].text == "abc" and pieces("", []) == []
