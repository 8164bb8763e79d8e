"""The frames of a video through a model, with what was seen just before where that is wanted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pocketseg.data.video import Frame
from pocketseg.predictors.base import Predictor


class SeenFrame(NamedTuple):
    """A frame, its mask as `Predictor.mask` gives it, and probabilities float32 (h, w, k)."""

    frame: Frame
    mask: NDArray[np.uint8]
    probabilities: NDArray[np.float32]


def seen_frames(predictor: Predictor, frames: Iterable[Frame], smooth_s: float = 0.0) -> Iterator[SeenFrame]:
    """Each frame with its mask.

    Args:
        predictor: the model.
        frames: in the order of their times.
        smooth_s: the time constant of the filter below; 0 takes each frame by itself.

    The filter is exponential and looks back alone, so that it can be used live. With the model's probabilities p of a
    frame that comes d seconds after the one before it,

        q = q_before + (1 - exp(-d / smooth_s)) * (p - q_before)

    and q begins as the first p. Masks are made of q by the model's own rules. What appears or goes at once reaches 63 %
    of its change after smooth_s, and what moves is drawn that much too late.
    """
    held: NDArray[np.float32] | None = None
    before = 0.0
    for frame in frames:
        if smooth_s <= 0:
            yield SeenFrame(frame, *predictor.both(frame.pixels))
            continue
        fresh = predictor.predict(frame.pixels)
        if held is None:
            held = fresh.copy()
        else:
            held += np.float32(-math.expm1(-(frame.seconds - before) / smooth_s)) * (fresh - held)
        before = frame.seconds
        yield SeenFrame(frame, predictor.pipeline.mask(held), held.copy())
