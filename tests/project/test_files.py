"""Files and folders: small enough to read, named after what they hold, and none that catches everything."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from rlaif.storage.versions import PACKAGES
from tests.support import ROOT
from tests.support.project.source_tree import source_files, syntax_tree

MAX_LINES, MAX_FILES = 350, 12
HEAVY = {"torch", "vllm", "transformers", "trl", "peft", "datasets", "pandas"}
VAGUE = {"util", "utils", "common", "base", "helper", "helpers", "misc"}


@pytest.mark.parametrize("path", source_files(), ids=str)
def test_file_is_short_and_well_named(path: Path) -> None:
    assert path.stem not in VAGUE, f"{path}: name the file after what it holds"
    assert path.stem not in HEAVY, f"{path} shadows a library"
    text = (ROOT / path).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES, f"{path}: split it by purpose"


@pytest.mark.parametrize("path", [path for path in source_files() if path.parts[0] != "tests"], ids=str)
def test_no_bare_except_and_no_edited_module_path(path: Path) -> None:
    for node in ast.walk(syntax_tree(path)):
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), f"bare except in line {node.lineno}"
        assert not (isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path"), f"line {node.lineno}"


def test_folders_are_small() -> None:
    """At most 12 modules in a folder, beside its __init__.py."""
    folders = Counter(str(path.parent) for path in source_files() if path.name != "__init__.py")
    assert {folder: count for folder, count in folders.items() if count > MAX_FILES} == {}


def test_tests_mirror_the_packages() -> None:
    """tests/rlaif/storage tests rlaif/storage. Without a twin: whole runs, the house rules, shared code."""
    folders = {path.parent.relative_to("tests") for path in source_files() if path.parts[0] == "tests"}
    alone = {folder for folder in folders if not (ROOT / folder).is_dir()}
    assert {folder.parts[0] for folder in alone} <= {"pipeline", "project", "support"}
    assert {str(folder).partition("/")[0] for folder in folders} >= set(PACKAGES)
