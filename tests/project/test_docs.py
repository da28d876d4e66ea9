"""What the pages say exists: commands, configuration keys, files, functions, links. Figures come from result files."""

import ast
import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from rlaif.config import AblationsConfig, Config, EncoderConfig, RewriteConfig, Section, TrainingConfig
from rlaif.config.load import load_config_of
from rlaif.storage.schemas import SCHEMAS
from rlaif.storage.versions import PACKAGES
from tests.support import ROOT

README, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
PAGES = [README, CHINESE, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TRAINING = {  # target -> its configuration
    "pretrain": "configs/training/pretrain-1.yaml",
    "sft": "configs/training/sft-1.yaml",
    "rewriter": "configs/training/rewriter.yaml",
    "language-model": "configs/training/language-2.yaml",
}
KINDS: dict[str, type[Section]] = {"rewrite-captions": RewriteConfig, "ablations": AblationsConfig}
KINDS |= dict.fromkeys(TRAINING, TrainingConfig) | {"encoder": EncoderConfig}
DEFAULT_CONFIGS = {
    "encoder": "configs/training/encoder.yaml",
    "rounds": "configs/rounds.yaml",
    "ablations": "configs/ablations.yaml",
    "rewrite-captions": "configs/rewrite.yaml",
    **TRAINING,
}
RENDERED = re.compile(r"<!-- (results|figure): ([\w -]+) -->.*?<!-- /\1 -->", re.DOTALL)  # see bench.figures
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^(#{1,6}) +(.+)$", re.MULTILINE)
# Folders and files that a run or a reader makes, or that a benchmark brings.
NOT_HERE = re.compile(
    r"RUN/|runs/|\.venv/|\.edge/|my-|site/|policy/|adapter/|images/|data/|dpo/|round-|benchmarks/|configs/mine|average-"
)


def by_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """A page without its code blocks and rendered figures."""
    return RENDERED.sub("", FENCE.sub("", text_of(page)))


def spans(page: Path) -> list[str]:
    """The code spans of a page."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def commands(page: Path) -> list[list[str]]:
    """Every command of a page, split into words; comments and continuation lines are resolved."""
    lines = [
        line
        for language, block in FENCE.findall(text_of(page))
        if language in ("", "bash", "sh")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    found = [shlex.split(line, comments=True) for line in lines if re.match(r"(make|mkdir|\.venv/|python) ?", line)]
    return found + [shlex.split(span) for span in spans(page) if span.startswith(("make ", "python -m "))]


@cache
def makefile() -> tuple[set[str], set[str]]:
    """The targets and the settings."""
    text = text_of(ROOT / "Makefile")
    return set(re.findall(r"^([a-z-]+):", text, re.MULTILINE)), set(re.findall(r"^([A-Z_]+) \?=", text, re.MULTILINE))


def make_commands(page: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Targets and settings of each `make` of a page."""
    for words in commands(page):
        if words[0] == "make":
            yield (
                [word for word in words[1:] if "=" not in word],
                dict(word.split("=", 1) for word in words[1:] if "=" in word),
            )


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_commands_exist(page: Path) -> None:
    targets, settings = makefile()
    for words in commands(page):
        assert not {"<", ">"} & set("".join(words)), words
        if words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2]), words
    for named, given in make_commands(page):
        assert named and set(named) <= targets, named
        assert given.keys() <= settings, given


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_configurations_and_changes_of_commands_load(page: Path) -> None:
    for named, given in make_commands(page):
        config = ROOT / given.get("CONFIG", DEFAULT_CONFIGS.get(named[0], "configs/demo.yaml"))
        assert config.is_file(), config
        changes = shlex.split(given.get("SET", ""))
        of_training = named[0] == "plan" and config.parent.name == "training"
        load_config_of(TrainingConfig if of_training else KINDS.get(named[0], Config), config, changes)


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, if it holds one."""
    kinds = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
    return next((kind for kind in kinds if issubclass(kind, BaseModel)), None)


def is_key(name: str, root: type[BaseModel] = Config) -> bool:
    """Whether a dotted name is a key of the configuration; below `dpo.trainer` anything passes (see the next test)."""
    section: type[BaseModel] | None = root
    for depth, part in enumerate(parts := name.split(".")):
        if section is None:
            return parts[:2] == ["dpo", "trainer"] and depth == 2
        if part not in section.model_fields:
            return False
        section = section_of(section.model_fields[part].annotation)
    return True


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_configuration_keys_exist(page: Path) -> None:
    metrics = {"feedback.weak_verdict_share", "feedback.coverage"}  # sections of metrics.json of the same name
    sections = {name for root in (Config, RewriteConfig) for name in root.model_fields}
    for span in spans(page):
        for name in re.findall(r"^([a-z_]+(?:\.[a-z_]+)+)(?:=|:|$)", span):
            if name.split(".")[0] in sections and not (ROOT / name).exists() and name not in metrics:
                assert is_key(name) or is_key(name, RewriteConfig), name


@pytest.mark.slow  # imports TRL
def test_keys_of_the_trainer_are_those_of_trl() -> None:
    from trl import DPOConfig

    named = {key for page in PAGES for key in re.findall(r"dpo\.trainer\.([a-z_0-9]+)", text_of(page))}
    assert "loss_type" in named
    assert named <= DPOConfig.__dataclass_fields__.keys()


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_files_folders_and_functions_exist(page: Path) -> None:
    missing = []
    for span in spans(page):
        match = re.fullmatch(r"([\w.-]+(?:/[\w.-]+)*/?)(?:::([\w.]+))?", span)
        if match is None or "/" not in match[1] or NOT_HERE.match(match[1]):
            continue
        path = ROOT / match[1]
        is_path = match[1].endswith("/") or re.search(r"\.(py|yaml|txt|md|ipynb|json|toml|svg)$", match[1])
        if (is_path and not path.exists()) or (match[2] and match[2] not in definitions(path)):
            missing.append(span)
    assert not missing


@cache
def definitions(path: Path) -> set[str]:
    """The functions and classes of a file, methods as Class.method; nothing of a file that does not exist."""
    if not path.is_file():
        return set()
    found = set()
    for node in ast.parse(text_of(path)).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{item.name}" for item in node.body if isinstance(item, ast.FunctionDef)}
    return found


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_tables_exist(page: Path) -> None:
    others = {"train", "questions"}  # exports; an example of a reader's table
    for name in re.findall(r"`(?:RUN/)?([\w-]+)\.parquet`", prose(page)):
        assert name in SCHEMAS.keys() | others, name


@cache
def literals() -> str:
    """Every string of the packages, f-strings by their constant parts, one a line; and the Makefile."""
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    nodes = (node for file in files for node in ast.walk(ast.parse(text_of(file))))
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return "\n".join([*(" ".join(text.split()) for text in texts), text_of(ROOT / "Makefile")])


def test_messages_that_are_explained_exist() -> None:
    """Bold quotations of the page on troubleshooting; `...` stands for what a message fills in."""
    quoted = re.findall(r'\*\*"([^"]+)"', prose(ROOT / "docs" / "troubleshooting.md"))
    parts = {part.strip() for quotation in quoted for part in quotation.split("...") if part.strip()}
    assert len(parts) > 5
    assert {part for part in parts if part not in literals()} == set()


def test_reasons_that_are_explained_exist() -> None:
    """The first column of tables of reasons."""
    found = set()
    for name in ("your-images.md", "labelers.md"):
        for table in re.findall(r"^\| reason .*\n((?:\|.*\n)+)", prose(ROOT / "docs" / name), re.MULTILINE):
            found |= {reason for row in table.splitlines() for reason in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert len(found) > 20
    assert found - set(literals().splitlines()) == set()


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as mkdocs and GitHub make them."""
    titles = [re.sub(r"[`*]", "", title).strip().lower() for _, title in HEADING.findall(prose(page))]
    return {re.sub(r"[^\w\s-]", "", title).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists() and target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_readme_is_short() -> None:
    text = text_of(README)
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1300


def test_the_readme_names_the_cost_of_the_demo() -> None:
    """The header of configs/demo.yaml has it."""
    header = text_of(ROOT / "configs" / "demo.yaml").partition("\n\n")[0]
    minutes, memory = re.search(r"([\d.]+) minutes", header), re.search(r"(\d+) GB", header)
    assert minutes and memory
    for page, unit in ((README, "minutes"), (CHINESE, "分钟")):
        first_block = FENCE.findall(text_of(page))[0][1]
        assert f" {round(float(minutes[1]) + 0.49)} {unit}" in first_block
        assert f"{memory[1]} GB" in first_block


def test_the_chinese_readme_is_in_step() -> None:
    def shape(page: Path) -> dict[str, Any]:
        links = [link for link in LINK.findall(prose(page)) if not link.startswith("README")]
        return {
            "headings": [len(level) for level, _ in HEADING.findall(prose(page))],
            "commands": commands(page),
            "links": links,
            "figures": [name for _, name in RENDERED.findall(text_of(page))],
            "table rows": len(re.findall(r"^\|", prose(page), re.MULTILINE)),
        }

    assert shape(CHINESE) == shape(README)


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_no_figure_is_typed(page: Path) -> None:
    """Percentages stand between the markers of a result; 95% is the level of an interval, 0% and 100% are limits."""
    text = prose(page)
    assert "<!-- " not in text, "a marker without its end"
    if page.name != "configuration.md":
        assert set(re.findall(r"(\d+(?:\.\d+)?)%", text)) <= {"95", "0", "100"}


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_no_line_is_long(page: Path) -> None:
    """A line of prose is one sentence, or at most 120 characters."""
    for line in prose(page).splitlines():
        if len(line) > 120 and not line.startswith(("|", "!", "#")):
            assert not re.search(r"[.!?] (?=[A-Z*`])", re.sub(r"^\s*(?:-|\d+\.) ", "", line)), line


def test_every_page_is_in_the_navigation() -> None:
    config = yaml.safe_load(text_of(ROOT / "mkdocs.yml"))
    listed = set(re.findall(r"[\w-]+\.md", str(config["nav"])))
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")}
    assert config["strict"] and config["theme"]["font"] is False


def test_hooks_run_what_is_here() -> None:
    (repository,) = yaml.safe_load(text_of(ROOT / ".pre-commit-config.yaml"))["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        program, *rest = hook["entry"].split()
        assert hook["language"] == "system"
        assert program.startswith(".venv/bin/") or (program == "make" and set(rest) <= makefile()[0])


def test_the_papers_and_the_license_are_named() -> None:
    citation = yaml.safe_load(text_of(ROOT / "CITATION.cff"))
    assert {item["url"] for item in citation["references"]} == {
        "https://arxiv.org/abs/2405.17220",
        "https://arxiv.org/abs/2408.01800",
    }
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    assert citation["license"] == project["license"] == "Apache-2.0"
    assert citation["version"] == project["version"]
    assert "Apache License" in text_of(ROOT / "LICENSE")


def test_every_package_says_that_it_is_typed() -> None:
    assert all((ROOT / package / "py.typed").is_file() for package in PACKAGES)
