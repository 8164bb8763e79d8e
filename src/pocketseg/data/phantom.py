"""Synthetic B-mode ultrasound of soft tissue with lesion masks: data that anyone may have, at any amount.

A patient is drawn once, in millimetres: layers, lesion, look-alikes. Each view moves the probe a little and
draws fresh speckle. From there `phantom_case` follows the sound, one function a step:

- tissue layers: fat is dark, gland bright, muscle striped, with wavy fasciae between (Stavros 2004);
- lesions: outline, margin, echo pattern and what lies behind go together, as in BI-RADS (Mendelson 2013);
- specular faces: a smooth border reflects coherently, and most where the beam meets it squarely (Szabo 2014);
- speckle: scatterers too small to resolve add up to a complex Gaussian, so the envelope is Rayleigh, with
  mean / standard deviation = sqrt(pi / (4 - pi)) = 1.91 (Burckhardt 1978; Wagner et al. 1983);
- point spread: separable. Along the beam a pulse, carrier x Gaussian, of which demodulation leaves the
  Gaussian; across it one that widens off the focus, s^2 = s_focus^2 + (slope x distance)^2 (Siegman 1986);
- loss: level(z) = -2 f * integral of a dz, with a in dB/(cm MHz) of each tissue (Duck 1990); the scanner's
  time-gain compensation undoes one a for all, so shadows and posterior enhancement appear by themselves;
- log compression: 50 to 60 dB of envelope in 8 bits, since echoes span more than an eye can (Szabo 2014).

Levels are decibels relative to gland; x runs along the probe, z into the body. Every pixel depends on (seed,
patient, view, size) and on nothing else: a case is the same in a set of 5 and of 5000.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count, islice
from math import exp, log, pi, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pocketseg.errors import DataError, Problem
from pocketseg.files import whole_folder, write_atomically
from pocketseg.tables import csv_text

Field = NDArray[np.floating]  # float32; (rows, beams) of the acoustic grid, or what broadcasts to it
Echo = NDArray[np.complexfloating]  # complex64; the same for the demodulated echo: in-phase + i quadrature
Bytes = NDArray[np.uint8]
Range = tuple[float, float]

VIEW_MM = 40.0  # depth and width of the picture
MARGIN = 8  # pixels simulated around the picture and cut off, so that no filter wraps into it
OVERSAMPLE = 2  # acoustic rows per pixel row: the pulse is shorter than the beam is wide
FREQUENCY_MHZ = 7.5
FOCUS_MM = 18.0
PULSE_MM = 0.24  # standard deviation along the beam
BEAM_MM = 0.36  # and across it, at the focus
BEAM_SLOPE = 0.022
TGC_LOSS = 0.7  # dB/(cm MHz) that the scanner assumes everywhere
NOISE_DB = -75.0  # of the electronics, before the gain
WHITE_DB = 20.0  # where the grey scale ends
MIN_SIZE = 32
PATIENTS_PER_EMPTY = 7  # one patient in seven has no lesion
MAX_VIEWS = 4


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
    grey = log_compress(np.abs(received), dynamic_range_db=rng.uniform(50, 60))
    image = np.rint(255 * to_pixels(grey)).astype(np.uint8)
    mask = (to_pixels(inside) >= 0.5).astype(np.uint8)
    return PhantomCase(f"patient-{patient:03d}_view-{view}", f"patient-{patient:03d}", image, mask)


# --- random numbers and smooth random shapes ----------------------------------------------------------------

ANATOMY, VIEW, VIEWS, EMPTY = range(4)  # what a stream is for


def stream(seed: int, *key: int) -> np.random.Generator:
    """Each key has its own counter-based generator (Salmon et al. 2011), so no case waits for another."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


@dataclass(frozen=True)
class Points:
    """Where the points of the grid are, in mm: x along the probe from its middle, z below its face."""

    x: Field
    z: Field


@dataclass(frozen=True)
class Ripples:
    """Smooth random field of unit variance: plane waves with random directions (Rahimi and Recht 2007)."""

    waves: NDArray[np.float64]  # (n, 3): radians per mm along x and along z, phase

    def __call__(self, at: Points) -> Field:
        total = np.zeros_like(at.x)
        for kx, kz, phase in self.waves.tolist():
            total += np.cos(kx * at.x + kz * at.z + phase)
        return total * sqrt(2 / len(self.waves))


