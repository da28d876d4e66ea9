"""Words for the things of the world, as CHAIR and AMBER need them to find things in any text."""

from scenes.world.things import THINGS

SYNONYMS: dict[str, tuple[str, ...]] = {  # other things have only their name
    "airplane": ("plane", "jet", "airliner"),
    "backpack": ("rucksack", "knapsack", "school bag"),
    "bear": ("brown bear", "polar bear", "grizzly"),
    "bicycle": ("bike", "mountain bike"),
    "bird": ("songbird", "parrot", "pigeon", "sparrow", "robin", "gull", "seagull", "duck"),
    "boat": ("sailboat", "ship", "motorboat", "canoe"),
    "book": ("textbook",),
    "bus": ("minibus", "school bus", "double-decker"),
    "cake": ("birthday cake", "shortcake", "cheesecake", "cupcake"),
    "car": ("automobile", "sedan", "taxi", "cab"),
    "cat": ("kitten", "kitty"),
    "cell phone": ("cellphone", "phone", "mobile phone", "smartphone"),
    "chair": ("armchair", "seat", "stool"),
    "clock": ("alarm clock", "wall clock"),
    "couch": ("sofa", "loveseat"),
    "cow": ("cattle", "bull", "calf", "ox"),
    "cup": ("mug", "teacup", "coffee cup"),
    "dog": ("puppy", "pup", "hound"),
    "donut": ("doughnut",),
    "handbag": ("purse", "hand bag"),
    "horse": ("pony", "foal", "mare", "stallion"),
    "hot dog": ("hotdog",),
    "laptop": ("laptop computer", "notebook", "notebook computer"),
    "motorcycle": ("motorbike", "scooter", "moped"),
    "potted plant": ("houseplant", "pot plant"),
    "sandwich": ("burger", "hamburger"),
    "sheep": ("lamb", "ewe"),
    "sports ball": ("ball", "soccer ball", "tennis ball"),
    "suitcase": ("luggage",),
    "tennis racket": ("racket", "tennis racquet", "racquet"),
    "toilet": ("lavatory",),
    "traffic light": ("traffic signal", "stoplight"),
    "train": ("locomotive", "steam engine"),
    "truck": ("lorry", "pickup", "pickup truck"),
    "tv": ("television", "television set", "tv set"),
    "umbrella": ("parasol",),
    "wine glass": ("wineglass", "goblet"),
}


def words_for(name: str) -> list[str]:
    """All words for a thing, its name first.

    Orange is a thing and a color: with "orange chair" among the words for a chair, where the longest word counts, an
    orange chair is not an orange.
    """
    words = [name, *SYNONYMS.get(name, ())]
    return words if name == "orange" else [*words, *(f"orange {word}" for word in words)]


WORDS = {name: words_for(name) for name in THINGS}
