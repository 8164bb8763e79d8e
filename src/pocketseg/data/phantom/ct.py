"""Synthetic CT of the upper abdomen: one volume with the masks of an organ and its lesions, one function a step.

- trunk: fat below the skin, a wall of muscle, fat between the organs, a spine, on a table;
- organ: a liver in contrast, of two lobes with vessels; lesions in it are darker;
- neighbors with the values of organ and lesion: spleen, stomach, bowel, gallbladder, kidneys, large vessels;
- voxels: slices thicker than pixels are wide; values in Hounsfield units (Kalender 2011);
- noise: that of filtered back projection (Kijewski and Judy 1987).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from math import exp, log, pi

import numpy as np

from pocketseg.data.phantom.case import PhantomCase
from pocketseg.data.phantom.patient import has_lesion
from pocketseg.data.phantom.shapes import VOLUME, Bytes, Field, along, beyond, stream

ORGAN, LESION = 1, 2
VOLUMES_PER_EMPTY = 4  # one volume in four has no lesion
HEIGHT_MM = 190.0
AIR, FAT, MUSCLE, BONE = -1000.0, -100.0, 55.0, 320.0  # Hounsfield units (Kalender 2011)
SOFT_MM = 1.2  # half width of every margin: what a voxel at a border averages

README = """# Synthetic CT

{cases} volumes of {groups} invented patients with the masks of a large organ and its lesions, made by
`pocketseg phantom --kind ct` (seed {seed}, {size} x {size} pixels a slice). No person was imaged; not for medical use.

- `images/NAME.nii.gz`: 16-bit Hounsfield units; the voxel size of each patient is in the header
- `masks/NAME.nii.gz`: 1 in the organ, 2 in its lesions, 0 elsewhere; one volume in four has no lesion
"""


@dataclass(frozen=True)
class Space:
    """Where the voxels are, in mm from the middle: x to the patient's left, y to the back, z to the head."""

    x: Field  # (n, 1, 1)
    y: Field  # (1, n, 1)
    z: Field  # (1, 1, slices)

    def ellipsoid(self, center: tuple[float, float, float], radii: tuple[float, float, float]) -> Field:
        """Distance to its surface, negative inside; true at the surface of a ball, near it elsewhere."""
        axes = zip((self.x, self.y, self.z), center, radii, strict=True)
        squares = [((at - middle) / radius) ** 2 for at, middle, radius in axes]
        edge: Field = (np.sqrt(squares[0] + squares[1] + squares[2]) - 1) * min(radii)
        return edge

    def tube(self, x: Field | float, y: Field | float, radius: float) -> Field:
        """The same of a tube along z, whose middle may wander."""
        edge: Field = np.hypot(self.x - x, self.y - y) - radius
        return edge

    def ripples(self, rng: np.random.Generator, length_mm: float, waves: int = 8) -> Field:
        """Smooth random field of unit variance: plane waves with random directions (Rahimi and Recht 2007)."""
        total = np.zeros(np.broadcast_shapes(self.x.shape, self.y.shape, self.z.shape), np.float32)
        for *turns, phase in np.c_[rng.normal(size=(waves, 3)) / length_mm, rng.uniform(0, 2 * pi, waves)].tolist():
            total += np.cos(turns[0] * self.x + turns[1] * self.y + turns[2] * self.z + phase)
        return total * np.float32(np.sqrt(2 / waves))


@dataclass
class Body:
    """Hounsfield units and class of each voxel; what is painted hides what was there."""

    hu: Field
    mask: Bytes = field(init=False)

    def __post_init__(self) -> None:
        self.mask = np.zeros(self.hu.shape, np.uint8)

    def paint(self, edge_mm: Field, hu: Field | float, index: int | None = 0) -> None:
        """Tissue where the distance is negative; None leaves the class as it is."""
        weight = beyond(-edge_mm, SOFT_MM)
        self.hu += weight * (hu - self.hu)
        if index is not None:
            self.mask[np.broadcast_to(edge_mm < 0, self.mask.shape)] = index


def ct(seed: int, size: int) -> Iterator[PhantomCase]:
    """The volume of every patient, without end."""
    return (ct_case(seed, patient, size) for patient in count(1))


