"""One trial: a language model with given settings answers a prompt of arbitrary ids; its seconds are printed as JSON.

Its process may die or hang; `edge.tuning.process` starts it and records that.
"""

import json
import sys
from pathlib import Path
from typing import Any

from edge.settings import Settings
from edge.tuning.halving import Outcome
from rlaif.command import report_error
from rlaif.errors import RlaifError

WARM_UP = (8, 2)  # tokens of prompt and answer before anything counts


def measure(file: Path, settings: Settings, prompt: int, answer: int, repeats: int) -> Outcome:
    """Seconds of `repeats` answers of `answer` tokens to a prompt of `prompt` tokens. Errors: RlaifError."""
    from edge.language import LanguageModel

    outcome = Outcome()
    with LanguageModel(file, settings, context=prompt + answer + 1) as model:
        ids = [index * 31 % (model.vocabulary_size - 1) + 1 for index in range(prompt)]
        model.feed([ids[: WARM_UP[0]]], WARM_UP[1])
        for _ in range(repeats):
            generated = model.feed([ids], answer)
            outcome.prompt_seconds.append(generated.prompt_seconds)
            outcome.answer_seconds.append(generated.seconds)
    return outcome


def main(request: dict[str, Any]) -> int:
    """Returns 2 after an error with a reason of its own, such as settings that llama.cpp refuses."""
    try:
        settings = Settings(**request.pop("settings"))
        outcome = measure(Path(request.pop("file")), settings, **request)
    except RlaifError as error:
        report_error(str(error))
        return 2
    print(json.dumps({"prompt_seconds": outcome.prompt_seconds, "answer_seconds": outcome.answer_seconds}))
    return 0


if __name__ == "__main__":
    sys.exit(main(json.load(sys.stdin)))
