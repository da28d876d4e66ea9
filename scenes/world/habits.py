"""The habits of the world, as photographs have them: what usually stands together, usual numbers, usual colors.

Web captions follow the habits even where the picture does not (`scenes.language.web_mentions`); a policy that is
trained on them learns these hallucinations.
"""

from scenes.world.things import THINGS

# thing -> (its usual companion, the companion's usual place)
COMPANIONS = {
    "airplane": ("bird", "right"),
    "apple": ("orange", "right"),
    "bear": ("cow", "top right"),
    "bicycle": ("backpack", "bottom"),
    "boat": ("bird", "top"),
    "book": ("clock", "top"),
    "bottle": ("wine glass", "right"),
    "bowl": ("banana", "top left"),
    "carrot": ("bowl", "left"),
    "bus": ("car", "bottom left"),
    "cake": ("knife", "bottom right"),
    "car": ("traffic light", "top right"),
    "chair": ("cat", "center"),
    "couch": ("tv", "top left"),
    "cup": ("donut", "bottom right"),
    "dog": ("sports ball", "bottom right"),
    "elephant": ("zebra", "bottom left"),
    "horse": ("cow", "left"),
    "hot dog": ("cup", "top"),
    "keyboard": ("laptop", "center"),
    "kite": ("bicycle", "bottom"),
    "laptop": ("cell phone", "right"),
    "motorcycle": ("truck", "left"),
    "pizza": ("bottle", "top right"),
    "potted plant": ("vase", "left"),
    "sandwich": ("apple", "bottom left"),
    "sheep": ("dog", "bottom left"),
    "tennis racket": ("bicycle", "top right"),
    "toilet": ("potted plant", "top left"),
    "train": ("suitcase", "bottom right"),
    "tv": ("couch", "bottom"),
    "umbrella": ("handbag", "bottom"),
    "zebra": ("giraffe", "right"),
}
USUAL_NUMBERS = {  # thing -> how many web captions say there are
    "bird": 2,
    "sheep": 3,
    "cow": 2,
    "bottle": 2,
    "wine glass": 2,
    "banana": 3,
    "apple": 2,
    "orange": 2,
    "carrot": 3,
    "donut": 2,
    "book": 3,
    "cup": 2,
}
USUAL_COLORS = {thing.name: thing.colors[0] for thing in THINGS.values() if thing.colors}
