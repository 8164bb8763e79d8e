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

USUAL = Pipeline(classes=("one",), channels=1, size=(128, 128))
MORE_CHANNELS, MORE_CLASSES = replace(USUAL, channels=3), replace(USUAL, classes=("one", "two"))
# What no estimate rests on: another size, other levels and classes.
OTHER = Pipeline(classes=("one", "two", "three", "four"), channels=3, size=(96, 160))
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
    deep, shallow, channel, logit = dict[str, list[float]](), dict[str, float](), dict[str, float](), dict[str, float]()
    seen = dict[Shape, float]()
    middle = (SIDES[MIDDLE], SIDES[MIDDLE])
    isa = ""
    for done, shape in enumerate(every):
        session = _session(shape, USUAL, threads)
        isa = session.isa
        deep[shape.name] = _times(session, [(side, side) for side in SIDES])
        less = replace(shape, blocks=SHALLOW)
        (shallow[less.name],) = _times(_session(less, USUAL, threads), [middle])
        for pipeline, found in ((MORE_CHANNELS, channel), (MORE_CLASSES, logit)):
            (took,) = _times(_session(shape, pipeline, threads), [middle])
            more = pipeline.channels + pipeline.logits - USUAL.channels - USUAL.logits
            found[shape.name] = max(0.0, round((took - deep[shape.name][MIDDLE]) / more, 5))
        if shape.width in (shapes.WIDTHS[0], shapes.WIDTHS[-1]):
            other = replace(shape, blocks=OTHER_BLOCKS)
            (seen[other],) = _times(_session(other, OTHER, threads), [OTHER.size])
        if progress:
            progress(done + 1, len(every))
    machine = f"{platform.machine()}, {platform.system()}"
    made = Profile(machine, threads, isa, VERSION, deep, shallow, channel, logit)
    estimates = {shape: made.estimate(shape, OTHER.size, OTHER.channels, OTHER.logits) for shape in seen}
    return replace(made, errors=[round(estimates[shape] / took - 1, 4) for shape, took in seen.items()])


def _session(shape: Shape, pipeline: Pipeline, threads: int) -> Session:
    return Session(packed_untrained(shape, pipeline), shape.name, threads)


def _times(session: Session, sizes: Sequence[tuple[int, int]]) -> list[float]:
    """Milliseconds for inputs (height, width), in turns; of the quickest, when least else was going on."""
    images = {size: np.zeros((1, session.in_channels, *size), np.float32) for size in sizes}
    calls = {size: partial(session, image) for size, image in images.items()}
    return [round(min(each.turns_ms), 5) for each in in_turns(calls, turns=TURNS, turn_s=TURN_S).values()]