def draw_ripples(rng: np.random.Generator, x_mm: float, z_mm: float = np.inf, waves: int = 14) -> Ripples:
    """Correlation lengths `x_mm` and `z_mm`; infinity means constant along that axis."""
    kx, kz = rng.normal(size=(2, waves)) / np.array([[x_mm], [z_mm]])
    return Ripples(np.stack([kx, kz, rng.uniform(0, 2 * pi, waves)], axis=1))


@dataclass(frozen=True)
class Blob:
    """A closed outline: an ellipse times a Fourier series in the angle."""

    x: float
    z: float
    radius_mm: float  # of the circle of equal area
    aspect: float  # width over height, before the tilt
    tilt: float
    bumps: tuple[tuple[int, float, float], ...]  # order, amplitude, phase

    def shape(self, angle: Field) -> Field:
        radius: Field = 1 / np.sqrt(np.cos(angle) ** 2 / self.aspect + np.sin(angle) ** 2 * self.aspect)
        radius *= 1 + sum(a * np.cos(order * angle + phase) for order, a, phase in self.bumps)
        return radius

    def edge_mm(self, at: Points) -> Field:
        """Distance to the outline along the radius, negative inside."""
        turn = np.linspace(0, 2 * pi, 256, endpoint=False, dtype=np.float32)
        scale = self.radius_mm / sqrt(np.mean(self.shape(turn) ** 2))
        u, v = rotate(at.x - self.x, at.z - self.z, self.tilt)
        distance: Field = np.hypot(u, v)
        return distance - scale * self.shape(np.arctan2(v, u))


def draw_blob(
    rng: np.random.Generator, x: float, z: float, radius_mm: float, aspect: Range, rough: Range, orders: int
) -> Blob:
    """Bumps of order 2 to `orders`, the quicker the smaller."""
    size = rng.uniform(*rough)
    bumps = [(k, size * rng.normal() * (2 / k) ** 0.8, rng.uniform(0, 2 * pi)) for k in range(2, orders + 1)]
    return Blob(x, z, radius_mm, rng.uniform(*aspect), rng.normal(0, 0.2), tuple(bumps))


def rotate(x: Field, z: Field, angle: float) -> tuple[Field, Field]:
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    return cos * x + sin * z, cos * z - sin * x


def beyond(distance_mm: Field, soft_mm: float) -> Field:
    """0 on the negative side, 1 on the positive side, `soft_mm` the half width between."""
    weight: Field = 0.5 + 0.5 * np.tanh(distance_mm / soft_mm)
    return weight


def along(distance_mm: Field, width_mm: float) -> Field:
    """1 on the line, falling off like a Gaussian of that standard deviation."""
    weight: Field = np.exp(-0.5 * (distance_mm / width_mm) ** 2)
    return weight


# --- the patient --------------------------------------------------------------------------------------------


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
        septa=draw_ripples(rng, x_mm=4.0, z_mm=2.0),
        mottle=draw_ripples(rng, x_mm=3.5, z_mm=1.2),
        fibres=draw_ripples(rng, x_mm=9.0, z_mm=0.35),
        glint=draw_ripples(rng, x_mm=4.0, z_mm=4.0),
        duct_mm=(rng.uniform(2, 9), rng.uniform(0.6, 1.2)) if rng.random() < 0.45 else None,
        stains=(*draw_lobules(rng, fat.depth_mm, gland.depth_mm), *draw_shadows(rng, fat.depth_mm)),
        lesion=draw_lesion(rng, gland.depth_mm) if has_lesion(seed, patient) else None,
    )


def has_lesion(seed: int, patient: int) -> bool:
    """All but one patient of every seven: the share holds in small sets too."""
    block, place = divmod(patient, PATIENTS_PER_EMPTY)
    return int(stream(seed, EMPTY, block).integers(PATIENTS_PER_EMPTY)) != place


def draw_borders(rng: np.random.Generator) -> list[Border]:
    thickness = rng.uniform([1.2, 3.0, 9.0, 6.0], [2.4, 12.0, 19.0, 18.0])
    waves_mm = (0.12, 1.1, 0.9, 0.7)
    waves = [draw_ripples(rng, x_mm=x_mm, waves=7) for x_mm in (9.0, 5.0, 9.0, 9.0)]
    return [Border(*parts) for parts in zip(np.cumsum(thickness).tolist(), waves, waves_mm, strict=True)]


