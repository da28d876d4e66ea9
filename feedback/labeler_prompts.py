"""The labeler's prompts: six text files that a user can read and change.

| file          | request                                    | image | must have, may have                     |
|---------------|--------------------------------------------|-------|-----------------------------------------|
| split.txt     | list the claims of this response           | no    | `{response}`; `{instruction}`           |
| resplit.txt   | this claim again, with a question, as JSON | no    | `{claim}`; `{response}` `{instruction}` |
| supported.txt | does the response say this claim           | no    | `{response}` `{claim}`; `{instruction}` |
| verify.txt    | answer the question of this claim          | yes   | `{question}`                            |
| statement.txt | is this claim true                         | yes   | `{statement}`                           |
| whole.txt     | is the response correct as a whole         | yes   | `{response}`; `{instruction}`           |

`feedback.prompts` names a folder with all files; the default, feedback/prompts, is written for general models of about
7B parameters. The embedded labeler was trained on those in assets/prompts. Placeholders are replaced in one pass: a
response that contains "{claim}" stays as it is, and a file may contain other braces, such as an example in JSON.
"""

import re
from dataclasses import dataclass, fields
from pathlib import Path

from rlaif.errors import ConfigError

_DEFAULT_FOLDER = Path(__file__).parent / "prompts"
_NEEDED = {
    "split": ("response",),
    "resplit": ("claim",),
    "supported": ("response", "claim"),
    "verify": ("question",),
    "statement": ("statement",),
    "whole": ("response",),
}


@dataclass(frozen=True)
class LabelerPrompts:
    """The prompts, with their placeholders."""

    split: str
    resplit: str
    supported: str
    verify: str
    statement: str
    whole: str

    def format_split(self, instruction: str, response: str) -> str:
        return _fill(self.split, instruction=instruction, response=response)

    def format_resplit(self, instruction: str, response: str, claim: str) -> str:
        return _fill(self.resplit, instruction=instruction, response=response, claim=claim)

    def format_supported(self, instruction: str, response: str, claim: str) -> str:
        return _fill(self.supported, instruction=instruction, response=response, claim=claim)

    def format_verify(self, question: str) -> str:
        return _fill(self.verify, question=question)

    def format_statement(self, statement: str) -> str:
        return _fill(self.statement, statement=statement)

    def format_whole(self, instruction: str, response: str) -> str:
        return _fill(self.whole, instruction=instruction, response=response)


def read_prompts(folder: str | None) -> LabelerPrompts:
    """Read the six files. Errors: ConfigError for a missing file or placeholder."""
    root = _DEFAULT_FOLDER if folder is None else Path(folder)
    return LabelerPrompts(**{name: _read(root / f"{name}.txt", needed) for name, needed in _NEEDED.items()})


def _read(path: Path, placeholders: tuple[str, ...]) -> str:
    if not path.is_file():
        names = ", ".join(f"{field.name}.txt" for field in fields(LabelerPrompts))
        raise ConfigError(
            f"feedback.prompts: {path} is missing; the folder must contain {names}, as feedback/prompts does"
        )
    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise ConfigError(f"feedback.prompts: {path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    for placeholder in placeholders:
        if f"{{{placeholder}}}" not in text:
            raise ConfigError(
                f"feedback.prompts: {path} lacks the placeholder {{{placeholder}}}; add it where the text belongs"
            )
    return text


def _fill(template: str, **values: str) -> str:
    """The template with each `{name}` replaced once: what is put in is not searched."""
    return re.sub(rf"\{{({'|'.join(values)})\}}", lambda match: values[match[1]], template)
