"""The engine's idle share at full size, in a simulation: our stream of requests against one with barriers.

    make bench NAME=idle_generation      # or idle_feedback

The requests of a stage go through the real scheduling (`rlaif.inference.work.mapping`, `rlaif.inference.turns`) to an
engine that only counts: each step advances at most 256 sequences by one token. Lengths are log-normal (mean 150 tokens
for answers and 250 for lists of claims, cut at 512), 8% of the lists are sampled again, 5% of the claims are requested
again, and each response has 7 questions. With barriers a chunk begins when the last one is finished, and in feedback
all lists are made, then made again, then all claims are requested again, then verified. Rates are sequences per step;
the idle shares (see `rlaif.inference.turns.Steps`) are printed.
"""

import asyncio
import heapq
import math
import random
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from itertools import count

import feedback.stage
import generation.sampling
from bench.result import Result, compare_rates
from rlaif.config import EngineSection, ModelSection
from rlaif.inference.engine import Completion, Engine, Request
from rlaif.inference.stepped import SteppedEngine
from rlaif.inference.turns import Steps
from rlaif.inference.work.chunks import Chunk, EngineSpec
from rlaif.inference.work.mapping import OPEN_AT_ONCE, in_order
from rlaif.inference.work.workers import Action, Here

MAX_RUNNING, NUM_CHUNKS, RESPONSES = 256, 8, 10
LONGEST, SPREAD = 512, 0.7
RETRIED, REQUESTED_AGAIN, QUESTIONS = 0.08, 0.05, 7


class SimulatedEngine(SteppedEngine):
    """Answers of as many tokens as `max_tokens` says; answer i of several has `lengths` of seed + i."""

    def __init__(self, max_running: int = MAX_RUNNING) -> None:
        super().__init__(max_running)
        self._numbers = count()
        self._now = 0
        self._waiting: deque[tuple[int, int]] = deque()  # number of the request, length
        self._running: list[tuple[int, int]] = []  # a heap: last step, number
        self._left: dict[int, int] = {}
        self.sequences = 0

    def _start(self, request: Request) -> int:
        number, self.sequences = next(self._numbers), self.sequences + request.n
        self._left[number] = request.n
        seeds = [f"{request.seed}-{index}" for index in range(request.n)]
        lengths = [request.max_tokens] if request.n == 1 else [length(seed, request.max_tokens) for seed in seeds]
        self._waiting.extend((number, tokens) for tokens in lengths)
        return number

    def _step(self) -> Iterator[tuple[int, list[Completion]]]:
        while self._waiting and len(self._running) < self.steps.max_running:
            number, tokens = self._waiting.popleft()
            heapq.heappush(self._running, (self._now + tokens, number))
        self._now += 1
        while self._running and self._running[0][0] <= self._now:
            _, number = heapq.heappop(self._running)
            self._left[number] -= 1
            if not self._left[number]:
                yield number, [Completion("", 1, "stop")]

    def _abort(self, number: int) -> None:
        raise AssertionError("nothing is cancelled here")

    def close(self) -> None:
        """See Engine."""


def length(seed: str, mean: int) -> int:
    """A log-normal number of tokens, at most LONGEST."""
    tokens = random.Random(seed).lognormvariate(math.log(mean) - SPREAD**2 / 2, SPREAD)
    return min(LONGEST, max(1, round(tokens)))


async def sample(engine: Engine, chunk: Chunk) -> None:
    """The requests of `generation.sampling.answer_chunk`."""
    start = chunk.tables["prompts"][0][0]
    prompts = range(start, start + chunk.num_prompts)
    await asyncio.gather(*(engine.answer(Request("", n=RESPONSES, seed=seed, max_tokens=150)) for seed in prompts))


def request(tokens: int) -> Request:
    return Request("", max_tokens=tokens)


async def make_list(engine: Engine, name: str) -> bool:
    """Whether the list of claims of a response has to be made again."""
    await engine.answer(request(length(name, 250)))
    return random.Random(f"retry {name}").random() < RETRIED


async def request_again(engine: Engine, name: str) -> None:
    failed = sum(random.Random(f"{name} claim {index}").random() < REQUESTED_AGAIN for index in range(QUESTIONS))
    await asyncio.gather(*(engine.answer(request(40)) for _ in range(failed)))


async def verify(engine: Engine) -> None:
    await asyncio.gather(*(engine.answer(request(1)) for _ in range(QUESTIONS)))


def responses(chunk: Chunk) -> list[str]:
    start = chunk.tables["prompts"][0][0]
    return [f"{prompt} {index}" for prompt in range(start, start + chunk.num_prompts) for index in range(RESPONSES)]


async def label(engine: Engine, chunk: Chunk) -> None:
    """The requests of `feedback.labeler.Labeler.label`, response by response."""

    async def one(name: str) -> None:
        for attempt in range(3):
            if not await make_list(engine, f"{name} {attempt}"):
                break
        await request_again(engine, name)
        await verify(engine)

    await asyncio.gather(*map(one, responses(chunk)))


async def label_in_phases(engine: Engine, chunk: Chunk) -> None:
    """The same requests; each kind waits until the last one is answered."""
    names = pending = responses(chunk)
    for attempt in range(3):
        again = await asyncio.gather(*(make_list(engine, f"{name} {attempt}") for name in pending))
        pending = [name for name, retried in zip(pending, again, strict=True) if retried]
    await asyncio.gather(*(request_again(engine, name) for name in names))
    await asyncio.gather(*(verify(engine) for _ in names))


def simulate(
    action: Action[None], prompts_per_chunk: int, open_at_once: int, max_running: int = MAX_RUNNING
) -> tuple[Steps, float]:
    """How full the steps were, and sequences per step."""
    engine = SimulatedEngine(max_running)
    spec = EngineSpec(ModelSection(model="simulation"), EngineSection(), 0, lambda *_: engine)
    chunks = (Chunk(prompts_per_chunk, {"prompts": ((index * prompts_per_chunk, ()),)}) for index in range(NUM_CHUNKS))
    with closing(Here(spec, action)) as workers:
        for _ in in_order(workers, chunks, open_at_once):
            pass
    return engine.steps, engine.sequences / engine.steps.count


STAGES: dict[str, tuple[Action[None], Action[None], int]] = {
    "generation": (sample, sample, generation.sampling.PROMPTS_PER_CHUNK),
    "feedback": (label, label_in_phases, feedback.stage.PROMPTS_PER_CHUNK),
}


def compare(stage: str, repeats: int) -> Result:
    """Sequences per step of our stream against those with barriers. The simulation is exact: repeats change nothing."""
    streamed, with_barriers, size = STAGES[stage]
    steps, ours = simulate(streamed, size, OPEN_AT_ONCE)
    barriers, peer = simulate(with_barriers, size, 1)
    print(f"ours: {share(steps)}; with barriers: {share(barriers)}", flush=True)
    return compare_rates([ours], [peer], "sequences/step")


def share(steps: Steps) -> str:
    return f"{steps.idle / steps.count:.1%} of {steps.count:,} steps idle"