def ct_case(seed: int, patient: int, size: int = 128) -> PhantomCase:
    """The volume of one patient, `size` x `size` pixels and 24 to 38 slices; patients count from 1.

    Example:
        >>> case = ct_case(seed=0, patient=1, size=64)
        >>> case.name, case.image.dtype.name, case.image.shape[:2], int(case.mask.max())
        ('patient-001', 'int16', (64, 64), 2)
    """
    rng = stream(seed, VOLUME, patient)
    width, depth = rng.uniform(135, 180), rng.uniform(95, 130)
    spacing = (rng.uniform(390, 450) / size,) * 2 + (float(rng.choice([5.0, 6.0, 8.0])),)
    at = lay_grid(size, spacing, middle=tuple(rng.uniform((-12, -25, -15), (12, 25, 15)).tolist()))
    body = draw_trunk(rng, at, width, depth)
    organ = draw_organ(rng, at, body, width, depth)
    if has_lesion(seed, patient, VOLUMES_PER_EMPTY):
        draw_lesions(rng, at, body, organ)
    draw_neighbors(rng, at, body, width, depth)
    noise = rng.uniform(12, 22) * reconstruction_noise(rng, body.hu.shape)
    image = np.clip(np.rint(body.hu + noise), -1024, 3071).astype(np.int16)
    name = f"patient-{patient:03d}"
    return PhantomCase(name, name, image, body.mask, spacing)


def lay_grid(size: int, spacing_mm: tuple[float, ...], middle: tuple[float, ...] = (0.0, 0.0, 0.0)) -> Space:
    """The grid whose middle lies at `middle` of the body: nobody lies in the middle of the scanner."""
    counts = (size, size, round(HEIGHT_MM / spacing_mm[2]))
    x, y, z = (
        ((np.arange(n) - (n - 1) / 2) * mm + at).astype(np.float32)
        for n, mm, at in zip(counts, spacing_mm, middle, strict=True)
    )
    return Space(x[:, None, None], y[None, :, None], z[None, None, :])


def draw_trunk(rng: np.random.Generator, at: Space, width: float, depth: float) -> Body:
    """Air, the table, fat below the skin, the wall of muscle, and the fat between the organs."""
    edge = trunk_edge(at, width, depth) + 6 * at.ripples(rng, 60.0)
    body = Body(np.full(edge.shape, AIR, np.float32))
    body.hu += 350 * along(at.y - depth - 14, 2.0) * beyond(width - abs(at.x), 2.0)
    fat = rng.uniform(8, 22)
    body.paint(edge, FAT)
    body.paint(edge + fat, MUSCLE)
    body.paint(edge + fat + rng.uniform(9, 14), FAT + 10 * at.ripples(rng, 15.0))
    return body


def trunk_edge(at: Space, width: float, depth: float) -> Field:
    edge: Field = (np.sqrt((at.x / width) ** 2 + (at.y / depth) ** 2) - 1) * depth
    return edge


def draw_organ(rng: np.random.Generator, at: Space, body: Body, width: float, depth: float) -> Field:
    """A liver: a right and a left lobe below the ribs, with vessels in contrast; gives the distance to its border."""
    x, y, z = rng.uniform((-0.46, -0.15, 5), (-0.38, 0.0, 30)).tolist()
    right = at.ellipsoid((x * width, y * depth, z), (0.42 * width, 0.55 * depth, rng.uniform(65, 85)))
    left = at.ellipsoid((0.02 * width, -0.4 * depth, z + 15), (0.38 * width, 0.22 * depth, rng.uniform(35, 50)))
    edge: Field = np.minimum(right, left) + rng.uniform(2, 5) * at.ripples(rng, 22.0)
    edge = np.maximum(edge, trunk_edge(at, width, depth) + 34)
    level = rng.uniform(75, 140)
    body.paint(edge, level + 4 * at.ripples(rng, 10.0), ORGAN)
    vessels = along(at.ripples(rng, 16.0), 0.1) * along(at.ripples(rng, 16.0), 0.25)
    body.hu += rng.uniform(40, 70) * vessels * beyond(-edge - 6, 3.0)
    return edge


