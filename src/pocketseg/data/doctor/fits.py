"""Whether images can be brought to the grid that a recipe asks for: what stops a training, before one begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pocketseg.data.case import Case
from pocketseg.errors import DataError, Problem
from pocketseg.pipeline import Pipeline

# A suggested size holds all images up to so many pixels a side, in steps that halve well; larger ones are tiled.
MAX_PADDED, STEP = 512, 32


def misfits(cases: Sequence[Case], shapes: Mapping[str, tuple[int, int]], pipeline: Pipeline) -> Iterator[Problem]:
    """What `data.fit`, `data.size` and `data.spacing_mm` do not allow.

    Args:
        cases: to be looked at.
        shapes: (height, width) of their images, by name.
        pipeline: of the recipe.
    """
    for case in cases:
        try:
            pipeline.placement(shapes[case.name], case.spacing_mm)
        except DataError as error:
            yield from error.about(case.image.where).coded("fit").problems


def to_one_spacing(cases: Sequence[Case], shapes: Mapping[str, tuple[int, int]]) -> str:
    """Options that bring all images to their median pixel size; empty where none would let a training begin."""
    if any(case.spacing_mm is None for case in cases):
        return ""
    spacings = np.array([case.spacing_mm for case in cases])
    middle = float(f"{np.median(np.sqrt(spacings.prod(axis=1))):.3g}")
    sides = np.array([shapes[case.name] for case in cases]) * spacings / middle
    height, width = (max(STEP, int(-(-side // STEP) * STEP)) for side in np.ceil(sides.max(axis=0)))
    options = f"--set 'data.spacing_mm=[{middle:g},{middle:g}]' --set data.fit="
    if max(height, width) <= MAX_PADDED:
        return f"{options}pad --set 'data.size=[{height},{width}]'"
    tiled = Pipeline((STEP, STEP), fit="tile", spacing_mm=(middle, middle))
    return "" if any(misfits(cases, shapes, tiled)) else f"{options}tile"
