"""Random pipelines, nets and images, for what has to agree on all of them."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pocketseg.packing.compile import file_of, program_of
from pocketseg.pipeline import Normalization, Pipeline, Postprocess, TrainedOn
from pocketseg.pipeline.pipeline import logit_count

Random = np.random.Generator


@cache
def small_net(channels: int, classes: int) -> bytes:
    """Packed: blurred differences of the image, so that masks have parts and holes."""
    torch.manual_seed(channels * 10 + classes)
    net = nn.Sequential(
        nn.Conv2d(channels, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, logit_count(classes), 3, padding=1)
    )
    with torch.no_grad():
        for part in (net[0], net[2]):
            part.weight.mul_(6)
        seen = net(torch.rand(4, channels, 32, 32))
        net[2].bias -= seen.mean(dim=(0, 2, 3))
    return file_of(program_of(net, channels), {})


def one_of(random: Random, *values):
    return values[random.integers(len(values))]


def some_pipeline(random: Random) -> Pipeline:
    """Every fit, normalization and rule, each often."""
    channels, classes = int(random.integers(1, 5)), one_of(random, 1, 1, 2, 3)
    fit = one_of(random, "resize", "resize", "letterbox", "pad", "crop", "tile")
    low = -random.random() * 300
    return Pipeline(
        size=(int(random.integers(8, 41)), int(random.integers(8, 41))) if fit != "pad" else (64, 72),
        channels=channels,
        classes=tuple("abc"[:classes]),
        fit=fit,
        multiple=one_of(random, 1, 4, 8),
        intensity_range=None if random.random() < 0.7 else (low, low + 1 + random.random() * 3000),
        normalization=some_normalization(random, channels),
        postprocess=Postprocess(
            threshold=one_of(random, 0.5, float(random.random())),
            fill_holes=bool(random.integers(2)),
            min_peak=one_of(random, 0.0, 0.0, 0.5 + random.random() / 2),
            min_pixels=one_of(random, 0, 0, int(random.integers(40))),
            keep=one_of(random, "all", "all", "largest"),
        ),
        spacing_mm=None if random.random() < 0.7 else (0.4 + random.random(), 0.4 + random.random()),
        trained_on=one_of(random, None, TrainedOn(one_of(random, None, "uint8", "uint16", "float"))),
        tta=one_of(random, (), (), ("horizontal",), ("vertical", "horizontal")),
    )


def some_normalization(random: Random, channels: int) -> Normalization:
    match random.integers(5):
        case 0:
            return Normalization("min-max")
        case 1:
            return Normalization("z-score", clip=one_of(random, None, 2.5))
        case 2:
            mean, std = random.random(channels), random.random(channels) + 0.1
            return Normalization("train-mean-std", mean=tuple(map(float, mean)), std=tuple(map(float, std)))
    return Normalization()


def some_image(random: Random, pipeline: Pipeline, dtype: str, most: int = 64) -> NDArray[np.generic]:
    """Soft spots and noise, as many channels as the pipeline takes or one; a few are flat."""
    height, width = (int(side) for side in random.integers(1, most + 1, 2))
    channels = one_of(random, pipeline.channels, 1, 3 if pipeline.channels == 1 else pipeline.channels)
    coarse = random.random((height // 8 + 2, width // 8 + 2, channels))
    rows, columns = np.linspace(0, len(coarse) - 1.001, height), np.linspace(0, coarse.shape[1] - 1.001, width)
    y, x = rows.astype(int), columns.astype(int)
    v, u = (rows - y)[:, None, None], (columns - x)[None, :, None]
    upper = coarse[y][:, x] * (1 - u) + coarse[y][:, x + 1] * u
    image = upper * (1 - v) + (coarse[y + 1][:, x] * (1 - u) + coarse[y + 1][:, x + 1] * u) * v
    image = np.clip(image + random.normal(0, 0.05, image.shape), 0, 1)
    if random.random() < 0.03:
        image[:] = 0.4
    most_stored = {"uint8": 255, "uint16": 65535, "int16": 3000, "float32": one_of(random, 1, 255, 1e4)}[dtype]
    stored = (image * most_stored - (one_of(random, 0, 1024) if dtype == "int16" else 0)).astype(dtype)
    return stored[:, :, 0] if channels == 1 and random.random() < 0.8 else stored


@dataclass(frozen=True)
class SegmentFile:
    """What native/tests/segment_bytes.h reads: an image for a net that gives its image back, with its pipeline."""

    pipeline: Pipeline
    image: NDArray[np.generic]
    planar: bool = False
    spacing_mm: tuple[float, float] = (0.0, 0.0)
    threads: int = 1
    cancel_after: int = 0

    def to_bytes(self) -> bytes:
        height, width, channels = (*self.image.shape, 1)[:3]
        kind = ("uint8", "uint16", "int16", "float32").index(self.image.dtype.name)
        card = json.dumps({"pipeline": self.pipeline.to_dict()}).encode()
        tenths = (round(10 * side) for side in self.spacing_mm)
        head = bytes(
            [self.pipeline.channels - 1, kind, channels, self.planar, *tenths, self.threads, self.cancel_after]
        )
        pixels = np.moveaxis(self.image, -1, 0) if self.planar and self.image.ndim == 3 else self.image
        return head + struct.pack("<3H", height, width, len(card)) + card + pixels.tobytes()

    def mask(self) -> NDArray[np.uint8]:
        """NumPy's."""
        spacing = self.spacing_mm if self.spacing_mm != (0, 0) else None
        return self.pipeline.mask(self.pipeline.predict(self.image, lambda batch: batch, spacing))


def some_segment_file(random: Random) -> SegmentFile:
    pipeline = some_pipeline(random)
    channels = one_of(random, 1, 3, 4)
    classes = pipeline.classes[:1] if channels == 1 else tuple("abc"[: channels - 1])
    normalization = some_normalization(random, channels)
    pipeline = replace(pipeline, channels=channels, classes=classes, normalization=normalization)
    image = some_image(random, pipeline, one_of(random, "uint8", "uint16", "int16", "float32"))
    return SegmentFile(
        pipeline, image, bool(random.integers(2)), (round(0.2 + random.random(), 1), 0.7), int(random.integers(1, 4))
    )
