"""Augmentation of whole batches on the device that trains.

What happens to a sample is drawn on the CPU from a generator of its own, made from (seed, epoch, position):
neither the batch it is in, nor the device, nor a restart changes it. Geometry is composed into one sampling
grid, so an image is interpolated once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pocketseg.recipes.schema import AugmentSection, ChangeName

# Nodes of a curve of gray values, which is linear between them.
CURVE = 256
CHANGES = get_args(ChangeName)
PADDING = {"reflect": "reflection", "edge": "border", "zero": "zeros"}


def sample_generator(*key: int) -> np.random.Generator:
    """A counter-based generator for one (seed, …, epoch, position)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


@dataclass(frozen=True)
class Drawn:
    """The random choices for one sample; arrays are float32."""

    matrix: NDArray[np.float32]  # (2, 3): output to input, in normalized coordinates
    displacement: NDArray[np.float32]  # (2, grid, grid), normalized coordinates
    # Gamma exponent, brightness, gradient x, gradient y, speckle, noise, blur sigma.
    intensity: NDArray[np.float32]
    fields: NDArray[np.float32]  # (2, h, w): unit normal, for speckle and noise
    curve: NDArray[np.float32]  # (CURVE,): new gray values of 0 … 1


def draw(rng: np.random.Generator, options: AugmentSection, height: int, width: int) -> Drawn:
    """All random choices for one sample of that size."""
    normal = rng.standard_normal(6)
    uniform = rng.random(4)
    happens = _happens(rng, options)
    intensity = np.array(
        [
            math.exp(options.gamma * normal[0] * happens["gamma"]),
            options.brightness * normal[1] * happens["brightness"],
            options.illumination * normal[2] * happens["illumination"],
            options.illumination * normal[3] * happens["illumination"],
            _between(options.speckle, uniform[0]) * happens["speckle"],
            _between(options.noise, uniform[1]) * happens["noise"],
            _between(options.blur, uniform[2]) * happens["blur"],
        ],
        np.float32,
    )
    needs_fields = options.speckle != 0 or options.noise != 0
    shape = (2, height, width) if needs_fields else (2, 0, 0)
    return Drawn(
        _matrix(rng, options, height, width, zooms=happens["zoom"]),
        _displacement(rng, options),
        intensity,
        rng.standard_normal(shape, dtype=np.float32),
        _curve(rng, options.histogram, bends=happens["histogram"]),
    )


def _happens(rng: np.random.Generator, options: AugmentSection) -> dict[str, bool]:
    """Which changes a sample gets; all of them, and nothing is drawn, where the recipe has no probability."""
    if options.probability is None:
        return dict.fromkeys(CHANGES, True)
    return {change: bool(rng.random() < options.chance(change)) for change in CHANGES}


def _between(strength: float | tuple[float, float], share: float) -> float:
    """A number up to a largest one, or between two; `share` is of the way."""
    low, high = strength if isinstance(strength, tuple) else (0.0, strength)
    return low + (high - low) * share


def _curve(rng: np.random.Generator, points: int, *, bends: bool) -> NDArray[np.float32]:
    """From (0, 0) to (1, 1), rising smoothly through values in [0.1, 0.9] at `points` equal steps (PCHIP).

    A straight line where nothing `bends` it.
    """
    if not points:
        return np.zeros(0, np.float32)
    if not bends:
        return np.linspace(0, 1, CURVE, dtype=np.float32)
    from scipy.interpolate import PchipInterpolator

    values = np.concatenate([[0.0], np.sort(rng.uniform(0.1, 0.9, points)), [1.0]])
    curve = PchipInterpolator(np.linspace(0, 1, points + 2), values)
    return np.asarray(curve(np.linspace(0, 1, CURVE)), np.float32)


def _matrix(
    rng: np.random.Generator, options: AugmentSection, height: int, width: int, *, zooms: bool
) -> NDArray[np.float32]:
    """Affine, zoom, turns and flips: composed in pixels, then brought to grid_sample's [-1, 1]."""
    linear = np.eye(2)
    shift = np.zeros(2)
    affine = options.affine
    if affine and rng.random() < options.chance("affine"):
        angle, shear = np.radians(rng.uniform(-1, 1, 2) * [affine.degrees, affine.shear])
        scales = [math.exp(rng.uniform(*np.log(affine.scale))) for _ in range(1 + affine.per_axis)]
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = rotation @ np.array([[1, np.tan(shear)], [0, 1]]) / np.array(scales)[:, None]
        shift = 2 * affine.translate * rng.uniform(-1, 1, 2)
    if options.zoom and zooms:
        linear = linear / math.exp(rng.uniform(*np.log(options.zoom)))
    if options.rotate90:
        linear = linear @ np.linalg.matrix_power(np.array([[0.0, -1.0], [1.0, 0.0]]), int(rng.integers(4)))
    mirrored = [-1.0 if side in options.flip and rng.random() < 0.5 else 1.0 for side in ("horizontal", "vertical")]
    linear = linear @ np.diag(mirrored)
    half = np.array([width, height]) / 2
    return np.column_stack([linear * half[None, :] / half[:, None], shift]).astype(np.float32)


