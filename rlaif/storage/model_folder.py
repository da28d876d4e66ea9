"""What a saved model needs so that any other program can use it, beside its configuration and weights.

- **Remote code.** A released checkpoint names classes in its own `.py` files (`auto_map`), which other programs load
  with `trust_remote_code`. The files are copied along, never executed; where they cannot be had, `auto_map` is removed.
- **Tokenizer.** The files of the start model stay as they are, except for special tokens that are text
  (`model.processing`): transformers 5 writes them in a way that version 4 cannot read, `tokenizer.json` in one that
  versions before 4.45 cannot, such as the one that the release names. Beside a class of remote code
  stands `"trust_remote_code": true`: see `READ_WHOLE`.
- **End of turns.** The released 2.5 ends turns with a token that its generation_config.json does not name, so that
  servers would not stop there.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlaif.config import ModelSection
from rlaif.storage.files import read_json, write_json

TOKENIZER, ROLES, VOCABULARY = "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json"
GENERATION, PREPROCESSOR = "generation_config.json", "preprocessor_config.json"
# transformers 5 takes from tokenizer.json the vocabulary alone, not how text is cut and joined, where a class of remote
# code has an `__init__`, as the released one has: text becomes other tokens, without an error. This key in
# tokenizer_config.json lets it read the file whole (`TokenizersBackend.convert_to_native_format`, 5.19.0). It permits
# nothing: remote code runs only where the program that loads the model says so. Version 4 ignores it.
READ_WHOLE = {"trust_remote_code": True}
CONFIGS = ("config.json", TOKENIZER, PREPROCESSOR, "processor_config.json")


def complete_model(folder: Path, start: ModelSection, tokenizer: Any, end_of_turn: int | None) -> None:
    """Complete a model of transformers that was saved to `folder`; started from `start`.

    end_of_turn: the token that ends an answer of MiniCPM-V; None: of another model, whose tokenizer stays as saved.
    Prints a line where remote code cannot be had.
    """
    source = start_files(start)
    if end_of_turn is not None:
        keep_tokenizer_files(folder, source, tokenizer)
        end_turns(folder / GENERATION, end_of_turn)
        if names_code(folder / PREPROCESSOR):  # as released; transformers would read the other, which names no code
            (folder / "processor_config.json").unlink(missing_ok=True)
    keep_remote_code(folder, source, start.model)


def start_files(start: ModelSection) -> Path:
    """The folder of the start model; of a hub id that of its small files, downloaded if they are not cached."""
    if Path(start.model).is_dir():
        return Path(start.model)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(start.model, revision=start.revision, allow_patterns=["*.json", "*.py"]))


def keep_tokenizer_files(folder: Path, source: Path, tokenizer: Any) -> None:
    """Write the start model's files again, with what the tokenizer declares special and pads with."""
    special = {token.content: token.special for token in tokenizer.added_tokens_decoder.values()}
    if (source / TOKENIZER).is_file():
        settings = read_json(source / TOKENIZER)
        for added in settings.get("added_tokens_decoder", {}).values():
            added["special"] = special.get(added["content"], added["special"])
        if "auto_map" in settings:
            settings |= READ_WHOLE
        write_json(folder / TOKENIZER, with_padding(settings, tokenizer.pad_token))
    if (source / VOCABULARY).is_file():
        vocabulary = read_json(source / VOCABULARY)
        for added in vocabulary["added_tokens"]:
            added["special"] = special.get(added["content"], added["special"])
        write_json(folder / VOCABULARY, vocabulary)
    if (source / ROLES).is_file():
        write_json(folder / ROLES, with_padding(read_json(source / ROLES), tokenizer.pad_token))


def with_padding(settings: dict[str, Any], pad_token: str | None) -> dict[str, Any]:
    given = settings.get("pad_token")
    return settings | {"pad_token": {**given, "content": pad_token} if isinstance(given, dict) else pad_token}


def end_turns(file: Path, end_of_turn: int) -> None:
    """Name the token that ends a turn among the end tokens of a generation_config.json."""
    settings = read_json(file) if file.is_file() else {}
    ends = settings.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if end_of_turn not in ends:
        settings.pop("_from_model_config", None)  # transformers would take the end token of config.json
        write_json(file, settings | {"eos_token_id": [*ends, end_of_turn]})


def keep_remote_code(folder: Path, source: Path, name: str) -> None:
    """Copy the `.py` files of the start model that `auto_map` names, and those beside them; without them, remove
    `auto_map`. Classes in the repository of another model stay as they are named.
    """
    configs = {path: read_json(path) for path in (folder / file for file in CONFIGS) if path.is_file()}
    own = f"{name}--"  # transformers writes it before a class of a hub repository
    references = {text.removeprefix(own) for config in configs.values() for text in class_references(config)}
    modules = {reference.partition(".")[0] for reference in references if "--" not in reference}
    missing = sorted(module for module in modules if not (source / f"{module}.py").is_file())
    if missing:
        print(
            f"{name} names remote code, but has no {missing[0]}.py: auto_map is left out of the saved model, which "
            "other programs then load without remote code"
        )
    elif modules:
        for file in source.glob("*.py"):
            shutil.copyfile(file, folder / file.name)
    for path, config in configs.items():
        changed = without_code(config) if missing else own_names(config, own)
        if changed != config:
            write_json(path, changed)


def names_code(file: Path) -> bool:
    return file.is_file() and "auto_map" in read_json(file)


def class_references(config: Any) -> Iterator[str]:
    """The classes that the auto_map of a configuration names: one for each kind, or a list, or one list for all."""
    named = config.get("auto_map", {})
    for reference in named if isinstance(named, list) else named.values():
        yield from filter(None, reference if isinstance(reference, list) else [reference])


def without_code(config: Any) -> Any:
    """The configuration without auto_map, also in that of an image processor within it."""
    if not isinstance(config, dict):
        return config
    return {key: without_code(value) for key, value in config.items() if key not in ("auto_map", *READ_WHOLE)}


def own_names(config: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The configuration with classes named without the repository that they are copied from."""

    def name(reference: Any) -> Any:
        if isinstance(reference, dict):
            return {kind: name(item) for kind, item in reference.items()}
        if isinstance(reference, list):
            return [name(item) for item in reference]
        return reference and reference.removeprefix(prefix)

    return config | {"auto_map": name(config["auto_map"])} if "auto_map" in config else config
