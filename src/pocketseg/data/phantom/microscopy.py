"""Synthetic fluorescence microscopy: one field of a slide with the mask of its cell nuclei, one function a step.

- slide: size, density and brightness of the nuclei, lamp and focus are common to its fields;
- nuclei: bumpy ellipses with clumped stain, alone or in clusters (Lehmussola et al. 2007);
- haze: nuclei above and below the plane, out of focus; specks of stain that are no nuclei;
- light: uneven, so that a nucleus in a corner may be darker than the background below the lamp;
- optics: a Gaussian point spread; camera: photons by chance, reading noise, 8 bits (Janesick 2007).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from math import pi

import numpy as np

from pocketseg.data.phantom.case import PhantomCase
from pocketseg.data.phantom.shapes import (
    FIELD,
    FIELDS,
    SLIDE,
    Blob,
    Bytes,
    Field,
    Points,
    beyond,
    draw_blob,
    draw_ripples,
    stream,
)

MAX_FIELDS = 6
MARGIN = 32  # pixels simulated around the field and cut off: nuclei reach in, and no filter wraps
GAP = 2.0  # pixels of background between touching nuclei in the mask, so that each is an object
SHAPES = ((1, 4 / 3), (1, 1), (5 / 4, 5 / 3))  # of the cameras: height and width in units of the size
FULL_WELL = 1.2  # gray 255 in units of a bright nucleus

README = """# Synthetic fluorescence microscopy

{cases} pictures of {groups} invented slides with the masks of cell nuclei, made by
`pocketseg phantom --kind microscopy` (seed {seed}, shortest side {size} pixels).
No sample was imaged; not for medical use.

- `images/NAME.png`: 8-bit gray, of several sizes
- `masks/NAME.png`: 255 in nuclei, 0 elsewhere; between touching nuclei two pixels are 0
- `slides.csv`: `case,slide`; fields of one slide belong on one side of a split
"""


@dataclass(frozen=True)
class Slide:
    """What the fields of a slide have in common; lengths in pixels, brightness in units of a bright nucleus."""

    shape: tuple[int, int]
    radius: float
    clusters: float  # for each 10,000 pixels
    photons: float  # of a bright nucleus
    background: float
    haze: float  # of nuclei above and below the plane
    blur: float  # standard deviation of the point spread
    center: tuple[float, float]  # of the lamp, in half heights and widths from the middle
    shade: float  # share of the light that the corners have lost


def microscopy(seed: int, size: int) -> Iterator[PhantomCase]:
    """Every field of every slide, without end."""
    for slide in count(1):
        last = int(stream(seed, FIELDS, slide).integers(2, MAX_FIELDS, endpoint=True))
        yield from (field_case(seed, slide, field, size) for field in range(1, last + 1))


def field_case(seed: int, slide: int, field: int, size: int = 384) -> PhantomCase:
    """One field of a slide, its shortest side `size` pixels or a quarter more; slides and fields count from 1.

    Example:
        >>> case = field_case(seed=0, slide=3, field=2, size=96)
        >>> case.name, case.group, case.image.shape, int(case.mask.max())
        ('slide-003_field-2', 'slide-003', (96, 128), 1)
    """
    drawn = draw_slide(seed, slide, size)
    rng = stream(seed, FIELD, slide, field)
    stain, mask = paint(rng, place_nuclei(rng, drawn), drawn)
    haze, _ = paint(rng, place_nuclei(rng, drawn), drawn)
    light = stain + drawn.haze * blurred(haze, 1.2 * drawn.radius) + debris(rng, drawn)
    light = (light + drawn.background) * illumination(drawn)
    image = camera(rng, blurred(light, drawn.blur), drawn.photons)
    return PhantomCase(f"slide-{slide:03d}_field-{field}", f"slide-{slide:03d}", inner(image), inner(mask))


def draw_slide(seed: int, slide: int, size: int) -> Slide:
    rng = stream(seed, SLIDE, slide)
    height, width = SHAPES[rng.integers(len(SHAPES))]
    return Slide(
        shape=(round(height * size), round(width * size)),
        radius=rng.uniform(8, 13),
        clusters=rng.uniform(0.8, 2.2),
        photons=rng.uniform(40, 160),
        background=rng.uniform(0.1, 0.35),
        haze=rng.uniform(0.6, 1.1),
        blur=rng.uniform(0.8, 1.6),
        center=(rng.uniform(-0.6, 0.6), rng.uniform(-0.6, 0.6)),
        shade=rng.uniform(0.5, 0.8),
    )


def canvas(slide: Slide) -> Points:
    """Every pixel of the field and its margin, in pixels from the field's top left corner."""
    rows, columns = (np.arange(-MARGIN, side + MARGIN, dtype=np.float32) for side in slide.shape)
    return Points(*np.meshgrid(columns, rows))