def draw_lobules(rng: np.random.Generator, top_mm: float, bottom_mm: float) -> list[Stain]:
    """Fat between the folds of the gland: dark, flat, small."""
    blobs = draw_spots(rng, (top_mm + 1, bottom_mm - 2), radius_mm=(1.5, 4.0), aspect=(2.2, 4.0), amount=(1, 4))
    return [Stain(blob, echo_db=rng.uniform(-13, -8), loss=0.5) for blob in blobs]


def draw_shadows(rng: np.random.Generator, bottom_mm: float) -> list[Stain]:
    """Chalk, ligaments, air below the probe: small, above the gland, and in the way of the sound."""
    blobs = draw_spots(rng, (0.5, bottom_mm), radius_mm=(0.5, 2.2), aspect=(1.5, 4.0), amount=(0, 2))
    return [Stain(blob, echo_db=-4.0, loss=rng.uniform(3, 6) / blob.radius_mm) for blob in blobs]


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
        texture=draw_ripples(rng, x_mm=2.0, z_mm=1.5),
        texture_db=kind.texture_db,
    )


# --- the probe and the tissue below it ----------------------------------------------------------------------


def acoustic_grid(size: int) -> Points:
    """One beam per pixel column, two rows per pixel row, and a margin all around."""
    x = (np.arange(-MARGIN, size + MARGIN, dtype=np.float32) + 0.5) * (VIEW_MM / size) - VIEW_MM / 2
    z = np.arange(-MARGIN * OVERSAMPLE, (size + MARGIN) * OVERSAMPLE, dtype=np.float32) + 0.5
    return Points(*np.meshgrid(x, z * (VIEW_MM / size / OVERSAMPLE)))


def place_probe(rng: np.random.Generator, grid: Points) -> Points:
    """Slide, tilt and press: the patient's coordinates of each point of the picture."""
    x, z = rotate(grid.x, grid.z, rng.normal(0, 0.035))
    return Points(rng.uniform(0.94, 1.06) * x + rng.uniform(-2.5, 2.5), rng.uniform(0.94, 1.06) * z)


@dataclass(frozen=True)
class Medium:
    """What the sound meets at each point."""

    echo_db: Field  # backscatter of the many small scatterers
    loss: Field  # dB/(cm MHz), one way
    mirror: Field  # coherent reflection of smooth faces

    def paint(self, weight: Field, echo_db: Field | float, loss: float) -> Medium:
        """Other tissue where `weight` is 1, hiding what was there."""
        keep = 1 - weight
        return Medium(keep * self.echo_db + weight * echo_db, keep * self.loss + weight * loss, keep * self.mirror)

    def polish(self, distance_mm: Field, strength: Field | float) -> Medium:
        """A smooth face where the distance is 0; it reflects with cos^8 of the angle of incidence."""
        down, across = np.gradient(distance_mm, 1, OVERSAMPLE)
        cos_squared = down**2 / (down**2 + across**2 + 1e-9)
        return replace(self, mirror=self.mirror + strength * cos_squared**4 * along(distance_mm, 0.14))


def lay_tissue(anatomy: Anatomy, at: Points) -> Medium:
    """Layer over layer from the skin down, each hiding what would lie below it."""
    skin, fat, gland, muscle = (b.below_mm(at) for b in (anatomy.skin, anatomy.fat, anatomy.gland, anatomy.muscle))
    glint = np.clip(0.5 + 0.5 * anatomy.glint(at), 0.1, 1.5)
    mottle = anatomy.mottle(at)
    septa = along(anatomy.septa(at), 0.12)
    fibres = anatomy.fibres(Points(at.x, gland))
    medium = Medium(np.full_like(at.z, 4.0), np.full_like(at.z, 1.0), np.zeros_like(at.z))
    medium = medium.paint(beyond(skin, 0.3), anatomy.fat_db + 11 * septa + mottle, loss=0.5).polish(skin, 0.4 * glint)
    medium = medium.paint(beyond(fat, 0.5), 3 * mottle - 1, loss=0.8).polish(fat, 0.5 * glint)
    medium = add_look_alikes(medium, anatomy, fat, at)
    medium = medium.paint(beyond(gland, 0.4), anatomy.muscle_db + 5 * fibres, loss=0.9).polish(gland, glint)
    return medium.paint(beyond(muscle, 0.4), -22.0, loss=1.5).polish(muscle, 1.5 * glint)


