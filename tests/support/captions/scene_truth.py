"""A scene of two things, and the truth of one with three things and a sign to compare texts with."""

import json
from typing import Any

from scenes.truth import SceneTruth
from scenes.world import Scene, SceneObject


def thing(
    name: str, place: str, *, number: int = 1, color: str | None = None, size: str | None = None
) -> dict[str, Any]:
    """An entry of `objects`."""
    return {"name": name, "number": number, "color": color, "size": size, "place": place}


def reference_of(*objects: dict[str, Any], sign: dict[str, str] | None = None) -> str:
    """The column `reference` of a room with these things."""
    return json.dumps({"kind": "room", "objects": objects, "sign": sign, "width": 84, "height": 84})


REFERENCE = reference_of(  # the cat is on the couch, and the apples are next to it
    thing("cat", "top", size="large"),
    thing("apple", "left", number=2, color="red"),
    thing("couch", "center", color="blue", size="small"),
    sign={"text": "STOP", "place": "bottom"},
)
TRUTH = SceneTruth(REFERENCE)

SCENE = Scene(
    84,
    84,
    "room",
    (SceneObject("cat", 1, None, "large", "top left"), SceneObject("apple", 2, "red", None, "center")),
)
