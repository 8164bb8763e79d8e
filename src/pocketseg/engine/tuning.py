"""The kernels that run a packed model fastest on this machine: each that fits is timed beside the one that runs.

What is timed is the whole net: a kernel that is quick by itself may leave the caches in a worse state to the next one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pocketseg.engine.codec import file_of, program_in
from pocketseg.engine.library import kernel_names
from pocketseg.engine.program import KernelHints, Program, operation_text
from pocketseg.engine.session import JOINED, Session
from pocketseg.engine.verification import TOLERANCE, Array, generated, verified
from pocketseg.errors import ModelFileError
from pocketseg.text import brief, counted
from pocketseg.timing import in_turns

log = logging.getLogger("pocketseg")

# The net must take less than this part of its time.
CLEARLY = 0.98
# How many turns a look has, and the part of its time that the net must take less of to get to the next look. Short ones
# are noisy: they throw out what is hopeless, which is most.
LOOKS = {1: 1.02, 3: 0.99, 5: CLEARLY, 9: CLEARLY}
TURN_S = 0.03
# Where a call takes longer, a turn is one call, and there are a few of them.
SLOW_S = 0.15
# After this the search ends with what it has.
MAX_S = 300.0
# Sets that run only where there is nothing better: elsewhere none of their kernels is the fastest.
LAST = ("scalar", "sse41")


@dataclass(frozen=True)
class Change:
    """An instruction that has another kernel than the library would choose.

    Attributes:
        instruction: its number, from 0 on.
        operation: in words.
        before: the kernel that the library chooses.
        after: the kernel it is run with.
        ratio: of the time of the whole net with and without it.
    """

    instruction: int
    operation: str
    before: str
    after: str
    ratio: float


@dataclass(frozen=True, repr=False)
class Tuning:
    """What was found.

    Attributes:
        content: the file; without what it asked for before, where nothing is faster.
        machine: the set of kernels it was tuned for.
        tried: how many kernels were tried, of all instructions together.
        changes: in the order of the instructions.
        ratio: of the time with all changes and without any, measured afresh; 1 where nothing is faster.
    """

    content: bytes
    machine: str
    tried: int
    changes: tuple[Change, ...]
    ratio: float

    @property
    def text(self) -> str:
        """In words."""
        tried = counted(self.tried, "other kernel[ was|s were] tried")
        if not self.changes:
            return f"{tried} for {self.machine}, none is clearly faster"
        return f"{self.ratio:.2f} of the time on this machine ({self.machine} kernels; {tried})"

    def __repr__(self) -> str:
        return brief(self, self.text)


def tuned(
    content: bytes,
    where: str,
    size: tuple[int, int],
    threads: int,
    progress: Callable[[int, int], None] | None = None,
) -> Tuning:
    """Choose kernels by their time on this machine.

    Args:
        content: a whole file.
        where: what errors call it.
        size: (height, width) of the net's input.
        threads: the net runs with.
        progress: called with (done, of).

    Raises:
        ModelFileError: the file is damaged, or a kernel gives other results.
    """
    program, container = program_in(content, where)
    search = _Search(program, container.card, where, size, threads)
    search.run(progress)
    ratio = search.ratio() if search.changes else 1.0
    if search.changes and ratio >= CLEARLY:
        log.info("%s: all changes together take %.3f of the time; none is kept", where, ratio)
        search.changes, search.kernels, ratio = {}, {}, 1.0
    found = search.content(search.kernels)
    if "verification" in container.card:
        verified(Session(found, where, threads), container.card["verification"])
    changes = tuple(search.changes[number] for number in sorted(search.changes))
    return Tuning(found, search.untuned.isa, search.tried, changes, ratio)


class _Search:
    """One instruction after the other, the last first: one that is freed from its neighbor comes after it."""

    def __init__(
        self, program: Program, card: Mapping[str, Any], where: str, size: tuple[int, int], threads: int
    ) -> None:
        self.program, self.card, self.where, self.threads = program, card, where, threads
        self.kernels: dict[int, str] = {}
        self.changes: dict[int, Change] = {}
        self.tried = 0
        self.untuned = self.best = Session(self.content({}), where, self.threads)
        self.image = generated(program.in_channels, *size)[None]
        self.logits = self.untuned(self.image)

    def content(self, kernels: Mapping[int, str]) -> bytes:
        wanted = KernelHints(self.untuned.isa, kernels) if kernels else None
        return file_of(replace(self.program, hints=wanted), self.card)

    def session(self, kernels: Mapping[int, str]) -> Session:
        return Session(self.content(kernels), self.where, self.threads)

    def run(self, progress: Callable[[int, int], None] | None) -> None:
        ends = time.monotonic() + MAX_S
        choices = self.choices()
        for done, (number, name) in enumerate(choices, 1):
            if time.monotonic() > ends:
                log.warning("%s: %d of %d kernels were tried in %.0f s", self.where, done - 1, len(choices), MAX_S)
                return
            # What is done inside of its neighbor waits until the neighbor is better off alone.
            if self.best.kernels[number] not in ("", name):
                self.attempt(number, name)
            if progress:
                progress(done, len(choices))

    def choices(self) -> list[tuple[int, str]]:
        """Instructions, the last first, and every kernel that fits them; of LAST only those of the set that runs."""
        numbers, isa = range(len(self.program.instructions)), self.untuned.isa
        found: list[tuple[int, str]] = []
        for name in kernel_names():
            of = name.partition("/")[0]
            if of == isa or not {of, isa} & set(LAST):
                kernels = self.session(dict.fromkeys(numbers, name)).kernels
                found += [(number, name) for number in numbers if kernels[number] == name]
        return sorted(found, key=lambda choice: -choice[0])

    def attempt(self, number: int, name: str) -> None:
        """Take the kernel if it is faster in every look."""
        self.tried += 1
        kernels = {**self.kernels, number: name}
        rival, best = self.session(kernels), self.best
        for turns, most in LOOKS.items():
            ratio = _ratio(rival, best, self.image, turns)
            if ratio >= most:
                return
            # Opened again, both lie elsewhere in memory: luck does not come twice.
            rival, best = self.session(kernels), self.session(self.kernels)
        self.compare(rival, name)
        earlier = self.changes[number].ratio if number in self.changes else 1.0
        operation = operation_text(self.program.instructions[number].operation)
        before = self.untuned.kernels[number] or JOINED
        self.changes[number] = Change(number, operation, before, name, earlier * ratio)
        self.kernels, self.best = kernels, rival

    def ratio(self) -> float:
        """Of the time with all changes and without any."""
        return _ratio(self.session(self.kernels), self.session({}), self.image, max(LOOKS))

    def compare(self, rival: Session, name: str) -> None:
        found = rival(self.image)
        allowed = 0.0 if self.program.exact else TOLERANCE * max(1.0, float(np.abs(self.logits).max()))
        difference = float(np.abs(found - self.logits).max())
        if not difference <= allowed:
            raise ModelFileError(
                self.where,
                f"gives logits that differ by {difference:.1e} with the kernel {name} (allowed {allowed:.1e})",
                "pack without --tune, and report this machine",
            )


def _ratio(rival: Session, best: Session, image: Array, turns: int) -> float:
    """How many times the best one's time the rival takes; no less than 1 where a turn in four says it is slower."""
    calls: dict[str, Callable[[], object]] = {"rival": lambda: rival(image), "best": lambda: best(image)}
    timings = in_turns(calls, turns=turns, turn_s=TURN_S, slow_s=SLOW_S)
    ratio, (_, most) = timings["rival"].ratio(timings["best"])
    return ratio if most < 1 else max(ratio, most)
