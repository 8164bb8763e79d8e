"""The patient: layers, lesion and look-alikes, in millimeters."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, pi, sqrt

import numpy as np

from pocketseg.data.phantom.shapes import (
    ANATOMY,
    EMPTY,
    VIEW_MM,
    Blob,
    Field,
    Points,
    Range,
    Ripples,
    draw_blob,
    draw_ripples,
    stream,
)

PATIENTS_PER_EMPTY = 7  # one patient in seven has no lesion


@dataclass(frozen=True)
class LesionKind:
    """Ranges to draw from; losses in dB/(cm MHz)."""

    share: float
    contrast_db: Range
    loss: Range
    soft_mm: Range
    rim_db: Range
    wall: float
    aspect: Range
    rough: Range
    orders: int
    texture_db: float


LESION_KINDS = (
    LesionKind(  # cyst: anechoic, smooth, hardly any loss: enhancement behind
        share=0.2,
        contrast_db=(-32, -24),
        loss=(0.05, 0.2),
        soft_mm=(0.2, 0.4),
        rim_db=(0, 2),
        wall=0.8,
        aspect=(1.0, 1.7),
        rough=(0.0, 0.05),
        orders=3,
        texture_db=0.0,
    ),
    LesionKind(  # fibroadenoma-like: wider than tall, lobulated, thin capsule
        share=0.38,
        contrast_db=(-18, -12),
        loss=(0.4, 0.9),
        soft_mm=(0.3, 0.6),
        rim_db=(1, 4),
        wall=0.5,
        aspect=(1.2, 2.0),
        rough=(0.03, 0.10),
        orders=5,
        texture_db=2.0,
    ),
    LesionKind(  # carcinoma-like: irregular, bright halo, shadow behind
        share=0.34,
        contrast_db=(-20, -14),
        loss=(0.9, 1.8),
        soft_mm=(0.5, 0.9),
        rim_db=(2, 5),
        wall=0.1,
        aspect=(0.75, 1.4),
        rough=(0.1, 0.2),
        orders=9,
        texture_db=2.5,
    ),
    LesionKind(  # lipoma-like: brighter than its surroundings, dark capsule
        share=0.08,
        contrast_db=(8, 13),
        loss=(0.5, 0.9),
        soft_mm=(0.3, 0.5),
        rim_db=(-14, -9),
        wall=0.5,
        aspect=(1.4, 2.2),
        rough=(0.0, 0.06),
        orders=4,
        texture_db=1.0,
    ),
)


@dataclass(frozen=True)
class Lesion:
    blob: Blob
    contrast_db: float  # against the tissue it replaces
    loss: float
    soft_mm: float  # half width of the margin
    rim_db: float  # halo or capsule
    wall: float  # specular strength of the front and back face
    texture: Ripples
    texture_db: float


@dataclass(frozen=True)
class Border:
    """The wavy lower face of a layer."""

    depth_mm: float
    wave: Ripples
    wave_mm: float

    def below_mm(self, at: Points) -> Field:
        return at.z - self.depth_mm - self.wave_mm * self.wave(at)


@dataclass(frozen=True)
class Stain:
    """A look-alike: a fat lobule, or chalk or poor contact that casts a shadow without a lesion."""

    blob: Blob
    echo_db: float
    loss: float


@dataclass(frozen=True)
class Anatomy:
    skin: Border
    fat: Border
    gland: Border
    muscle: Border
    fat_db: float
    muscle_db: float
    septa: Ripples
    mottle: Ripples
    fibres: Ripples
    glint: Ripples
    duct_mm: Range | None  # a dark band in the gland: distance below the fat, half width
    stains: tuple[Stain, ...]
    lesion: Lesion | None


def draw_anatomy(seed: int, patient: int) -> Anatomy:
    rng = stream(seed, ANATOMY, patient)
    skin, fat, gland, muscle = draw_borders(rng)
    return Anatomy(
        skin=skin,
        fat=fat,
        gland=gland,
        muscle=muscle,
        fat_db=rng.uniform(-16, -11),
        muscle_db=rng.uniform(-15, -9),
        septa=draw_ripples(rng, x=4.0, z=2.0),
        mottle=draw_ripples(rng, x=3.5, z=1.2),
        fibres=draw_ripples(rng, x=9.0, z=0.35),
        glint=draw_ripples(rng, x=4.0, z=4.0),
        duct_mm=(rng.uniform(2, 9), rng.uniform(0.6, 1.2)) if rng.random() < 0.45 else None,
        stains=(*draw_lobules(rng, fat.depth_mm, gland.depth_mm), *draw_shadows(rng, fat.depth_mm)),
        lesion=draw_lesion(rng, gland.depth_mm) if has_lesion(seed, patient) else None,
    )


def has_lesion(seed: int, patient: int, per_empty: int = PATIENTS_PER_EMPTY) -> bool:
    """All but one patient of every `per_empty`: the share holds in small sets too."""
    block, place = divmod(patient, per_empty)
    return int(stream(seed, EMPTY, block).integers(per_empty)) != place


def draw_borders(rng: np.random.Generator) -> list[Border]:
    thickness = rng.uniform([1.2, 3.0, 9.0, 6.0], [2.4, 12.0, 19.0, 18.0])
    waves_mm = (0.12, 1.1, 0.9, 0.7)
    waves = [draw_ripples(rng, x=x_mm, waves=7) for x_mm in (9.0, 5.0, 9.0, 9.0)]
    return [Border(*parts) for parts in zip(np.cumsum(thickness).tolist(), waves, waves_mm, strict=True)]


def draw_lobules(rng: np.random.Generator, top_mm: float, bottom_mm: float) -> list[Stain]:
    """Fat between the folds of the gland: dark, flat, small."""
    blobs = draw_spots(rng, (top_mm + 1, bottom_mm - 2), radius_mm=(1.5, 4.0), aspect=(2.2, 4.0), amount=(1, 4))
    return [Stain(blob, echo_db=rng.uniform(-13, -8), loss=0.5) for blob in blobs]


def draw_shadows(rng: np.random.Generator, bottom_mm: float) -> list[Stain]:
    """Chalk, ligaments, air below the probe: small, above the gland, and in the way of the sound."""
    blobs = draw_spots(rng, (0.5, bottom_mm), radius_mm=(0.5, 2.2), aspect=(1.5, 4.0), amount=(0, 2))
    return [Stain(blob, echo_db=-4.0, loss=rng.uniform(3, 6) / blob.radius) for blob in blobs]


def draw_spots(
    rng: np.random.Generator, z_mm: Range, *, radius_mm: Range, aspect: Range, amount: tuple[int, int]
) -> list[Blob]:
    spots = range(rng.integers(*amount, endpoint=True))
    places = [(rng.uniform(-20, 20), rng.uniform(*z_mm), rng.uniform(*radius_mm)) for _ in spots]
    return [draw_blob(rng, *place, aspect, rough=(0.0, 0.1), orders=4) for place in places]


def draw_lesion(rng: np.random.Generator, gland_mm: float) -> Lesion:
    """Area log-uniform between 2 and 20 % of the picture, above the muscle where it fits."""
    kind = LESION_KINDS[rng.choice(len(LESION_KINDS), p=[kind.share for kind in LESION_KINDS])]
    radius = VIEW_MM * sqrt(exp(rng.uniform(log(0.0225), log(0.175))) / pi)
    x = rng.uniform(-1, 1) * (VIEW_MM / 2 - 2.5 - 1.2 * radius)
    z = rng.uniform(3 + 0.9 * radius, max(4 + 0.9 * radius, gland_mm - 0.6 * radius))
    return Lesion(
        blob=draw_blob(rng, x, z, radius, kind.aspect, kind.rough, kind.orders),
        contrast_db=rng.uniform(*kind.contrast_db),
        loss=rng.uniform(*kind.loss),
        soft_mm=rng.uniform(*kind.soft_mm),
        rim_db=rng.uniform(*kind.rim_db),
        wall=kind.wall,
        texture=draw_ripples(rng, x=2.0, z=1.5),
        texture_db=kind.texture_db,
    )
