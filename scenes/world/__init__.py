"""The embedded world: pictures of real things on drawn backgrounds, whose truth is known."""

from scenes.world.scene import (
    CANVASES,
    LARGE,
    MAX_OBJECTS,
    PLACES,
    SIZES,
    SMALL,
    Scene,
    SceneObject,
    above,
    hidden_by,
    places_beside,
    relation_of,
    relations,
    render,
    render_png,
    sample_scene,
)

__all__ = [
    "CANVASES",
    "LARGE",
    "MAX_OBJECTS",
    "PLACES",
    "SIZES",
    "SMALL",
    "Scene",
    "SceneObject",
    "above",
    "hidden_by",
    "places_beside",
    "relation_of",
    "relations",
    "render",
    "render_png",
    "sample_scene",
]
