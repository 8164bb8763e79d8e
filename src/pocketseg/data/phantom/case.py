"""One synthetic image with its mask, one function a step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pocketseg.data.phantom.patient import draw_anatomy
from pocketseg.data.phantom.probe import acoustic_grid, grow_lesion, lay_tissue, place_probe
from pocketseg.data.phantom.shapes import VIEW, Bytes, stream
from pocketseg.data.phantom.sound import (
    decibels,
    electronic_noise,
    gain_by_depth,
    log_compress,
    loss_on_the_way,
    point_spread,
    scatter,
    to_pixels,
)


@dataclass(frozen=True)
class PhantomCase:
    """One image (uint8 (h, w)) and its mask (uint8 (h, w), 1 inside the lesion)."""

    name: str
    patient: str
    image: Bytes
    mask: Bytes


def phantom_case(seed: int, patient: int, view: int, size: int = 128) -> PhantomCase:
    """One view of one patient, `size` x `size` pixels; patients and views count from 1.

    Example:
        >>> case = phantom_case(seed=0, patient=12, view=2, size=64)
        >>> case.name, case.image.shape, int(case.mask.max())
        ('patient-012_view-2', (64, 64), 1)
    """
    anatomy = draw_anatomy(seed, patient)
    rng = stream(seed, VIEW, patient, view)
    grid = acoustic_grid(size)
    body = place_probe(rng, grid)
    medium, inside = grow_lesion(lay_tissue(anatomy, body), anatomy.lesion, body)
    pulse = point_spread(grid)
    echo = pulse.spread(scatter(rng, medium)) * decibels(-loss_on_the_way(medium, pulse, grid))
    received = (echo + electronic_noise(rng, grid)) * decibels(gain_by_depth(rng, grid))
    gray = log_compress(np.abs(received), dynamic_range_db=rng.uniform(50, 60))
    image = np.rint(255 * to_pixels(gray)).astype(np.uint8)
    mask = (to_pixels(inside) >= 0.5).astype(np.uint8)
    return PhantomCase(f"patient-{patient:03d}_view-{view}", f"patient-{patient:03d}", image, mask)
