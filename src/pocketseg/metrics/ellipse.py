"""Ellipses around masks: the circumference that a biometry such as fetal head measurement asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketseg.metrics.objects import components
from pocketseg.metrics.optional import scipy_part
from pocketseg.metrics.overlap import require_one_shape

LEAST_POINTS = 6
HALF_ROW, HALF_COLUMN = np.array([0.5, 0.0]), np.array([0.0, 0.5])


@dataclass(frozen=True)
class Ellipse:
    """An ellipse; lengths in mm where a spacing was given, else in pixels.

    Attributes:
        center: (row, column); the center of the first pixel is 0.
        axes: half of the long and half of the short axis.
        angle: of the long axis in radians, from the direction of the columns toward that of the rows, −π/2 to π/2.
    """

    center: tuple[float, float]
    axes: tuple[float, float]
    angle: float

    @property
    def circumference(self) -> float:
        """By Ramanujan's second approximation, whose error is below 1e-4 where the long axis is twice the short one."""
        a, b = self.axes
        h = ((a - b) / (a + b)) ** 2
        return math.pi * (a + b) * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))


def fit_ellipse(mask: NDArray[np.bool_], spacing: tuple[float, float] | None = None) -> Ellipse | None:
    """The ellipse around the largest component of a mask, by least squares on its outline.

    The outline are the edges between pixels of the component and others; where the component touches the rim of the
    image, nothing is known of its outline, and nothing enters. Fitzgibbon et al. (1999) in the numerically stable form
    of Halir and Flusser (1998).

    Args:
        mask: bool (h, w).
        spacing: pixel size (row, column) in mm.

    Returns:
        None where no ellipse fits: an empty mask, a few pixels, a line.

    Raises:
        EnvironmentProblem: SciPy is not installed.

    Example:
        >>> row, column = np.mgrid[:80, :100]
        >>> found = fit_ellipse(((row - 40) / 20) ** 2 + ((column - 50) / 30) ** 2 <= 1)
        >>> [round(value, 1) for value in (*found.center, *found.axes, found.circumference)]
        [40.0, 50.0, 30.0, 20.0, 158.7]
    """
    points = _outline(mask) * (spacing or (1.0, 1.0))
    if len(points) < LEAST_POINTS:
        return None
    middle, scale = points.mean(axis=0), points.std() or 1.0
    conic = _conic((points - middle) / scale)
    return None if conic is None else _ellipse(conic, middle, scale)


def circumference_error(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], spacing: tuple[float, float] | None = None
) -> float:
    """How far the circumferences of the ellipses around two masks are apart, in mm where a spacing is given.

    The absolute difference, as the HC18 challenge averages it (van den Heuvel et al. 2018); nan where one of the masks
    has no ellipse.

    Raises:
        ValueError: masks of two shapes.
        EnvironmentProblem: SciPy is not installed.
    """
    require_one_shape(prediction, reference)
    found, wanted = fit_ellipse(prediction, spacing), fit_ellipse(reference, spacing)
    return math.nan if found is None or wanted is None else abs(found.circumference - wanted.circumference)


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Middles (n, 2) of the edges between pixels of the largest component and others; holes are filled beforehand."""
    if not mask.any():
        return np.empty((0, 2))
    labels, _ = components(mask)
    largest = labels == np.bincount(labels[labels > 0]).argmax()
    solid = scipy_part("ndimage").binary_fill_holes(largest)
    vertical = np.argwhere(solid[1:] != solid[:-1]) + HALF_ROW
    horizontal = np.argwhere(solid[:, 1:] != solid[:, :-1]) + HALF_COLUMN
    return np.concatenate([vertical, horizontal])


def _conic(points: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Coefficients of x², xy, y², x, y, 1 of the ellipse with the least algebraic distance; x is the column."""
    y, x = points.T
    quadratic = np.stack([x * x, x * y, y * y], axis=1)
    linear = np.stack([x, y, np.ones_like(x)], axis=1)
    s1, s2, s3 = quadratic.T @ quadratic, quadratic.T @ linear, linear.T @ linear
    if np.linalg.cond(s3) > 1e12:
        return None  # all points lie on a line
    onto = -np.linalg.solve(s3, s2.T)
    reduced = s1 + s2 @ onto
    # The inverse of the constraint 4ac − b² = 1 times the reduced scatter.
    system = np.stack([reduced[2] / 2, -reduced[1], reduced[0] / 2])
    _, vectors = np.linalg.eig(system)
    vectors = vectors.real
    (ellipses,) = np.nonzero(4 * vectors[0] * vectors[2] - vectors[1] ** 2 > 0)
    if not ellipses.size:
        return None
    best = vectors[:, ellipses[0]]
    return np.concatenate([best, onto @ best])


def _ellipse(conic: NDArray[np.float64], middle: NDArray[np.float64], scale: float) -> Ellipse | None:
    """Center and axes of a conic in points that were moved by `middle` and divided by `scale`."""
    a, b, c, d, e, f = conic
    matrix = np.array([[a, b / 2], [b / 2, c]])
    center = np.linalg.solve(matrix, [-d / 2, -e / 2])
    constant = f + (d * center[0] + e * center[1]) / 2
    values, vectors = np.linalg.eigh(matrix)
    squares = -constant / values
    if not (squares > 0).all():
        return None
    long, short = (1, 0) if squares[1] > squares[0] else (0, 1)
    x, y = vectors[:, long]
    angle = math.atan2(y, x)
    angle -= math.pi * round(angle / math.pi)
    half = scale * np.sqrt(squares)
    row, column = middle + scale * center[::-1]
    return Ellipse((float(row), float(column)), (float(half[long]), float(half[short])), angle)
