"""The worker process, and what becomes of a series that it segmented, or could not."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pocketseg import errors
from pocketseg.errors import EnvironmentProblem, PocketsegError, Problem
from pocketseg.files import make_folder, remove
from pocketseg.node.settings import Settings
from pocketseg.node.spool import IMAGES, MADE, Spool, images_of, shown
from pocketseg.node.worker import SOON
from pocketseg.signals import own_group
from pocketseg.text import counted

log = logging.getLogger("pocketseg.node")

# How often a series is tried whose worker ends, takes too long, or has no memory.
TRIES = 3
# Seconds until the next try where the disk is full, or something else of the machine is wrong.
LATER = 10.0
TO_START = 120


class Died(Exception):  # noqa: N818
    """The worker ended, by itself or because it took too long."""


class Worker:
    """A process that has loaded the model."""

    def __init__(self, model: Path) -> None:
        """Start it.

        Raises:
            PocketsegError: the model cannot be loaded, or the process not be started.
        """
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pocketseg.node.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **own_group(),
        )  # fmt: skip
        try:
            found = self.ask({"model": str(model)}, TO_START)
        except Died:
            self.end()
            raise EnvironmentProblem("worker", "ended before it had loaded its model", "check memory") from None
        if "error" in found:
            self.end()
            kind = getattr(errors, found["error"], PocketsegError)
            raise kind.of([Problem(each["where"], each["what"], each["fix"]) for each in found["problems"]])
        self.digest: str = found["model"]["sha256"]

    def ask(self, message: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Its answer to a message.

        Raises:
            Died: it ended instead, or was ended because it took longer.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        timer = threading.Timer(seconds, self.process.kill)
        timer.start()
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
            found: dict[str, Any] = json.loads(self.process.stdout.readline())
        except (OSError, ValueError):
            raise Died from None
        finally:
            timer.cancel()
        return found

    def end(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):  # what was not written any more
                if pipe is not None:
                    pipe.close()


class Segmenter:
    """Takes the series that waits for longest, again and again.

    Raises:
        PocketsegError: the model cannot be loaded.
    """

    def __init__(self, settings: Settings, spool: Spool) -> None:
        self.settings, self.spool = settings, spool
        self.worker: Worker | None = Worker(settings.model)
        self.digest = self.worker.digest
        self.ending = False
        self._tries: Counter[str] = Counter()

    def step(self) -> float | None:
        """Segment one series. Seconds until there may be more to do; None where nothing waits."""
        for series in self.spool.waiting():
            if (series / MADE).exists():  # what was done when the node was killed
                self.spool.to_send(series)
            else:
                return self._segment(series)
        return None

    def _segment(self, series: Path) -> float:
        work = self.spool.new_work()
        make_folder(work)
        count = len(images_of(series))
        try:
            found = self._asked({"images": str(series / IMAGES), "out": str(work)})
        except Died:
            if self.ending:
                return LATER
            what = f"ended the process that segments it, or took longer than {self.settings.seconds:g} seconds"
            why = {"what": what, "fix": "try `pocketseg predict` on its images"}
            found = {"made": 0, "warnings": 0, "problems": [why], "again": SOON}
        problems = [Problem(shown(series), each["what"], each["fix"]) for each in found["problems"]]
        if not found["made"]:
            remove(work)
            return self._failed(series, problems, found["again"])
        del self._tries[series.name]
        self.spool.made(series, work, problems)
        odd = f", with {counted(found['warnings'], 'warning')}" if found["warnings"] else ""
        log.info("%s: segmented (%s)%s", shown(series), counted(count, "image"), odd)
        for problem in problems:
            log.error("%s", problem)
        return 0

    def _failed(self, series: Path, problems: Sequence[Problem], again: str) -> float:
        """Try it again, or move it aside."""
        self._tries[series.name] += 1
        if again and (again != SOON or self._tries[series.name] < TRIES):
            if self._tries[series.name] < TRIES:
                log.warning("%s; it is tried again", problems[0])
            return 0 if again == SOON else LATER
        del self._tries[series.name]
        place = self.spool.fail(series, problems)
        for problem in problems:
            log.error("%s", problem)
        log.error("%s: moved to %s", shown(series), place)
        return 0

    def _asked(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of the worker, which is started where it is not there.

        Raises:
            Died: as `Worker.ask`.
        """
        if self.worker is None:
            self.worker = Worker(self.settings.model)
            if self.worker.digest != self.digest:
                self.digest = self.worker.digest
                log.warning("the model file was replaced: from now on it is %s", self.digest[:12])
        try:
            return self.worker.ask(message, self.settings.seconds)
        except Died:
            self.worker.end()
            self.worker = None
            raise

    def end(self) -> None:
        """End the worker, and do no more; what it was at is done after the next start."""
        self.ending = True
        worker = self.worker
        if worker is not None:
            worker.process.kill()
            worker.process.wait()
