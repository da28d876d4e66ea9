"""The requests put to the labeler: three text files that a user can read and change.

| file       | asks                                          | placeholder   | image |
|------------|-----------------------------------------------|---------------|-------|
| split.txt  | which claims does this response make          | `{response}`  | no    |
| verify.txt | is this claim's question answered with yes    | `{question}`  | yes   |
| whole.txt  | is this response right as a whole (baseline)  | `{response}`  | yes   |

`feedback.prompts` names a folder with all three; without it the ones in feedback/prompts are used. A placeholder is
replaced as plain text, so braces of other kinds (an example in JSON) may stand in a file.
"""

from dataclasses import dataclass
from pathlib import Path

from rlaif.errors import ConfigError

_DEFAULT_FOLDER = Path(__file__).parent / "prompts"
_PLACEHOLDERS = {"split": "{response}", "verify": "{question}", "whole": "{response}"}


@dataclass(frozen=True)
class LabelerPrompts:
    """The three requests, with their placeholders still in."""

    split: str
    verify: str
    whole: str

    def ask_split(self, response: str) -> str:
        return self.split.replace("{response}", response)

    def ask_verify(self, question: str) -> str:
        return self.verify.replace("{question}", question)

    def ask_whole(self, response: str) -> str:
        return self.whole.replace("{response}", response)


def read_prompts(folder: str | None) -> LabelerPrompts:
    """Reads split.txt, verify.txt and whole.txt; ConfigError where a file or its placeholder is missing."""
    root = _DEFAULT_FOLDER if folder is None else Path(folder)
    return LabelerPrompts(
        **{name: _read(root / f"{name}.txt", placeholder) for name, placeholder in _PLACEHOLDERS.items()}
    )


def _read(path: Path, placeholder: str) -> str:
    if not path.is_file():
        names = ", ".join(f"{name}.txt" for name in _PLACEHOLDERS)
        raise ConfigError(f"feedback.prompts: no file {path}; the folder must hold {names}, as feedback/prompts does")
    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise ConfigError(f"feedback.prompts: {path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    if placeholder not in text:
        raise ConfigError(f"feedback.prompts: {path} lacks the placeholder {placeholder}; put it where the text goes")
    return text
