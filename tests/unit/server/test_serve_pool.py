"""The pool has as many workers as it should, whatever becomes of them and of the model files."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.service import needed
from pocketseg.errors import EnvironmentProblem
from pocketseg.server.settings import Settings
from pocketseg.server.task import Task

needed()
from pocketseg.server import pool as room  # noqa: E402
from pocketseg.server.pool import Died, Pool  # noqa: E402


class Worker:
    """One without a process."""

    def __init__(self, generation: int, digest: str, seconds: float) -> None:
        self.generation, self.models, self.seconds = generation, [{"sha256": digest}], seconds
        self.process = SimpleNamespace(returncode=None)
        self.ended = False

    async def ask(self, message: Any) -> dict[str, Any]:
        if self.seconds < 0:
            raise Died
        await asyncio.sleep(self.seconds)
        return {}

    def kill(self) -> None: ...

    async def end(self) -> None:
        self.ended = True


def pool_of(monkeypatch, starts: list[Any]) -> tuple[Pool, list[Worker]]:
    """A pool of one, and the workers that it starts: (digest, seconds to start, seconds for a task), or an error."""
    started: list[Worker] = []

    async def start(_: Settings, generation: int) -> Worker:
        found = starts.pop(0)
        if isinstance(found, Exception):
            raise found
        digest, to_start, to_answer = found
        await asyncio.sleep(to_start)
        started.append(Worker(generation, digest, to_answer))
        return started[-1]

    monkeypatch.setattr(Worker, "start", start, raising=False)
    monkeypatch.setattr(room, "Worker", Worker)
    monkeypatch.setattr(room, "TO_START_AGAIN", 0.01)
    return Pool(Settings({})), started


def test_two_reloads_at_once_leave_one_worker(monkeypatch):
    pool, started = pool_of(monkeypatch, [("a", 0, 0), ("b", 0, 0.2), ("b", 0.05, 0)])

    async def run() -> None:
        await pool.start()
        both = asyncio.gather(pool.reload(), pool.reload())
        while len(started) < 2:
            await asyncio.sleep(0.005)
        await pool.ask(Task("", "m"))
        await both
        await asyncio.sleep(0.01)
        assert pool.ready == 1 and [each.ended for each in started] == [True, True, False]

    asyncio.run(run())


def test_a_model_that_cannot_be_loaded_at_once_is_tried_again(monkeypatch):
    damaged = EnvironmentProblem("m.pseg", "is damaged", "restore it")
    pool, _ = pool_of(monkeypatch, [("a", 0, -1), ("b", 0, 0), damaged, ("b", 0, 0), ("b", 0, 0)])

    async def run() -> None:
        await pool.start()
        with pytest.raises(Died):
            await pool.ask(Task("", "m"))
        await asyncio.sleep(0.1)
        assert pool.ready == 1 and await pool.ask(Task("", "m")) == {}

    asyncio.run(run())
