"""A weight for every pixel of a mask, so that the gaps between touching objects are not drowned by their insides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pocketseg.layers import overlaps

# Objects closer than this many pixels have a border between them.
GAP = 20
FLOOR = 1 / 255

Bits = NDArray[np.bool_]


def border_weights(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """c / (1 + d)², with d the distance to the skeleton of the objects or of the borders between them (Zhang 2022).

    Inside objects d is measured to the skeleton of the eroded objects; in borders, which a closing by a disc of `GAP`
    pixels adds to the objects, to theirs. The class with the shorter skeleton has c = 1, the other the ratio of the
    lengths. Nothing is below `FLOOR`; there the published code leaves what is far from any object at 0, of which
    nothing would be learned.

    Args:
        mask: class indices (h, w); of planes (k, h, w) there are no borders, since objects may lie in others.

    Returns:
        (h, w), from `FLOOR` to 1.
    """
    from scipy import ndimage

    if overlaps(mask):
        raise ValueError("objects of classes that overlap have no borders between them")
    objects = mask > 0
    near = np.pad(objects, GAP)  # a closing at the image's rim would erode it
    closed = ndimage.binary_closing(near, _disc(GAP))[GAP:-GAP, GAP:-GAP]
    parts = objects, closed & ~objects
    skeletons = skeleton(ndimage.binary_erosion(objects)), skeleton(parts[1])
    lengths = [int(bones.sum()) for bones in skeletons]
    rarer = min((length for length in lengths if length), default=0)
    weights = np.full(mask.shape, FLOOR, np.float32)
    for part, bones, length in zip(parts, skeletons, lengths, strict=True):
        if length:
            apart = ndimage.distance_transform_edt(~bones)[part]
            weights[part] = np.maximum(rarer / length / (1 + apart) ** 2, FLOOR)
    return weights


def skeleton(shape: Bits) -> Bits:
    """What openings by a cross take away while a shape is eroded step by step (Lantuéjoul 1980); it may be broken."""
    from scipy import ndimage

    bones = np.zeros_like(shape)
    while shape.any():
        bones |= shape & ~ndimage.binary_opening(shape)
        shape = ndimage.binary_erosion(shape)
    return bones


def _disc(diameter: int) -> Bits:
    steps = np.arange(diameter) - (diameter - 1) / 2
    disc: Bits = np.hypot(steps[:, None], steps) <= diameter / 2
    return disc