def add_look_alikes(medium: Medium, anatomy: Anatomy, below_fat: Field, at: Points) -> Medium:
    if anatomy.duct_mm is not None:
        depth, half_width = anatomy.duct_mm
        medium = medium.paint(along(below_fat - depth, half_width), -12.0, loss=0.6)
    for stain in anatomy.stains:
        medium = medium.paint(beyond(-stain.blob.edge_mm(at), 0.4), stain.echo_db, stain.loss)
    return medium


def grow_lesion(medium: Medium, lesion: Lesion | None, at: Points) -> tuple[Medium, Field]:
    """The medium with the lesion in it, and how far inside each point lies (0 to 1)."""
    if lesion is None:
        return medium, np.zeros_like(at.z)
    edge = lesion.blob.edge_mm(at)
    inside = beyond(-edge, lesion.soft_mm)
    level = float(np.average(medium.echo_db, weights=inside)) + lesion.contrast_db
    rim = lesion.rim_db * along(edge - lesion.soft_mm, 0.6)
    medium = replace(medium, echo_db=medium.echo_db + rim)
    medium = medium.paint(inside, level + lesion.texture_db * lesion.texture(at), lesion.loss)
    return medium.polish(edge, lesion.wall), inside


# --- the sound ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PointSpread:
    """Separable filter, as transfer functions around the carrier."""

    axial: Field  # (rows, 1)
    lateral: Field  # (rows, beams): each depth has its own width

    def spread(self, scatterers: Echo) -> Echo:
        """Unit power at every depth, so that loss and gain alone set the level."""
        echo = filtered(scatterers, unit_power(self.lateral, axis=1), axis=1)
        return filtered(echo, unit_power(self.axial, axis=0), axis=0)

    def across(self, field: Field) -> Field:
        """What a beam sees of a field: the mean over its width."""
        return filtered(field.astype(np.complex64), self.lateral, axis=1).real


def point_spread(grid: Points) -> PointSpread:
    rows, beams = grid.z.shape
    spacing_z, spacing_x = grid_spacing_mm(grid)
    width_mm = np.hypot(BEAM_MM, BEAM_SLOPE * (grid.z[:, :1] - FOCUS_MM))
    pulse_mm = np.full((1, 1), PULSE_MM, np.float32)
    return PointSpread(gaussian(rows, pulse_mm / spacing_z).T, gaussian(beams, width_mm / spacing_x))


def grid_spacing_mm(grid: Points) -> tuple[float, float]:
    return float(grid.z[1, 0] - grid.z[0, 0]), float(grid.x[0, 1] - grid.x[0, 0])


def gaussian(samples: int, sigma: Field) -> Field:
    """Transfer functions (n, samples) of Gaussians with standard deviations (n, 1) in samples."""
    frequency = np.fft.fftfreq(samples).astype(np.float32)
    transfer: Field = np.exp(-2 * (pi * sigma * frequency) ** 2)
    return transfer


def unit_power(transfer: Field, axis: int) -> Field:
    amplitude: Field = np.sqrt(np.mean(transfer**2, axis=axis, keepdims=True))
    return transfer / amplitude


def filtered(field: Echo, transfer: Field, axis: int) -> Echo:
    return np.fft.ifft(np.fft.fft(field, axis=axis) * transfer, axis=axis)


def decibels(level: Field | float) -> Field:
    """Amplitude ratio of a level."""
    ratio: Field = np.exp(np.float32(log(10) / 20) * level)
    return ratio


def complex_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Echo:
    """Circular, unit power."""
    pairs = rng.standard_normal((*shape, 2), dtype=np.float32) * np.float32(sqrt(0.5))
    return pairs.view(np.complex64)[..., 0]


def scatter(rng: np.random.Generator, medium: Medium) -> Echo:
    return decibels(medium.echo_db) * complex_normal(rng, medium.echo_db.shape) + medium.mirror


def loss_on_the_way(medium: Medium, pulse: PointSpread, grid: Points) -> Field:
    """Decibels lost to each depth and back."""
    step_cm = grid_spacing_mm(grid)[0] / 10
    return pulse.across(2 * FREQUENCY_MHZ * step_cm * np.cumsum(medium.loss * (grid.z > 0), axis=0))


def electronic_noise(rng: np.random.Generator, grid: Points) -> Echo:
    return decibels(NOISE_DB) * complex_normal(rng, grid.z.shape)


