"""Clips of B-mode ultrasound: a lesion that moves with breathing and pulsates, with fresh noise in each frame.

The body is that of `ultrasound.py`, one view drawn larger than the frame. A smooth shift moves the whole, as a probe on
a breathing patient sees it, and a swelling around the lesion at the rate of a heart.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
from numpy.typing import NDArray

from pocketseg.data.phantom.case import PhantomCase
from pocketseg.data.phantom.shapes import CLIP, stream
from pocketseg.data.phantom.ultrasound import phantom_case

RATE, SECONDS = 25.0, 30.0
# Of the frame's side: the largest shift, and around it a margin that is never shown.
SHIFT, MARGIN = 0.08, 0.1
BREATH_S, BEAT_S = 4.0, 0.8
# Of the distance from the lesion's middle, at its rim.
SWELLING = 0.05
# Standard deviation of what changes from frame to frame, in gray values.
NOISE = 8.0

README = """# Synthetic ultrasound clips

{cases} clips of {groups} invented patients with lesion masks, made by `pocketseg phantom`
(seed {seed}, {size} x {size} pixels, 30 s at 25 frames a second). No person was imaged; not for medical use.

- `images/NAME.mp4`: MPEG-4 Part 2, gray
- `masks/NAME.tif`: a page for each frame, 255 in the lesion, 0 elsewhere
"""


def cine(seed: int, size: int, seconds: float = SECONDS) -> Iterator[PhantomCase]:
    """A clip of each patient who has a lesion, without end; image and mask are (h, w, frames)."""
    for patient in count(1):
        body = phantom_case(seed, patient, 1, round(size * (1 + 2 * MARGIN)))
        if body.mask.any():
            frames = list(_frames(seed, patient, body, size, seconds))
            images, masks = (np.stack(each, axis=-1) for each in zip(*frames, strict=True))
            yield PhantomCase(f"{body.group}_clip", body.group, images, masks)


def _frames(
    seed: int, patient: int, body: PhantomCase, size: int, seconds: float
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Image and mask of each frame."""
    rng = stream(seed, CLIP, patient)
    image, mask = body.image.astype(np.float32), body.mask.astype(np.float32)
    z, x = np.mgrid[:size, :size].astype(np.float32) + np.float32(MARGIN * size)
    middle_z, middle_x = (float(np.mean(each)) for each in np.nonzero(body.mask))
    radius = float(np.sqrt(body.mask.sum() / np.pi))
    near = np.exp(-((z - middle_z) ** 2 + (x - middle_x) ** 2) / (2 * (2 * radius) ** 2))
    for number in range(round(seconds * RATE)):
        breath, beat = (2 * np.pi * number / RATE / period for period in (BREATH_S, BEAT_S))
        down, aside = SHIFT * size * np.sin(breath), 0.4 * SHIFT * size * np.sin(breath / 2 + 1)
        swelling = SWELLING * np.sin(beat) * near
        at_z = z + down - swelling * (z - middle_z)
        at_x = x + aside - swelling * (x - middle_x)
        seen = _sampled(image, at_z, at_x) + rng.normal(0, NOISE, (size, size)).astype(np.float32)
        yield np.clip(np.rint(seen), 0, 255).astype(np.uint8), (_sampled(mask, at_z, at_x) >= 0.5).astype(np.uint8)


def _sampled(values: NDArray[np.float32], z: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values at places between pixels, bilinear."""
    z, x = (np.clip(at, 0, side - 1.001) for at, side in zip((z, x), values.shape, strict=True))
    top, left = z.astype(np.intp), x.astype(np.intp)
    down, right = z - top, x - left
    above = values[top, left] * (1 - right) + values[top, left + 1] * right
    below = values[top + 1, left] * (1 - right) + values[top + 1, left + 1] * right
    sampled: NDArray[np.float32] = above * (1 - down) + below * down
    return sampled
