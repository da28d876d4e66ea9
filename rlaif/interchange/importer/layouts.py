"""The layouts in which preference pairs and responses are published, told apart by their columns.

| layout        | columns                                                      | used by                           |
|---------------|--------------------------------------------------------------|-----------------------------------|
| rlaif-v       | image, question, chosen, rejected                            | openbmb/RLAIF-V-Dataset           |
| messages      | images, prompt, chosen, rejected: messages of texts or parts | HuggingFaceH4/rlaif-v_formatted,  |
|               |                                                              | TRL, `pairs.parquet`              |
| conversations | images, conversations or messages, chosen, rejected: turns   | llamafactory/RLHF-V, LLaMA-       |
|               |                                                              | Factory, Zhihui/VLFeedback        |
| mm-rlhf       | image or video, prompt, chosen, rejected                     | MM-RLHF `dpo_pairs.jsonl`         |
| mmpr          | image (paths), question, chosen, rejected                    | MMPR, whose meta.json names files |
| rlhf-v        | image, text: JSON with question, chosen, rejected            | openbmb/RLHF-V-Dataset            |
| ms-swift      | images, messages, rejected_response                          | ms-swift                          |
| responses     | image, question, response or responses; policy if known      | responses of any model            |

A reader turns a row into a `Sample`, or raises UnusableRowError with the reason why the row is dropped.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from rlaif.errors import InputError
from rlaif.interchange.importer.sample import (
    Row,
    Sample,
    UnusableRowError,
    answer,
    as_text,
    instruction,
    only_question,
    question_and_answer,
    sample,
)
from rlaif.records.conversation import is_conversation, is_turn
from rlaif.records.record import Value


def _is_image(cell: Value) -> bool:
    return isinstance(cell, list | str | bytes) or (isinstance(cell, dict) and bool({"bytes", "path"} & cell.keys()))


def _is_path(cell: Value) -> bool:
    return isinstance(cell, str) or (isinstance(cell, list) and all(isinstance(item, str) for item in cell))


def _is_json_pair(cell: Value) -> bool:
    return _json_pair(cell) is not None


KINDS: dict[str, Callable[[Value], bool]] = {
    "text": lambda cell: isinstance(cell, str | bytes),
    "text or list of texts": lambda cell: all(
        isinstance(item, str | bytes) for item in (cell if isinstance(cell, list) else [cell])
    ),
    "image": _is_image,
    "path": _is_path,
    "turns": is_conversation,
    "turn": lambda cell: is_turn(cell) or (is_conversation(cell) and len(cell) == 1),
    "JSON of question, chosen and rejected": _is_json_pair,
}


@dataclass(frozen=True)
class Layout:
    """A layout. columns: names, of which a table needs one, -> the kind of their cells. has_pairs: or responses."""

    name: str
    columns: Mapping[tuple[str, ...], str]
    read: Callable[[Row], Sample]
    has_pairs: bool = True

    def faults(self, examples: Mapping[str, Value], text_only: bool = False) -> list[str]:
        """What a table lacks for this layout. examples: a cell of each of its columns, None where all are null.

        text_only: it may lack the image.
        """
        faults = []
        for names, kind in self.columns.items():
            if text_only and kind in ("image", "path") and not {*names} & examples.keys():
                continue
            present = [name for name in names if name in examples]
            if not present:
                faults.append(f"{' or '.join(names)} ({kind})")
            elif all(examples[name] is not None and not KINDS[kind](examples[name]) for name in present):
                faults.append(f"{present[0]} as {kind}, not {_kind_of(examples[present[0]])}")
        return faults


def recognize(
    title: str, rows: Iterable[Row], columns: Iterable[str], forced: str | None, text_only: bool = False
) -> Layout:
    """The layout of a table: that of most of its first rows. forced: the name of a layout, which one of them must fit.

    text_only: the table may have no column with images.
    Errors: InputError with the columns that were found, the known layouts, and what the nearest one lacks.
    """
    examples = [{**dict.fromkeys(columns), **row} for row in rows]
    merged: dict[str, Value] = dict.fromkeys(columns)  # the first cell of each column that is not null
    for row in examples:
        merged.update({name: cell for name, cell in row.items() if merged.get(name) is None})
    filled = [sum(cell is not None for cell in row.values()) for row in examples]
    fitting: Counter[str] = Counter()  # layout -> how many of the rows with the most cells fit it
    for row, count in zip(examples, filled, strict=True):
        if count == max(filled):
            fits = [layout.name for layout in LAYOUTS if not layout.faults(row, text_only)]
            fitting.update(fits if forced is not None else fits[:1])
    faults = {layout.name: layout.faults(merged, text_only) for layout in LAYOUTS}
    if not fitting:  # no row has every cell
        fitting.update([name for name, lacking in faults.items() if not lacking])
    found = f"{title} has the columns {', '.join(merged) or '(none)'}"
    if forced is not None:
        if faults[forced] and not fitting[forced]:
            raise InputError(
                f"{found}; layout {forced} also needs {', '.join(faults[forced])}; rename the columns, or correct "
                "LAYOUT= (data.layout)"
            )
        return next(layout for layout in LAYOUTS if layout.name == forced)
    if fitting:
        best = max(fitting.values())
        return next(layout for layout in LAYOUTS if fitting[layout.name] == best)
    nearest = min(LAYOUTS, key=lambda layout: len(faults[layout.name]) / len(layout.columns))
    raise InputError(
        f"{found}, which fit none of the layouts {', '.join(layout.name for layout in LAYOUTS)}; the nearest, "
        f"{nearest.name}, also needs {', '.join(faults[nearest.name])}; rename the columns, or give another DATA="
    )


def _kind_of(cell: Value) -> str:
    if isinstance(cell, dict):
        return f"an object with {', '.join(cell)}"
    return "text" if isinstance(cell, str) else "a list" if isinstance(cell, list) else type(cell).__name__


def _image_of(row: Row) -> Value:
    return row.get("images") or row.get("image")


def _read_question(row: Row) -> Sample:
    return sample(_image_of(row), instruction(row.get("question")), _both(row))


def _read_prompt(row: Row) -> Sample:
    if row.get("video"):
        raise UnusableRowError("video", f"the row is about the video {row['video']!s}")
    return sample(_image_of(row), instruction(row.get("prompt")), _both(row))


def _read_messages(row: Row) -> Sample:
    return sample(_image_of(row), only_question(row.get("prompt")), _both(row))


def _read_conversations(row: Row) -> Sample:
    return sample(_image_of(row), only_question(row.get("conversations") or row.get("messages")), _both(row))


def _read_swift(row: Row) -> Sample:
    question, chosen = question_and_answer(row.get("messages"))
    return sample(_image_of(row), question, (chosen, answer(row.get("rejected_response"))))


def _read_json_text(row: Row) -> Sample:
    pair = _json_pair(row.get("text"))
    if pair is None:
        raise UnusableRowError("unfit_row", "text is not JSON with question, chosen and rejected")
    return sample(_image_of(row), instruction(pair["question"]), _both(pair))


def _read_responses(row: Row) -> Sample:
    texts = row.get("response") if row.get("responses") is None else row["responses"]
    texts = texts if isinstance(texts, list) else [texts]
    policy = as_text(row.get("policy") or row.get("model"), "policy")
    question = next((row[name] for name in QUESTION if row.get(name) is not None), None)
    return sample(_image_of(row), instruction(question), [answer(text) for text in texts], policy or None)


def _both(row: Row) -> tuple[str, str]:
    return answer(row.get("chosen")), answer(row.get("rejected"))


def _json_pair(cell: Value) -> dict[str, Value] | None:
    """The object in a text, or the cell itself, if it has question, chosen and rejected."""
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except ValueError:
            return None
    return cell if isinstance(cell, dict) and {"question", "chosen", "rejected"} <= cell.keys() else None


QUESTION = ("question", "instruction", "prompt")
IMAGE = ("images", "image")
LAYOUTS = (  # in this order: a table whose images are paths fits `mmpr` before `rlaif-v`
    Layout(
        "messages", {IMAGE: "image", ("prompt",): "turns", ("chosen",): "turn", ("rejected",): "turn"}, _read_messages
    ),
    Layout(
        "conversations",
        {IMAGE: "image", ("conversations", "messages"): "turns", ("chosen",): "turn", ("rejected",): "turn"},
        _read_conversations,
    ),
    Layout("ms-swift", {IMAGE: "image", ("messages",): "turns", ("rejected_response",): "text"}, _read_swift),
    Layout(
        "mmpr", {("image",): "path", ("question",): "text", ("chosen",): "text", ("rejected",): "text"}, _read_question
    ),
    Layout(
        "rlaif-v", {IMAGE: "image", ("question",): "text", ("chosen",): "text", ("rejected",): "text"}, _read_question
    ),
    Layout(
        "mm-rlhf",
        {("image", "images", "video"): "image", ("prompt",): "text", ("chosen",): "text", ("rejected",): "text"},
        _read_prompt,
    ),
    Layout("rlhf-v", {IMAGE: "image", ("text",): "JSON of question, chosen and rejected"}, _read_json_text),
    Layout(
        "responses",
        {IMAGE: "image", QUESTION: "text", ("responses", "response"): "text or list of texts"},
        _read_responses,
        has_pairs=False,
    ),
)
COLUMNS = {name for layout in LAYOUTS for names in layout.columns for name in names} | {"video", "policy", "model"}
