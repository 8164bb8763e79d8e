"""Synthetic B-mode ultrasound of soft tissue with lesion masks: one image with its mask, one function a step.

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

Levels are decibels relative to gland; x runs along the probe, z into the body.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np

from pocketseg.data.phantom.case import PhantomCase
from pocketseg.data.phantom.patient import draw_anatomy
from pocketseg.data.phantom.probe import acoustic_grid, grow_lesion, lay_tissue, place_probe
from pocketseg.data.phantom.shapes import VIEW, VIEW_MM, VIEWS, stream
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

MAX_VIEWS = 4

README = """# Synthetic ultrasound

{cases} pictures of {groups} invented patients with lesion masks, made by `pocketseg phantom`
(seed {seed}, {size} x {size} pixels of {pixel_mm:.4g} mm). No person was imaged; not for medical use.

- `images/NAME.png`: 8-bit gray
- `masks/NAME.png`: 255 in the lesion, 0 elsewhere; all 0 where the patient has none
- `patients.csv`: `case,patient`; views of one patient belong on one side of a split
"""


def ultrasound(seed: int, size: int) -> Iterator[PhantomCase]:
    """Every view of every patient, without end."""
    return (phantom_case(seed, patient, view, size) for patient, view in views(seed))


def views(seed: int) -> Iterator[tuple[int, int]]:
    """(patient, view) from the first patient on, without end."""
    for patient in count(1):
        last = int(stream(seed, VIEWS, patient).integers(1, MAX_VIEWS, endpoint=True))
        yield from ((patient, view) for view in range(1, last + 1))


def readme(*, size: int, **counts: int) -> str:
    return README.format(size=size, pixel_mm=VIEW_MM / size, **counts)


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
