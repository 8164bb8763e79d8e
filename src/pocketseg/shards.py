"""Work that processes share: each gets a few items at a time as lines of JSON, and answers each item with a line.

A process that dies is replaced. What it had not begun is done by others; the item that it had is tried once more,
alone, and is then given up by name. Nothing is pickled.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from typing import Any

from pocketseg import errors, signals
from pocketseg.errors import EnvironmentProblem, PocketsegError, Problem

# Items that a process gets at a time, at most; how often an item may end its process.
SHARD, TRIES = 16, 2
# More processes than a machine has cores do not pay; this is what a list of them takes.
MAX_JOBS = 256
# The key of an answer that is an error of the set-up or of the machine, and ends everything.
ERROR = "error"
ERROR_CHARACTERS = 500
SECONDS_TO_END = 10
Item = dict[str, Any]


class Lost(str):
    """In place of an answer: what ended the process, each time."""

    __slots__ = ()


class _Child:
    """A process of a module whose `main` calls `answer`."""

    def __init__(self, module: str, setup: Item) -> None:
        self.trace = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.trace,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            **signals.own_group(),
        )
        self.tell(setup)

    def tell(self, value: Any) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):  # it is dead, which `hear` tells
            self.process.stdin.write(json.dumps(value).encode() + b"\n")
            self.process.stdin.flush()

    def hear(self) -> Item | None:
        """Its next line; None where it died.

        Raises:
            PocketsegError: what it says is an error.
        """
        assert self.process.stdout is not None
        try:
            found: Item = json.loads(self.process.stdout.readline())
        except ValueError:
            return None
        if ERROR in found:
            kind = getattr(errors, found[ERROR], PocketsegError)
            raise kind.of([Problem(**{**each, "files": tuple(each["files"])}) for each in found["problems"]])
        return found

    def fate(self) -> str:
        """What ended it: it has closed its output, or said what is no answer."""
        try:
            code = self.process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if killer := signals.killer(code):
            return f"killed by {killer}"
        self.trace.seek(0)
        lines = self.trace.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:ERROR_CHARACTERS] if lines else f"code {code}"

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.trace):
            with suppress(OSError):  # what was not read any more
                if file is not None:
                    file.close()


class _Pool:
    """Threads, each with a child; what they find is put into a queue, in the end one None each."""

    def __init__(self, module: str, setup: Item, count: int, item: Callable[[int], Item]) -> None:
        self.module, self.setup, self.item = module, setup, item
        self.found: queue.Queue[tuple[int, Item | Lost] | BaseException | None] = queue.Queue(4 * SHARD)
        self.again: deque[list[int]] = deque()
        self.rest = iter(range(count))
        self.tries: Counter[int] = Counter()
        self.children: set[_Child] = set()
        self.lock = threading.Lock()
        self.closed = False

    def run(self, size: int) -> None:
        """What a thread does, until nothing is left; `size` is that of a shard."""
        child: _Child | None = None
        try:
            while shard := self._next(size):
                child = child or self._start()
                if self._done(child, shard):
                    continue
                child = None
        except BaseException as error:
            self.found.put(error)
        finally:
            if child:
                self._end(child)
            self.found.put(None)

    def _next(self, size: int) -> list[int]:
        with self.lock:
            if self.closed:
                return []
            return self.again.popleft() if self.again else list(islice(self.rest, size))

    def _start(self) -> _Child:
        """A child that is set up.

        Raises:
            EnvironmentProblem: they end before, again and again.
        """
        for _ in range(TRIES):
            with self.lock:
                child = _Child(self.module, self.setup)
                self.children.add(child)
            if child.hear() is not None or self.closed:
                return child
            fate = child.fate()
            self._end(child)
        raise EnvironmentProblem(
            "--jobs", f"a process ended before it had begun ({fate})", "take fewer, or free memory"
        )

    def _done(self, child: _Child, shard: list[int]) -> bool:
        """Whether the child answered all items; else it is gone, and what it did not do is given up or done again."""
        child.tell([self.item(number) for number in shard])
        for at, number in enumerate(shard):
            answer = child.hear()
            if answer is None:
                if not self.closed:
                    self._lost(child.fate(), number, shard[at + 1 :])
                self._end(child)
                return False
            self.found.put((number, answer))
        return True

    def _lost(self, fate: str, number: int, others: list[int]) -> None:
        with self.lock:
            self.tries[number] += 1
            if others:
                self.again.append(others)
            if self.tries[number] < TRIES:
                self.again.append([number])
                return
        self.found.put((number, Lost(fate)))

    def _end(self, child: _Child) -> None:
        with self.lock:
            self.children.discard(child)
        child.end()

    def close(self) -> None:
        with self.lock:
            self.closed = True
            for child in self.children:
                child.process.kill()


def shared(
    module: str, setup: Item, count: int, item: Callable[[int], Item], jobs: int
) -> Iterator[tuple[int, Item | Lost]]:
    """The answers to items 0 to count - 1, each with the number of its item, as they come.

    Args:
        module: whose `main` calls `answer`.
        setup: what each process gets first.
        count: of items.
        item: makes one, when it is sent.
        jobs: processes.

    Raises:
        PocketsegError: a process could not be set up, or met an error that is not of its item.
    """
    jobs = min(jobs, count)
    size = max(1, min(SHARD, count // (4 * max(jobs, 1))))
    pool = _Pool(module, setup, count, item)
    threads = [threading.Thread(target=pool.run, args=[size], daemon=True) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    running = jobs
    try:
        while running:
            found = pool.found.get()
            if found is None:
                running -= 1
            elif isinstance(found, BaseException):
                raise found
            else:
                yield found
    finally:
        pool.close()
        while running:  # which may wait for room
            running -= pool.found.get() is None
        for thread in threads:
            thread.join()
        for child in pool.children:  # of those whose threads ended by an error
            child.end()


def answer(begin: Callable[[Item], Callable[[Item], Mapping[str, Any]]]) -> None:
    """What a process does: `begin` gets the set-up, and what it gives is asked for the answer to each item."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is not an answer
    logging.getLogger("pocketseg").propagate = False  # the set-up is logged by who asks
    logging.getLogger("pocketseg").addHandler(logging.NullHandler())

    def say(value: Mapping[str, Any]) -> None:
        out.write(json.dumps(value) + "\n")
        out.flush()

    try:
        work = begin(json.loads(sys.stdin.readline()))
        say({})
        for line in sys.stdin:
            for each in json.loads(line):
                say(work(each))
    except PocketsegError as error:
        say({ERROR: type(error).__name__, "problems": [asdict(each) for each in error.problems]})
    except BrokenPipeError:
        pass
