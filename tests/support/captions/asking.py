"""What a yes/no question about a scene asks."""

import re

from scenes.language import Mention, find_mentions
from scenes.prompts import VERIFY_PROMPT


def question_mention(prompt: str) -> Mention:
    """The mention of a yes/no question."""
    question = prompt.removesuffix(VERIFY_PROMPT.replace("{question}", ""))
    assert question != prompt
    relation = re.fullmatch(r"(Is|Are) (the .+?) ((?:next to|on|behind) the .+)\?", question)
    if relation:
        question = f"{relation[2]} {relation[1].lower()} {relation[3]}."
    (mention,) = find_mentions(question.replace("Does a sign say", "A sign says"))
    return mention
