"""A scene of three objects, as truth to compare texts with."""

import json

from scenes.truth import SceneTruth

OBJECTS = [
    {"shape": "circle", "color": "red", "size": "small", "place": "top left"},
    {"shape": "circle", "color": "red", "size": "large", "place": "center"},
    {"shape": "star", "color": "blue", "size": "small", "place": "bottom"},
]
TRUTH = SceneTruth(json.dumps({"objects": OBJECTS}))
