"""The noise of the embedded web captions."""

import random

from scenes import noise
from scenes.language import find_mentions


def test_noise_is_of_two_kinds() -> None:
    rng = random.Random(0)
    text = "There is a small red car at the top left. I can also see two sheep on the right. A sign says STOP."
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
    assert noise.flatten("A sign says STOP. It looks calm.", rng) == "a sign says stop it looks calm"
    assert noise.join_words("a red car.", rng, share=1.0) == "aredcar."
    assert noise.misspell("a red car", rng, share=0.0) == "a red car"
    assert noise.misspell("42 at 17", rng, share=1.0) == "42 at 17"  # a wrong number could not be corrected
    assert all(noise.misspell_word("couch", rng)[0] == "c" for _ in range(50))
    assert len({noise.misspell_word("couch", rng) for _ in range(50)}) > 10
    assert noise.repeat("a car", rng).count("a car") in (2, 3)
    assert all(len(noise.cut_off("A red car.", rng).removesuffix("...")) < 9 for _ in range(50))
    assert not find_mentions(" ".join(noise.empty(rng) for _ in range(100)))
