"""Engines on one machine, each in a process of its own with its own GPUs, or cores where there are no GPUs.

The processes are spawned, and this one never initializes CUDA. A process that ends by itself ends the stage; the others
notice that this one ended, and end too.
"""

import asyncio
import importlib.util
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from rlaif.config import EngineSection
from rlaif.errors import ConfigError, ModelError, RlaifError
from rlaif.inference.work.chunks import Chunk, EngineSpec
from rlaif.inference.work.workers import Action, Done, Result, Use, Worker, Workers

SECONDS_TO_END = 20.0  # for a process that was asked to


class Processes(Workers[Result]):
    """See Workers. `shares`: the environment of each process, with its GPUs or cores."""

    def __init__(self, spec: EngineSpec, action: Action[Result], shares: Sequence[dict[str, str]]) -> None:
        context = multiprocessing.get_context("spawn")
        self.count = len(shares)
        self._connections: list[Connection] = []
        self._processes: list[SpawnProcess] = []
        self._uses = [Use()] * self.count
        for share in shares:
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(spec, action, there))
            with _environment(share):
                process.start()
            there.close()
            self._connections.append(here)
            self._processes.append(process)

    def submit(self, worker: int, number: int, chunk: Chunk) -> None:
        """See Workers."""
        self._send(worker, (number, chunk))

    def no_more(self) -> None:
        """See Workers."""
        for worker in range(self.count):
            self._send(worker, None)

    def _send(self, worker: int, message: object) -> None:
        try:
            self._connections[worker].send(message)
        except (BrokenPipeError, ConnectionResetError):
            raise self._ended(worker) from None

    def wait(self) -> Sequence[Done[Result]]:
        """See Workers."""
        finished: list[Done[Result]] = []
        for ready in wait(self._connections):
            worker = self._connections.index(ready)  # type: ignore[arg-type]
            try:
                done, self._uses[worker] = self._connections[worker].recv()
            except (EOFError, ConnectionResetError):
                raise self._ended(worker) from None
            finished.append(done)
        return finished

    def _ended(self, worker: int) -> ModelError:
        process = self._processes[worker]
        process.join(SECONDS_TO_END)
        status = process.exitcode
        how = f"ended with status {status}"
        if status is not None and status < 0:
            how = f"was killed by {signal.Signals(-status).name}"
        return ModelError(
            f"the process of engine {worker + 1} of {self.count} {how}, expected it to live as long as the stage; see "
            "what it printed (SIGKILL often means that memory ran out), and start again: finished work is kept"
        )

    def use(self) -> Use:
        """See Workers."""
        return Use.of_all(self._uses)

    def close(self) -> None:
        """See Workers."""
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join(SECONDS_TO_END)
            if process.is_alive():
                process.terminate()
                process.join(SECONDS_TO_END)
            if process.is_alive():
                process.kill()
                process.join()


def shares_of(settings: EngineSection) -> list[dict[str, str]]:
    """The environment of each engine that this machine is to have.

    Errors: ConfigError where there are more engines than GPUs (or cores, without GPUs) to hold them.
    """
    gpus, size = visible_gpus(), settings.tensor_parallel_size
    if gpus:
        count = settings.engines or max(1, len(gpus) // size)
        if count * size > len(gpus):
            raise ConfigError(
                f"engine.engines is {count} and engine.tensor_parallel_size {size}, which need {count * size} GPUs, "
                f"but this machine has {len(gpus)} to use; lower one of them, or set engine.engines to null"
            )
        return [{"CUDA_VISIBLE_DEVICES": ",".join(gpus[i * size : (i + 1) * size])} for i in range(count)]
    cores = sorted(os.sched_getaffinity(0))
    count = settings.engines or 1
    if count > len(cores):
        raise ConfigError(
            f"engine.engines is {count}, but there are {len(cores)} cores and no GPU; set engine.engines to at most "
            f"{len(cores)}"
        )
    if os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "auto") != "auto":
        return [{} for _ in range(count)]
    bounds = [index * len(cores) // count for index in range(count + 1)]
    shares = [cores[start:end] for start, end in pairwise(bounds)]
    return [  # threads: torch would start one for each core of the machine, which then wait for one another
        {"VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, share)), "OMP_NUM_THREADS": str(len(share))} for share in shares
    ]


def visible_gpus() -> list[str]:
    """The GPUs of this process as CUDA_VISIBLE_DEVICES names them; without initializing CUDA."""
    if importlib.util.find_spec("torch") is None:
        return []
    import torch

    count = torch.cuda.device_count() if torch.backends.cuda.is_built() else 0
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if named else [str(index) for index in range(count)]


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for the processes that are started within."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(spec: EngineSpec, action: Action[Any], connection: Connection) -> None:
    """What a process does: open the engine, and answer chunks until the connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the one that started this one decides
    try:
        worker = Worker(spec, action)
    except RlaifError as error:
        number, _ = connection.recv()  # the first message is a chunk
        connection.send((Done(number, error=error), Use()))
        return
    try:
        asyncio.run(_answer(worker, connection))
    finally:
        worker.engine.close()


async def _answer(worker: Worker[Any], connection: Connection) -> None:
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    tasks: set[asyncio.Task[None]] = set()

    async def run(number: int, chunk: Chunk) -> None:
        try:
            done = Done(number, await worker.run(chunk))
        except RlaifError as error:
            done = Done(number, error=error)
        except Exception as error:  # a defect: its traceback is printed, and the process ends
            if not ended.done():
                ended.set_exception(error)
            return
        connection.send((done, worker.use()))

    def receive() -> None:
        try:
            message = connection.recv()
        except (EOFError, ConnectionResetError):
            if not ended.done():
                ended.set_result(None)
            return
        if message is None:
            worker.expect_more(False)
            return
        task = asyncio.create_task(run(*message))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop = asyncio.get_running_loop()
    loop.add_reader(connection.fileno(), receive)
    try:
        await ended
    finally:
        loop.remove_reader(connection.fileno())