def _displacement(rng: np.random.Generator, options: AugmentSection) -> NDArray[np.float32]:
    elastic = options.elastic
    if elastic is None:
        return np.zeros((2, 2, 2), np.float32)
    strength = 2 * elastic.alpha if rng.random() < options.chance("elastic") else 0.0
    return (strength * rng.standard_normal((2, elastic.grid, elastic.grid))).astype(np.float32)


def augment(images: Tensor, masks: Tensor, drawn: Sequence[Drawn], options: AugmentSection) -> tuple[Tensor, Tensor]:
    """Apply what was drawn to a batch.

    Intensity changes act on each image stretched to [0, 1] by its own extremes, and are stretched back, so
    they mean the same after every normalization.

    Args:
        images: (n, c, h, w) float32, normalized.
        masks: (n, h, w) uint8 class indices, or planes (n, k, h, w).
        drawn: one a sample.
        options: the recipe's.

    Returns:
        New images and masks of the same shapes.
    """
    low = images.amin((1, 2, 3), keepdim=True)
    span = (images.amax((1, 2, 3), keepdim=True) - low).clamp_min(1e-6)
    images = (images - low) / span
    if _moves(options):
        images, masks = _warp(images, masks, drawn, options)
    return _shade(images, drawn, options) * span + low, masks


def move_maps(maps: Tensor, drawn: Sequence[Drawn], options: AugmentSection) -> Tensor:
    """Probability maps (n, k, h, w) moved as `augment` moves images."""
    if not _moves(options):
        return maps
    border = PADDING[options.border]
    return F.grid_sample(maps, _grid(maps, drawn, options), mode="bilinear", padding_mode=border, align_corners=False)


def _moves(options: AugmentSection) -> bool:
    return bool(options.flip or options.rotate90 or options.affine or options.elastic or options.zoom)


def _stack(arrays: Sequence[NDArray[np.float32]], like: Tensor) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).to(like.device)


def _grid(images: Tensor, drawn: Sequence[Drawn], options: AugmentSection) -> Tensor:
    """Where each pixel comes from, (n, h, w, 2) in normalized coordinates."""
    count, _, height, width = images.shape
    grid = F.affine_grid(_stack([d.matrix for d in drawn], images), [count, 1, height, width], align_corners=False)
    if options.elastic:
        coarse = _stack([d.displacement for d in drawn], images)
        fine = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
        grid = grid + fine.permute(0, 2, 3, 1)
    return grid


def _warp(images: Tensor, masks: Tensor, drawn: Sequence[Drawn], options: AugmentSection) -> tuple[Tensor, Tensor]:
    """Sample images bilinearly, masks by nearest neighbor: at the same places, with the same border rule."""
    grid = _grid(images, drawn, options)
    border = PADDING[options.border]
    warped = F.grid_sample(images, grid, mode="bilinear", padding_mode=border, align_corners=False)
    labels = (masks if masks.ndim == images.ndim else masks.unsqueeze(1)).to(images.dtype)
    moved = F.grid_sample(labels, grid, mode="nearest", padding_mode=border, align_corners=False)
    return warped, moved.reshape(masks.shape).to(masks.dtype)


def _shade(images: Tensor, drawn: Sequence[Drawn], options: AugmentSection) -> Tensor:
    """Histogram curve, gamma, brightness, illumination gradient, speckle, noise and blur, on images in [0, 1]."""
    numbers = _stack([d.intensity for d in drawn], images)[:, :, None, None, None]
    gamma, brightness, across, down, speckle, noise, sigma = numbers.unbind(1)
    if options.histogram:
        images = _through(images.clamp(0, 1), _stack([d.curve for d in drawn], images))
    if options.gamma:
        images = images.clamp(0, 1) ** gamma
    if options.brightness:
        images = images + brightness
    if options.illumination:
        height, width = images.shape[2:]
        x = torch.linspace(-1, 1, width, device=images.device)[None, None, None, :]
        y = torch.linspace(-1, 1, height, device=images.device)[None, None, :, None]
        images = images * (1 + across * x + down * y)
    if options.speckle or options.noise:
        first, second = _stack([d.fields for d in drawn], images).unsqueeze(2).unbind(1)
        images = images * (1 + speckle * first) + noise * second
    return _blur(images, sigma, _between(options.blur, 1.0)) if options.blur else images


def _through(images: Tensor, curves: Tensor) -> Tensor:
    """Gray values in [0, 1] through the curve (CURVE,) of each sample."""
    places = images.flatten(1) * (CURVE - 1)
    left = places.floor().clamp(max=CURVE - 2)
    below, above = (curves.gather(1, left.long() + step) for step in (0, 1))
    return torch.lerp(below, above, places - left).reshape(images.shape)


def _blur(images: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Gaussian blur with a width for each sample, as one grouped separable convolution."""
    count, channels, height, width = images.shape
    radius = max(1, math.ceil(3 * largest))
    steps = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma.reshape(count, 1).clamp_min(1e-3)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    planes = images.reshape(1, count * channels, height, width)
    groups = count * channels
    planes = F.conv2d(F.pad(planes, (radius, radius, 0, 0), mode="replicate"), kernel[:, None, None, :], groups=groups)
    planes = F.conv2d(F.pad(planes, (0, 0, radius, radius), mode="replicate"), kernel[:, None, :, None], groups=groups)
    return planes.reshape(count, channels, height, width)
