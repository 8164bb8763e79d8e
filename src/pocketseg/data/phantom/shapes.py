"""Random numbers and smooth random shapes; lengths are mm in tissue and pixels on a slide."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray

VIEW_MM = 40.0  # depth and width of the picture

Field = NDArray[np.floating]  # float32; (rows, beams) of the acoustic grid, or what broadcasts to it
Echo = NDArray[np.complexfloating]  # complex64; the same for the demodulated echo: in-phase + i quadrature
Bytes = NDArray[np.uint8]
Range = tuple[float, float]

ANATOMY, VIEW, VIEWS, EMPTY, SLIDE, FIELD, FIELDS, VOLUME, CLIP = range(9)  # what a stream is for


def stream(seed: int, *key: int) -> np.random.Generator:
    """Each key has its own counter-based generator (Salmon et al. 2011), so no case waits for another."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


@dataclass(frozen=True)
class Points:
    """Where the points of the grid are: x along the probe from its middle, z below its face; or column and row."""

    x: Field
    z: Field


@dataclass(frozen=True)
class Ripples:
    """Smooth random field of unit variance: plane waves with random directions (Rahimi and Recht 2007)."""

    waves: NDArray[np.float64]  # (n, 3): radians per unit along x and along z, phase

    def __call__(self, at: Points) -> Field:
        total = np.zeros_like(at.x)
        for kx, kz, phase in self.waves.tolist():
            total += np.cos(kx * at.x + kz * at.z + phase)
        return total * sqrt(2 / len(self.waves))


def draw_ripples(rng: np.random.Generator, x: float, z: float = np.inf, waves: int = 14) -> Ripples:
    """Correlation lengths `x` and `z`; infinity means constant along that axis."""
    kx, kz = rng.normal(size=(2, waves)) / np.array([[x], [z]])
    return Ripples(np.stack([kx, kz, rng.uniform(0, 2 * pi, waves)], axis=1))


@dataclass(frozen=True)
class Blob:
    """A closed outline: an ellipse times a Fourier series in the angle."""

    x: float
    z: float
    radius: float  # of the circle of equal area
    aspect: float  # width over height, before the tilt
    tilt: float
    bumps: tuple[tuple[int, float, float], ...]  # order, amplitude, phase

    def shape(self, angle: Field) -> Field:
        radius: Field = 1 / np.sqrt(np.cos(angle) ** 2 / self.aspect + np.sin(angle) ** 2 * self.aspect)
        radius *= 1 + sum(a * np.cos(order * angle + phase) for order, a, phase in self.bumps)
        return radius

    def edge(self, at: Points) -> Field:
        """Distance to the outline along the radius, negative inside."""
        turn = np.linspace(0, 2 * pi, 256, endpoint=False, dtype=np.float32)
        scale = self.radius / sqrt(np.mean(self.shape(turn) ** 2))
        u, v = rotate(at.x - self.x, at.z - self.z, self.tilt)
        distance: Field = np.hypot(u, v)
        return distance - scale * self.shape(np.arctan2(v, u))


def draw_blob(
    rng: np.random.Generator, x: float, z: float, radius: float, aspect: Range, rough: Range, orders: int
) -> Blob:
    """Bumps of order 2 to `orders`, the quicker the smaller."""
    size = rng.uniform(*rough)
    bumps = [(k, size * rng.normal() * (2 / k) ** 0.8, rng.uniform(0, 2 * pi)) for k in range(2, orders + 1)]
    return Blob(x, z, radius, rng.uniform(*aspect), rng.normal(0, 0.2), tuple(bumps))


def rotate(x: Field, z: Field, angle: float) -> tuple[Field, Field]:
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    return cos * x + sin * z, cos * z - sin * x


def beyond(distance: Field, soft: float) -> Field:
    """0 on the negative side, 1 on the positive side, `soft` the half width between."""
    weight: Field = 0.5 + 0.5 * np.tanh(distance / soft)
    return weight


def along(distance: Field, width: float) -> Field:
    """1 on the line, falling off like a Gaussian of that standard deviation."""
    weight: Field = np.exp(-0.5 * (distance / width) ** 2)
    return weight
