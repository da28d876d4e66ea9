"""Who runs next, and how full an engine was: on an engine that counts tokens."""

import asyncio
from dataclasses import replace

import pytest

from bench.comparisons import idle
from bench.comparisons.idle import SimulatedEngine, simulate
from rlaif.inference.engine import Completion, Request
from rlaif.inference.turns import Steps, Turns
from rlaif.inference.work.sharing import SharedAnswers
from tests.support.doubles import ScriptedEngine


def test_what_follows_from_a_request_has_its_place() -> None:
    """Three responses and one slot: claims of the first one run before those of the second and before the third.

    The second one got the slot when the first was divided and had not requested anything more yet.
    """
    order: list[str] = []

    async def use(turns: Turns, name: str) -> None:
        async with turns.room(1):
            await asyncio.sleep(0)
            order.append(name)

    async def response(turns: Turns, name: str) -> None:
        await use(turns, f"{name} divided")
        await asyncio.gather(*(use(turns, f"{name} claim {index}") for index in range(2)))

    async def run() -> None:
        turns = Turns(1)
        await asyncio.gather(*(response(turns, name) for name in "abc"))

    asyncio.run(run())
    claims = [f"{name} claim {index}" for name in "abc" for index in range(2)]
    assert order == ["a divided", "b divided", *claims[:4], "c divided", *claims[4:]]


def test_a_request_that_is_cancelled_gives_its_room_back() -> None:
    async def run() -> None:
        turns = Turns(1)
        entered = asyncio.Event()

        async def hold() -> None:
            async with turns.room(3):
                entered.set()
                await asyncio.sleep(3600)

        holder, waiter = asyncio.create_task(hold()), asyncio.create_task(hold())
        await entered.wait()
        await asyncio.sleep(0)
        assert turns.waiting == 1
        waiter.cancel()
        holder.cancel()
        await asyncio.gather(holder, waiter, return_exceptions=True)
        async with asyncio.timeout(5), turns.room(1):
            assert turns.waiting == 0

    asyncio.run(run())


def test_idle_steps_are_those_below_half_while_something_waits() -> None:
    steps = Steps(max_running=8)
    for running, waiting, more, idle_so_far in [
        (8, 5, True, 0),
        (3, 1, False, 1),
        (3, 0, True, 2),
        (3, 0, False, 2),  # the end of the stage
        (4, 9, True, 2),
    ]:
        steps.more_to_come = more
        steps.add(running, waiting, 0.5)
        assert steps.idle == idle_so_far
    assert (steps.count, steps.seconds) == (5, 2.5)


def test_an_error_of_a_step_is_that_of_every_request_and_the_engine_can_go_on() -> None:
    class Broken(SimulatedEngine):
        broken = True

        def _step(self):  # type: ignore[no-untyped-def]
            if self.broken:
                raise RuntimeError("out of memory")
            return super()._step()

    engine = Broken()
    requests = [Request("a", max_tokens=3), Request("b", max_tokens=5)]

    async def answers() -> list[list[Completion] | BaseException]:
        return await asyncio.gather(*map(engine.answer, requests), return_exceptions=True)

    assert [str(error) for error in asyncio.run(answers())] == ["out of memory"] * 2
    engine.broken = False
    assert engine.generate(requests) == [[Completion("", 1, "stop")]] * 2


def test_requests_that_differ_in_any_field_are_not_equal() -> None:
    engine = ScriptedEngine(lambda request: ["x"])
    shared, request = SharedAnswers(engine), Request("a", json_schema={"type": "object", "required": ["a"]})
    others = [replace(request, json_schema={"type": "object", "required": ["b"]}), replace(request, max_tokens=1)]
    shared.generate([request, *others, replace(request)])
    assert engine.requests == [request, *others]


def test_equal_requests_are_answered_once_and_fail_together() -> None:
    class Failing(SimulatedEngine):
        def _start(self, request: Request) -> int:
            if request.text == "bad":
                raise ValueError("bad")
            return super()._start(request)

    engine = Failing()
    shared = SharedAnswers(engine)
    same, other = Request("a", b"image", max_tokens=4), Request("a", b"another", max_tokens=4)
    assert len(shared.generate([same, other, Request("a", b"image", max_tokens=4)])) == 3
    assert engine.sequences == 2

    async def both() -> list[list[Completion] | BaseException]:
        return await asyncio.gather(*(shared.answer(Request("bad")) for _ in range(2)), return_exceptions=True)

    assert [str(error) for error in asyncio.run(both())] == ["bad", "bad"]


@pytest.mark.parametrize("stage", idle.STAGES)
def test_without_barriers_no_step_is_idle(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the full size: 32 sequences at a time, chunks of 20 prompts."""
    monkeypatch.setattr(idle, "NUM_CHUNKS", 6)
    streamed, with_barriers, _ = idle.STAGES[stage]
    (steps, rate), (barriers, peer) = (
        simulate(action, 20, open_at_once, max_running=32)
        for action, open_at_once in ((streamed, 4), (with_barriers, 1))
    )
    assert steps.idle / steps.count <= 0.03
    assert barriers.idle / barriers.count > 0.05 and rate > 1.05 * peer
