"""The labeler's prompts: three text files that a user can read and change.

| file       | request                                        | placeholder   | image |
|------------|------------------------------------------------|---------------|-------|
| split.txt  | list the claims of this response               | `{response}`  | no    |
| verify.txt | answer the question of this claim              | `{question}`  | yes   |
| whole.txt  | is this response correct as a whole (baseline) | `{response}`  | yes   |

`feedback.prompts` names a folder with all three files; the default is feedback/prompts. A placeholder is replaced as
plain text, so a file may contain other braces, such as an example in JSON.
"""

from dataclasses import dataclass
from pathlib import Path

from rlaif.errors import ConfigError

_DEFAULT_FOLDER = Path(__file__).parent / "prompts"
_PLACEHOLDERS = {"split": "{response}", "verify": "{question}", "whole": "{response}"}


@dataclass(frozen=True)
class LabelerPrompts:
    """The three prompts, with their placeholders."""

    split: str
    verify: str
    whole: str

    def format_split(self, response: str) -> str:
        return self.split.replace("{response}", response)

    def format_verify(self, question: str) -> str:
        return self.verify.replace("{question}", question)

    def format_whole(self, response: str) -> str:
        return self.whole.replace("{response}", response)


def read_prompts(folder: str | None) -> LabelerPrompts:
    """Read split.txt, verify.txt and whole.txt. Errors: ConfigError for a missing file or placeholder."""
    root = _DEFAULT_FOLDER if folder is None else Path(folder)
    return LabelerPrompts(
        **{name: _read(root / f"{name}.txt", placeholder) for name, placeholder in _PLACEHOLDERS.items()}
    )


def _read(path: Path, placeholder: str) -> str:
    if not path.is_file():
        names = ", ".join(f"{name}.txt" for name in _PLACEHOLDERS)
        raise ConfigError(
            f"feedback.prompts: {path} is missing; the folder must contain {names}, as feedback/prompts does"
        )
    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise ConfigError(f"feedback.prompts: {path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    if placeholder not in text:
        raise ConfigError(
            f"feedback.prompts: {path} lacks the placeholder {placeholder}; add it where the text belongs"
        )
    return text
