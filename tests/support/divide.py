"""Sources divided together, as those of a chunk are."""

import asyncio
from collections.abc import Sequence

from feedback.check.source import Source
from feedback.divide import Refusal, Split, divide
from feedback.labeler_prompts import LabelerPrompts
from rlaif.config import FeedbackSection
from rlaif.inference.engine import Engine
from rlaif.inference.work.sharing import SharedAnswers


def divide_all(
    engine: Engine, sources: Sequence[Source], prompts: LabelerPrompts, settings: FeedbackSection
) -> dict[Source, Split | Refusal]:
    """The claims of each distinct source; equal requests are sent once."""
    shared, distinct = SharedAnswers(engine), list(dict.fromkeys(sources))

    async def divide_them() -> list[Split | Refusal]:
        return await asyncio.gather(*(divide(shared, source, prompts, settings, 0) for source in distinct))

    return dict(zip(distinct, engine.run(divide_them()), strict=True))