def gain_by_depth(rng: np.random.Generator, grid: Points) -> Field:
    """Time-gain compensation for an average tissue, and a hand on the sliders that is not quite right."""
    slope, ripple, period, phase = rng.uniform((-0.1, 0, 3, 0), (0.1, 2, 6, 2 * pi)).tolist()
    sliders = slope * (grid.z - FOCUS_MM) + ripple * np.sin(grid.z / period + phase) + rng.uniform(-3, 2)
    gain_db: Field = 2 * FREQUENCY_MHZ * TGC_LOSS / 10 * np.maximum(grid.z, 0) + sliders
    return gain_db


def log_compress(envelope: Field, dynamic_range_db: float) -> Field:
    """0 to 1 for the `dynamic_range_db` decibels below white."""
    level_db: Field = 20 * np.log10(envelope + np.float32(1e-9))
    grey: Field = np.clip(1 + (level_db - WHITE_DB) / dynamic_range_db, 0, 1)
    return grey


def to_pixels(field: Field) -> Field:
    inner = field[MARGIN * OVERSAMPLE : -MARGIN * OVERSAMPLE, MARGIN:-MARGIN]
    pixels: Field = inner.reshape(len(inner) // OVERSAMPLE, OVERSAMPLE, -1).mean(axis=1)
    return pixels


# --- the folder ---------------------------------------------------------------------------------------------

README = """# Synthetic ultrasound

{cases} pictures of {patients} invented patients with lesion masks, made by `pocketseg phantom`
(seed {seed}, {size} x {size} pixels of {pixel_mm:.4g} mm). No person was imaged; not for medical use.

- `images/NAME.png`: 8-bit grey
- `masks/NAME.png`: 255 in the lesion, 0 elsewhere; all 0 where the patient has none
- `patients.csv`: `case,patient`; views of one patient belong on one side of a split
"""


def write_phantom(
    out: Path,
    *,
    cases: int = 200,
    size: int = 128,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `cases` pictures with masks, patients and a README below `out`, which must be new or empty.

    Args:
        out: the folder to fill.
        cases: number of pictures; the first ones do not depend on it.
        size: height and width in pixels.
        seed: another seed, other patients.
        progress: called as `progress(done, cases)` after each picture.

    Raises:
        DataError: `out` is in use, or a number makes no sense; all problems at once.
        EnvironmentProblem: it cannot be written; nothing is left of it.
    """
    refuse_bad_input(out, cases=cases, size=size, seed=seed)
    with whole_folder(out) as part:
        rows = []
        for done, (patient, view) in enumerate(islice(views(seed), cases), start=1):
            case = phantom_case(seed, patient, view, size)
            _write_png(part / "images" / f"{case.name}.png", case.image)
            _write_png(part / "masks" / f"{case.name}.png", case.mask * np.uint8(255))
            rows.append((case.name, case.patient))
            if progress is not None:
                progress(done, cases)
        write_notes(part, rows, size, seed)
    return out


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    write_atomically(path, content.getvalue())


def refuse_bad_input(out: Path, *, cases: int, size: int, seed: int) -> None:
    problems = []
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        problems.append(Problem(str(out), "exists and is not an empty folder", "name a new folder or empty this one"))
    if cases < 1:
        problems.append(Problem("cases", f"{cases} pictures cannot be made", "ask for 1 or more"))
    if size < MIN_SIZE:
        problems.append(Problem("size", f"{size} pixels are too few to show a lesion", f"use {MIN_SIZE} or more"))
    if seed < 0:
        problems.append(Problem("seed", f"{seed} is negative", "use 0 or more"))
    if problems:
        raise DataError.of(problems)


def views(seed: int) -> Iterator[tuple[int, int]]:
    """(patient, view) from the first patient on, without end."""
    for patient in count(1):
        last = int(stream(seed, VIEWS, patient).integers(1, MAX_VIEWS, endpoint=True))
        yield from ((patient, view) for view in range(1, last + 1))


def write_notes(out: Path, rows: list[tuple[str, str]], size: int, seed: int) -> None:
    write_atomically(out / "patients.csv", csv_text([("case", "patient"), *rows]))
    patients = len({patient for _, patient in rows})
    text = README.format(cases=len(rows), patients=patients, seed=seed, size=size, pixel_mm=VIEW_MM / size)
    write_atomically(out / "README.md", text)
