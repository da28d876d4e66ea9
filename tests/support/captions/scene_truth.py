"""A scene of two objects, and the truth of one of three objects to compare texts with."""

import json

from scenes.truth import SceneTruth
from scenes.world import Scene, SceneObject

OBJECTS = [
    {"shape": "circle", "color": "red", "size": "small", "place": "top left"},
    {"shape": "circle", "color": "red", "size": "large", "place": "center"},
    {"shape": "star", "color": "blue", "size": "small", "place": "bottom"},
]
TRUTH = SceneTruth(json.dumps({"objects": OBJECTS}))

SCENE = Scene(
    84,
    84,
    (255, 255, 255),
    (SceneObject("circle", "red", "large", "top left"), SceneObject("star", "blue", "small", "center")),
)
