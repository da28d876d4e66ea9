"""The things of the world, with names of COCO, and where they occur."""

from dataclasses import dataclass

KINDS = ("kitchen", "room", "street", "field")  # of scenes
COLORS = ("red", "orange", "yellow", "green", "blue", "purple")


@dataclass(frozen=True)
class Thing:
    """A thing with a name.

    Args:
        plural: as in "two ...".
        kinds: the kinds of scene where it usually is.
        max_number: how many of it may be at one place, 1 to 3.
        colors: the colors that it comes in, the usual one first; empty: one color, which is not spoken of.
        support: light things may be on it.
        light: it may be on a support.
    """

    name: str
    plural: str
    kinds: tuple[str, ...]
    max_number: int = 1
    colors: tuple[str, ...] = ()
    support: bool = False
    light: bool = False


def _things() -> dict[str, Thing]:
    indoor = ("kitchen", "room")
    outdoor = ("street", "field")
    things = (
        Thing("airplane", "airplanes", ("field",)),
        Thing("apple", "apples", ("kitchen",), 3, colors=("red", "green"), light=True),
        Thing("backpack", "backpacks", ("room", "street"), colors=("red", "green", "blue", "purple"), light=True),
        Thing("banana", "bananas", ("kitchen",), 3, light=True),
        Thing("bear", "bears", ("field",)),
        Thing("bicycle", "bicycles", outdoor),
        Thing("bird", "birds", outdoor, 3, colors=("blue", "red", "yellow", "green"), light=True),
        Thing("boat", "boats", ("field",)),
        Thing("book", "books", ("room",), 3, colors=("red", "green", "blue", "purple"), light=True),
        Thing("bottle", "bottles", ("kitchen",), 2, light=True),
        Thing("bowl", "bowls", ("kitchen",), light=True),
        Thing("bus", "buses", ("street",)),
        Thing("cake", "cakes", ("kitchen",), light=True),
        Thing("car", "cars", ("street",), 2, colors=("red", "yellow", "green", "blue")),
        Thing("carrot", "carrots", ("kitchen",), 3, light=True),
        Thing("cat", "cats", ("room", "street"), 2, light=True),
        Thing("cell phone", "cell phones", ("room",), light=True),
        Thing("chair", "chairs", indoor, colors=("orange", "red", "blue", "green"), support=True),
        Thing("clock", "clocks", indoor, colors=("red", "blue", "green", "yellow"), light=True),
        Thing("couch", "couches", ("room",), colors=("blue", "red", "green", "purple"), support=True),
        Thing("cow", "cows", ("field",), 3),
        Thing("cup", "cups", indoor, 2, light=True),
        Thing("dog", "dogs", ("room", "street", "field"), 2, light=True),
        Thing("donut", "donuts", ("kitchen", "street"), 3, light=True),
        Thing("elephant", "elephants", ("field",)),
        Thing("giraffe", "giraffes", ("field",)),
        Thing("handbag", "handbags", ("room", "street"), colors=("orange", "red", "blue", "green"), light=True),
        Thing("horse", "horses", ("field",), 2),
        Thing("hot dog", "hot dogs", ("kitchen", "street"), 2, light=True),
        Thing("keyboard", "keyboards", ("room",), light=True),
        Thing("kite", "kites", ("field",)),
        Thing("knife", "knives", ("kitchen",), light=True),
        Thing("laptop", "laptops", ("room",), light=True),
        Thing("motorcycle", "motorcycles", ("street",)),
        Thing("orange", "oranges", ("kitchen",), 3, light=True),
        Thing("pizza", "pizzas", ("kitchen",), light=True),
        Thing("potted plant", "potted plants", indoor, light=True),
        Thing("sandwich", "sandwiches", ("kitchen",), 2, light=True),
        Thing("sheep", "sheep", ("field",), 3),
        Thing("sports ball", "sports balls", ("field", "room"), 2, light=True),
        Thing("stop sign", "stop signs", ("street",)),
        Thing("suitcase", "suitcases", ("room", "street"), colors=("blue", "red", "green", "orange"), support=True),
        Thing("tennis racket", "tennis rackets", ("field",), light=True),
        Thing("toilet", "toilets", ("room",)),
        Thing("traffic light", "traffic lights", ("street",)),
        Thing("train", "trains", outdoor),
        Thing("truck", "trucks", ("street",)),
        Thing("tv", "tvs", ("room",)),
        Thing("umbrella", "umbrellas", outdoor, colors=("purple", "red", "yellow", "green")),
        Thing("vase", "vases", indoor, colors=("orange", "blue", "green", "purple"), light=True),
        Thing("wine glass", "wine glasses", ("kitchen",), 2, light=True),
        Thing("zebra", "zebras", ("field",), 2),
    )
    return {thing.name: thing for thing in things}


THINGS = _things()