def place_nuclei(rng: np.random.Generator, slide: Slide) -> list[Blob]:
    """Clusters of touching nuclei: each new one lies beside one that is there, where there is room."""
    height, width = (side + 2 * MARGIN for side in slide.shape)
    nuclei: list[Blob] = []
    for _ in range(max(1, rng.poisson(slide.clusters * height * width / 1e4))):
        cluster: list[Blob] = []
        for _ in range(rng.geometric(0.45)):
            radius = slide.radius * np.exp(rng.normal(0, 0.18))
            if cluster:
                beside, angle = cluster[rng.integers(len(cluster))], rng.uniform(0, 2 * pi)
                step = 0.98 * (beside.radius + radius)
                x, z = beside.x + step * np.cos(angle), beside.z + step * np.sin(angle)
            else:
                x, z = rng.uniform(-MARGIN, width - MARGIN), rng.uniform(-MARGIN, height - MARGIN)
            nucleus = draw_blob(rng, x, z, radius, aspect=(0.65, 1.5), rough=(0.0, 0.06), orders=4)
            nucleus = replace(nucleus, tilt=rng.uniform(0, pi))
            if all(np.hypot(x - other.x, z - other.z) > 0.97 * (radius + other.radius) for other in nuclei):
                nuclei.append(nucleus)
                cluster.append(nucleus)
    return nuclei


def paint(rng: np.random.Generator, nuclei: list[Blob], slide: Slide) -> tuple[Field, Bytes]:
    """Stain of chromatin, clumped and of another amount in each nucleus; and where the nuclei are."""
    whole = canvas(slide)
    stain = np.zeros_like(whole.x)
    nearest, second = (np.full_like(stain, 1e6) for _ in range(2))
    for nucleus in nuclei:
        window = around(nucleus, stain.shape)
        at = Points(whole.x[window], whole.z[window])
        edge = nucleus.edge(at)
        clumps = draw_ripples(rng, x=2.5, z=2.5)(at)
        stain[window] += rng.uniform(0.3, 1.0) * beyond(-edge, 1.0) * np.clip(1 + 0.2 * clumps, 0.3, None)
        second[window] = np.minimum(second[window], np.maximum(nearest[window], edge))
        nearest[window] = np.minimum(nearest[window], edge)
    return stain, ((nearest < 0) & (second - nearest > GAP)).astype(np.uint8)


def around(nucleus: Blob, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The part of the canvas that a nucleus reaches."""
    reach = round(2 * nucleus.radius)
    row, column = round(nucleus.z) + MARGIN, round(nucleus.x) + MARGIN
    rows, columns = ((max(0, at - reach), max(0, at + reach)) for at in (row, column))
    return slice(*rows), slice(*columns)


def debris(rng: np.random.Generator, slide: Slide) -> Field:
    """Bright specks of stain that are no nuclei."""
    at = canvas(slide)
    specks = np.zeros_like(at.x)
    for _ in range(rng.poisson(at.x.size / 2e4)):
        row, column = (rng.integers(side) for side in specks.shape)
        size, level = rng.uniform(0.7, 2.0), rng.uniform(0.4, 1.2)
        window = slice(max(0, row - 8), row + 9), slice(max(0, column - 8), column + 9)
        distance = np.hypot(at.x[window] - at.x[row, column], at.z[window] - at.z[row, column])
        specks[window] += level * np.exp(-0.5 * (distance / size) ** 2)
    return specks


def illumination(slide: Slide) -> Field:
    """A polynomial of second degree, 1 below the lamp (Lehmussola et al. 2007)."""
    at = canvas(slide)
    height, width = slide.shape
    z = 2 * at.z / height - 1 - slide.center[0]
    x = 2 * at.x / width - 1 - slide.center[1]
    light: Field = np.clip(1 - slide.shade * (x**2 + z**2) / 2, 0.15, 1)
    return light


def blurred(light: Field, sigma: float) -> Field:
    """A Gaussian point spread, close to that of a wide-field microscope (Zhang, Zerubia and Olivo-Marin 2007)."""
    rows, columns = (np.exp(-2 * (pi * sigma * np.fft.fftfreq(side)) ** 2) for side in light.shape)
    transfer = np.outer(rows, columns[: light.shape[1] // 2 + 1])
    spread = np.fft.irfft2(np.fft.rfft2(light) * transfer, s=light.shape)
    return np.maximum(spread, 0).astype(np.float32)


def camera(rng: np.random.Generator, light: Field, photons: float) -> Bytes:
    """Photons arrive by chance (Poisson), the reading adds a Gaussian of two electrons (Janesick 2007)."""
    electrons = rng.poisson(photons * light) + rng.normal(0, 2, light.shape)
    gray: Bytes = np.clip(np.rint(255 / FULL_WELL / photons * electrons), 0, 255).astype(np.uint8)
    return gray


def inner(field: Bytes) -> Bytes:
    return field[MARGIN:-MARGIN, MARGIN:-MARGIN]
