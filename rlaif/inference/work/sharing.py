"""Equal work is done once: what several responses of a chunk need, the first one that needs it computes."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace
from typing import Generic, TypeVar

from rlaif.inference.engine import Completion, Engine, Request

Value = TypeVar("Value")


class Once(Generic[Value]):
    """Results of coroutines by key: of equal keys the first coroutine runs, and all get its result."""

    def __init__(self) -> None:
        self._results: dict[Hashable, asyncio.Future[Value]] = {}

    async def get(self, key: Hashable, compute: Callable[[], Awaitable[Value]]) -> Value:
        """The result of the first `compute` of this key, or its error."""
        if key in self._results:
            return await self._results[key]
        result = self._results[key] = asyncio.get_running_loop().create_future()
        try:
            value = await compute()
        except BaseException as error:
            if isinstance(error, Exception):
                result.set_exception(error)
                result.exception()  # whoever waits gets it; it is not reported as lost where nobody does
            else:
                result.cancel()
            raise
        result.set_result(value)
        return value


class SharedAnswers(Engine):
    """An engine that answers equal requests once.

    Equal: the same text and image, answered in the same way. Requests without a seed are greedy or of one token.
    """

    def __init__(self, engine: Engine) -> None:
        self.steps = engine.steps
        self._engine = engine
        self._answers: Once[list[Completion]] = Once()

    async def answer(self, request: Request) -> list[Completion]:
        """See Engine."""
        schema = json.dumps(request.json_schema, sort_keys=True)  # a dictionary is no key
        key = (replace(request, json_schema=None), schema)
        return await self._answers.get(key, lambda: self._engine.answer(request))

    async def check(self) -> None:
        """See Engine."""
        await self._engine.check()

    def close(self) -> None:
        """See Engine."""
        self._engine.close()
