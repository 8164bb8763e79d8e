"""Makes the profile of this machine: untrained nets of every width and kind are packed and timed by the engine."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from pocketseg.engine.session import Session
from pocketseg.pipeline import Pipeline
from pocketseg.predictors import default_threads
from pocketseg.search import shapes
from pocketseg.search.costs import packed_untrained
from pocketseg.search.profile import DEEP, MIDDLE, SHALLOW, SIDES, Profile
from pocketseg.search.shapes import FLOAT, Shape
from pocketseg.timing import in_turns
from pocketseg.version import VERSION

USUAL = Pipeline(classes=("foreground",), channels=1, size=(128, 128))
# What no estimate rests on: other sides, levels, channels and classes.
OTHER = Pipeline(classes=("one", "two", "three"), channels=3, size=(96, 160))
OTHER_BLOCKS = 4
TURNS, TURN_S = 5, 0.02


def profile_here(threads: int = 0, progress: Callable[[int, int], None] | None = None) -> Profile:
    """Time this machine's engine.

    Args:
        threads: of the engine; 0: as `predict` takes.
        progress: called with (done, of).
    """
    threads = threads or default_threads()
    kinds = [*shapes.KINDS, *((conv, FLOAT) for conv in dict.fromkeys(conv for conv, _ in shapes.KINDS))]
    every = [Shape(width, DEEP, conv, bits) for conv, bits in kinds for width in shapes.WIDTHS]
    deep, shallow, seen = dict[str, list[float]](), dict[str, float](), dict[Shape, float]()
    isa = ""
    for done, shape in enumerate(every):
        session = _session(shape, USUAL, threads)
        isa = session.isa
        deep[shape.name] = [round(each, 5) for each in _times(session, [(side, side) for side in SIDES])]
        less = Shape(shape.width, SHALLOW, shape.conv, shape.bits)
        side = SIDES[MIDDLE]
        shallow[less.name] = round(_times(_session(less, USUAL, threads), [(side, side)])[0], 5)
        if shape.width in (shapes.WIDTHS[0], shapes.WIDTHS[-1]):
            other = Shape(shape.width, OTHER_BLOCKS, shape.conv, shape.bits)
            seen[other] = _times(_session(other, OTHER, threads), [OTHER.size])[0]
        if progress:
            progress(done + 1, len(every))
    machine = f"{platform.machine()}, {platform.system()}"
    found = Profile(machine, threads, isa, VERSION, deep, shallow)
    errors = [round(found.estimate(shape, OTHER.size) / truth - 1, 4) for shape, truth in seen.items()]
    return replace(found, errors=errors)


def _session(shape: Shape, pipeline: Pipeline, threads: int) -> Session:
    return Session(packed_untrained(shape, pipeline), shape.name, threads)


def _times(session: Session, sizes: Sequence[tuple[int, int]]) -> list[float]:
    """Milliseconds for inputs (height, width), in turns."""
    images = {size: np.zeros((1, session.in_channels, *size), np.float32) for size in sizes}
    calls = {size: partial(session, image) for size, image in images.items()}
    return [each.median_ms for each in in_turns(calls, turns=TURNS, turn_s=TURN_S).values()]
