"""The noise of the embedded web captions."""

import random

from scenes import noise
from scenes.language import find_mentions


def test_noise_is_of_two_kinds() -> None:
    rng = random.Random(0)
    text = "There is a small red circle at the top left. I can also see a blue star on the right."
    captions = [noise.add_noise(text, rng) for _ in range(500)]
    assert 0.1 < sum(not caption.recoverable for caption in captions) / 500 < 0.25
    assert sum(find_mentions(caption.text) == find_mentions(text) for caption in captions) < 300
    for caption in captions:
        assert caption.text
        if not caption.recoverable:
            assert text not in caption.text
    assert noise.add_noise(text, random.Random(3)) == noise.add_noise(text, random.Random(3))


def test_each_noise_does_what_it_says() -> None:
    rng = random.Random(0)
    assert noise.flatten("There is a star. It looks calm.", rng) == "there is a star it looks calm"
    assert noise.join_words("a red star.", rng, share=1.0) == "aredstar."
    assert noise.misspell("a red star", rng, share=0.0) == "a red star"
    assert all(noise.misspell_word("star", rng)[0] == "s" and noise.misspell_word("star", rng) for _ in range(50))
    assert noise.repeat("a star", rng).count("a star") in (2, 3)
    assert all(len(noise.cut_off("A red star.", rng).removesuffix("...")) < 10 for _ in range(50))
    assert not find_mentions(" ".join(noise.empty(rng) for _ in range(100)))
