"""Worker processes behind a bounded queue: one that dies is replaced and costs the request that it had."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from pocketseg import errors
from pocketseg.errors import EnvironmentProblem, PocketsegError, Problem
from pocketseg.server.settings import UNPACKED, Settings
from pocketseg.server.task import Limits, Task

log = logging.getLogger("pocketseg.server")

# A line of a worker: facts of its models, or some problems.
MAX_LINE = 2**20
# Seconds for loading models; between two starts where one failed.
TO_START, TO_START_AGAIN = 120, 1


class Busy(Exception):  # noqa: N818
    """As many requests wait as may, or as long."""


class TooSlow(Exception):  # noqa: N818
    """A request took longer than it may; its worker was ended."""


class Died(Exception):  # noqa: N818
    """The worker ended, and the request with it."""


class Worker:
    """One process. It answers one task at a time."""

    def __init__(self, process: asyncio.subprocess.Process, generation: int) -> None:
        self.process, self.generation = process, generation
        self.models: list[dict[str, Any]] = []

    @classmethod
    async def start(cls, settings: Settings, generation: int) -> Worker:
        """A process that has loaded its models.

        Raises:
            PocketsegError: a model cannot be loaded, or the process not started.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pocketseg.server.worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            limit=MAX_LINE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        worker = cls(process, generation)
        limits = Limits(settings.max_pixels, settings.max_frames, UNPACKED * settings.max_body)
        models = {name: str(path) for name, path in settings.models.items()}
        try:
            async with asyncio.timeout(TO_START):
                found = await worker.ask({"models": models, "limits": asdict(limits)})
        except (Died, TimeoutError):
            worker.kill()
            raise EnvironmentProblem("worker", "ended before it had loaded its models", "check memory") from None
        except BaseException:
            worker.kill()
            raise
        if "error" in found:
            worker.kill()
            kind = getattr(errors, found["error"], PocketsegError)
            raise kind.of([Problem(each["where"], each["what"], each["fix"]) for each in found["problems"]])
        worker.models = found["models"]
        return worker

    async def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Its answer to a message.

        Raises:
            Died: it ended instead.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            await self.process.stdin.drain()
            line = await self.process.stdout.readline()
            found: dict[str, Any] = json.loads(line)
        except (OSError, ValueError):
            raise Died from None
        return found

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()

    async def end(self) -> None:
        """Let it end, and wait; what it holds is freed."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            async with asyncio.timeout(2):
                await self.process.wait()
        except TimeoutError:
            self.kill()
            await self.process.wait()


class Pool:
    """All workers of a service.

    Attributes:
        models: what clients learn of them, once a worker has loaded them.
        restarts: how many workers were replaced.
        waiting, busy: requests.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.models: list[dict[str, Any]] = []
        self.restarts = self.waiting = self.busy = 0
        self._idle: asyncio.Queue[Worker] = asyncio.Queue()
        self._workers: set[Worker] = set()
        self._generation = 0
        self._loading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def ready(self) -> int:
        """How many workers have loaded their models."""
        return len(self._workers)

    @property
    def full(self) -> bool:
        """Whether a request that came now would be refused."""
        return self._idle.empty() and self.waiting >= self.settings.queue

    async def start(self) -> None:
        """Start all workers.

        Raises:
            PocketsegError: of the first that cannot be started.
        """
        async with self._loading:
            self._take(await self._started(self._generation))

    async def _started(self, generation: int) -> list[Worker]:
        starts = [Worker.start(self.settings, generation) for _ in range(self.settings.workers)]
        found = await asyncio.gather(*starts, return_exceptions=True)
        workers = [each for each in found if isinstance(each, Worker)]
        if len(workers) < len(found):
            for worker in workers:
                worker.kill()
            raise next(each for each in found if isinstance(each, BaseException))
        return workers

    def _take(self, workers: list[Worker]) -> None:
        for worker in workers:
            self.models = worker.models
            self._workers.add(worker)
            self._idle.put_nowait(worker)

    async def reload(self, known: int | None = None) -> None:
        """Load the models again, beside the workers that are there; these end when what they have is done.

        Args:
            known: the generation that is out of date, where it is to be replaced once, whoever asks.

        Raises:
            PocketsegError: a model cannot be loaded; then everything stays as it is.
        """
        async with self._loading:
            if known not in (None, self._generation):
                return
            generation = self._generation + 1
            workers = await self._started(generation)
            self._generation = generation
            old = [self._idle.get_nowait() for _ in range(self._idle.qsize())]
            self._take(workers)
        for worker in old:
            self._retire(worker)

    async def ask(self, task: Task) -> dict[str, Any]:
        """A worker's answer to a task.

        Raises:
            Busy: too many wait already, or this one waited for as long as the work may take.
            TooSlow, Died: its worker was ended, or ended.
        """
        if self.full:
            raise Busy
        try:
            async with asyncio.timeout(self.settings.seconds):
                worker = await self._next()
        except TimeoutError:
            raise Busy from None
        self.busy += 1
        try:
            async with asyncio.timeout(self.settings.seconds):
                answer = await worker.ask(asdict(task))
        except TimeoutError:
            self._replace(worker)
            raise TooSlow from None
        except BaseException:  # the client's task was ended, too: the worker is in the middle of something
            self._replace(worker)
            raise
        finally:
            self.busy -= 1
        if worker.generation == self._generation:
            self._idle.put_nowait(worker)
        else:
            self._retire(worker)
        return answer

    async def _next(self) -> Worker:
        """An idle worker that is alive: one may have been killed while it had nothing to do."""
        self.waiting += 1
        try:
            while True:
                worker = await self._idle.get()
                if worker.process.returncode is None:
                    return worker
                self._replace(worker)
        finally:
            self.waiting -= 1

    def _replace(self, worker: Worker) -> None:
        self.restarts += 1
        worker.kill()
        self._workers.discard(worker)
        self._later(worker.end())
        if worker.generation == self._generation and not self._closed:
            self._later(self._start_again())

    def _retire(self, worker: Worker) -> None:
        self._workers.discard(worker)
        self._later(worker.end())

    async def _start_again(self) -> None:
        generation = self._generation
        while generation == self._generation and not self._closed:
            try:
                worker = await Worker.start(self.settings, generation)
                if generation != self._generation or self._closed:
                    await worker.end()
                elif [each["sha256"] for each in worker.models] != [each["sha256"] for each in self.models]:
                    log.warning("a model file was replaced: all workers load it")
                    await worker.end()
                    await self.reload(generation)
                else:
                    self._take([worker])
                return
            except PocketsegError as error:
                log.error("a worker cannot be started: %s", error)
                await asyncio.sleep(TO_START_AGAIN)

    def _later(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End all workers."""
        self._closed = True
        await asyncio.gather(*(worker.end() for worker in list(self._workers)), return_exceptions=True)
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=5)
