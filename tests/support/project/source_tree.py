"""The source of the project as a graph: modules, what they import, and the module names in their strings."""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path

from rlaif.storage.versions import PACKAGES
from tests.support import ROOT

ALL_PACKAGES = (*PACKAGES, "bench", "tests")
DOTTED_NAME = re.compile(rf"(?<![\w./-])(?:{'|'.join(ALL_PACKAGES)})(?:\.[A-Za-z_]\w*)+")
MODULE_ARGUMENT = re.compile(r"-m ([a-z_]+(?:\.[a-z_0-9]+)*)")


@cache
def source_files() -> tuple[Path, ...]:
    """Every Python file of the packages, the bench and the tests, relative to the root."""
    return tuple(sorted(path.relative_to(ROOT) for name in ALL_PACKAGES for path in (ROOT / name).rglob("*.py")))


def module_name(path: Path) -> str:
    """rlaif/storage/run.py -> rlaif.storage.run; a package's __init__.py has the name of the package."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    """Module name -> file."""
    return {module_name(path): path for path in source_files()}


@cache
def syntax_tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def imports(path: Path) -> set[str]:
    """The project's modules that a file imports, anywhere in it: within functions and for type checking too."""
    names: set[str] = set()
    for node in ast.walk(syntax_tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; imports are absolute here"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            found = submodules & modules().keys()
            names |= found | ({node.module or ""} if found != submodules else set())
    return names & modules().keys()


def other_imports(path: Path) -> set[str]:
    """The top-level packages that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(syntax_tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Line and value of each string of a file that is not a docstring."""
    tree = syntax_tree(path)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def modules_run_by_name(path: Path) -> set[str]:
    """The project's modules named in a file's strings: a whole string with a dot in it, what follows `-m` in a string
    or in a list of arguments, and what stands in a tuple called STAGES.
    """
    names: set[str] = set()
    for _, text in strings(path):
        names |= {*MODULE_ARGUMENT.findall(text), *([text] if "." in text else [])}
    for node in ast.walk(syntax_tree(path)):
        if isinstance(node, ast.List | ast.Tuple):
            values = [item.value if isinstance(item, ast.Constant) else None for item in node.elts]
            names |= {name for option, name in pairwise(values) if option == "-m" and isinstance(name, str)}
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "STAGES":
            names |= {str(item.value) for item in ast.walk(node.value) if isinstance(item, ast.Constant)}
    return names & modules().keys()


def top_level_names(path: Path) -> set[str]:
    """The names that a module defines or imports at its top level."""
    names: set[str] = set()
    for node in syntax_tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or begins with a module and a name that the module defines."""
    parts = name.split(".")
    if name in modules():
        return True
    for length in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:length])
        if module in modules():
            return parts[length] in top_level_names(modules()[module])
    return False


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of nodes that reach each other (strongly connected components of more than one node), sorted."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        reached: set[str] = set()
        todo = [start]
        while todo:
            new = graph.get(todo.pop(), set()) - reached
            reached |= new
            todo += new
        reach[start] = reached
    groups = {
        tuple(sorted(other for other in reach[node] if node in reach.get(other, ())))
        for node in graph
        if node in reach[node]
    }
    return [list(group) for group in sorted(groups) if len(group) > 1]
