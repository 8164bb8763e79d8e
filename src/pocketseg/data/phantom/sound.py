"""The way of the sound: scattering, point spread, loss, gain, and gray levels."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi, sqrt

import numpy as np

from pocketseg.data.phantom.probe import MARGIN, OVERSAMPLE, Medium
from pocketseg.data.phantom.shapes import Echo, Field, Points

FREQUENCY_MHZ = 7.5
FOCUS_MM = 18.0
PULSE_MM = 0.24  # standard deviation along the beam
BEAM_MM = 0.36  # and across it, at the focus
BEAM_SLOPE = 0.022
TGC_LOSS = 0.7  # dB/(cm MHz) that the scanner assumes everywhere
NOISE_DB = -75.0  # of the electronics, before the gain
WHITE_DB = 20.0  # where the gray scale ends


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
    gray: Field = np.clip(1 + (level_db - WHITE_DB) / dynamic_range_db, 0, 1)
    return gray


def to_pixels(field: Field) -> Field:
    inner = field[MARGIN * OVERSAMPLE : -MARGIN * OVERSAMPLE, MARGIN:-MARGIN]
    pixels: Field = inner.reshape(len(inner) // OVERSAMPLE, OVERSAMPLE, -1).mean(axis=1)
    return pixels