def draw_lesions(rng: np.random.Generator, at: Space, body: Body, organ: Field) -> None:
    """One to five darker, uneven balls with their middle in the organ; radius log-uniform from 8 to 24 mm."""
    contrast = rng.uniform(-65, -35)
    for _ in range(rng.integers(1, 5, endpoint=True)):
        radius = exp(rng.uniform(log(8), log(24)))
        places = np.argwhere(organ < -0.7 * radius)
        if not len(places):
            continue
        i, j, k = places[rng.integers(len(places))]
        center = float(at.x[i, 0, 0]), float(at.y[0, j, 0]), float(at.z[0, 0, k])
        radii = tuple((radius * rng.uniform(0.8, 1.2, 3)).tolist())
        edge = np.maximum(at.ellipsoid(center, radii) + 0.08 * radius * at.ripples(rng, 8.0), organ)
        level = float(np.median(body.hu[body.mask == ORGAN])) + contrast * rng.uniform(0.8, 1.2)
        body.paint(edge, level, LESION)


def draw_neighbors(rng: np.random.Generator, at: Space, body: Body, width: float, depth: float) -> None:
    """What looks like the organ or a lesion and is neither: spleen, stomach, bowel, gallbladder, kidneys, vessels."""
    wall = trunk_edge(at, width, depth) + 34
    for _ in range(rng.integers(4, 8)):
        center = rng.uniform((-0.5, -0.6, -110), (0.6, 0.1, -40)) * (width, depth, 1)
        draw_within(body, at.ellipsoid(tuple(center), tuple(rng.uniform(12, 32, 3))), wall, rng.uniform(20, 110))
    spleen = at.ellipsoid((0.58 * width, 0.25 * depth, 25), (0.2 * width, 0.35 * depth, rng.uniform(40, 60)))
    draw_within(body, spleen + 3 * at.ripples(rng, 22.0), wall, rng.uniform(80, 140))
    stomach = at.ellipsoid((0.4 * width, -0.3 * depth, 20), (0.25 * width, 0.3 * depth, 45)) + 2 * at.ripples(rng, 25.0)
    draw_within(body, stomach, wall, rng.uniform(60, 90))
    draw_within(body, stomach + 5, wall, rng.uniform(5, 60))
    draw_within(body, np.maximum(stomach + 5, at.y + rng.uniform(0.3, 0.5) * depth), wall, AIR + 100)
    bladder = at.ellipsoid((rng.uniform(-0.4, -0.2) * width, -0.35 * depth, -45), (16, 20, 28))
    draw_within(body, bladder, wall, rng.uniform(5, 25))
    for side in (-1, 1):
        kidney = at.ellipsoid((side * 0.42 * width, 0.42 * depth, -30 + 10 * side), (27, 25, rng.uniform(48, 60)))
        draw_within(body, kidney, wall, rng.uniform(150, 190))
        draw_within(body, kidney + 14, wall, rng.uniform(20, 60))
    draw_within(body, at.tube(8 + 4 * np.sin(at.z / 40), 0.28 * depth, 11), wall, 165)
    draw_within(body, at.tube(-20, 0.22 * depth, 12), wall, 135)
    body.paint(at.tube(0, 0.52 * depth, 19), BONE - 120 + 40 * at.ripples(rng, 4.0))
    body.paint(abs(at.tube(0, 0.52 * depth, 19)) - 1.5, BONE)
    body.paint(at.tube(0, 0.52 * depth + 27, 8), 30)


def draw_within(body: Body, edge_mm: Field, wall_mm: Field, hu: float) -> None:
    body.paint(np.maximum(edge_mm, wall_mm), hu)


def reconstruction_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Field:
    """Unit variance, slice by slice; its power is a ramp that the kernel cuts off (Kijewski and Judy 1987)."""
    rows, columns = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    frequency = np.hypot(rows, columns)
    transfer = np.sqrt(frequency) * np.exp(-((frequency / 0.35) ** 2))
    white = np.fft.rfft2(rng.standard_normal(shape, dtype=np.float32), axes=(0, 1))
    noise: Field = np.fft.irfft2(white * transfer[..., None], s=shape[:2], axes=(0, 1))
    noise /= noise.std()
    return noise
