"""Training samples: which cases an epoch takes, in which order, and their net input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketseg.data import BoundedCache, Case, Cases
from pocketseg.data.cases import CACHE_MIB
from pocketseg.pipeline import Pipeline
from pocketseg.pipeline.geometry import pad_to_size
from pocketseg.training.augment import sample_generator

# First numbers of the generators' keys, so that order and augmentation never share a stream.
ORDER, CROP, AUGMENT = 1, 2, 3


@dataclass
class Samples:
    """Cases as net input, prepared once and kept as far as memory allows.

    Attributes:
        cases: the data set.
        part: the cases to draw from.
        pipeline: how images become net input.
        seed: of order and crops.
    """

    cases: Cases
    part: Sequence[Case]
    pipeline: Pipeline
    seed: int
    cache: BoundedCache

    @classmethod
    def of(cls, cases: Cases, part: Sequence[Case], pipeline: Pipeline, seed: int) -> Samples:
        return cls(cases, part, pipeline, seed, BoundedCache(CACHE_MIB * 2**20))

    def prepared(self, case: Case) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Net input (c, h, w) and class indices (h, w) of a case, before augmentation."""

        def make() -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
            image, mask = self.cases.image(case), self.cases.mask(case)
            return self.pipeline.prepare(image, case.spacing_mm), self.pipeline.fit_mask(mask, case.spacing_mm)

        image, mask = self.cache.get(case.name, make)
        return image, mask

    def order(self, epoch: int, *, copies: int, balanced: bool) -> list[Case]:
        """The cases of an epoch: a permutation, or drawn so that each set of present classes is as likely."""
        rng = sample_generator(ORDER, self.seed, epoch)
        pool = [case for case in self.part for _ in range(copies)]
        if not balanced:
            return [pool[index] for index in rng.permutation(len(pool))]
        kinds: dict[bytes, list[Case]] = {}
        for case in pool:
            kinds.setdefault(np.unique(self.prepared(case)[1]).tobytes(), []).append(case)
        groups = [kinds[key] for key in sorted(kinds)]
        chosen = [groups[index] for index in rng.integers(len(groups), size=len(pool))]
        return [group[rng.integers(len(group))] for group in chosen]

    def batch(self, batch: Sequence[Case], epoch: int, first: int) -> tuple[Tensor, Tensor]:
        """Images (n, c, h, w) and masks (n, h, w) of cases at positions first, first + 1, … of the epoch."""
        pairs = [self._cropped(case, epoch, first + offset) for offset, case in enumerate(batch)]
        return (
            torch.from_numpy(np.stack([image for image, _ in pairs])),
            torch.from_numpy(np.stack([mask for _, mask in pairs])),
        )

    def _cropped(self, case: Case, epoch: int, position: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """A random window of the net's size where the pipeline tiles, else the whole."""
        image, mask = self.prepared(case)
        if self.pipeline.fit != "tile":
            return image, mask
        height, width = self.pipeline.size
        image = pad_to_size(image, self.pipeline.size)
        mask = pad_to_size(mask[None].astype(np.float32), self.pipeline.size)[0].astype(np.uint8)
        rng = sample_generator(CROP, self.seed, epoch, position)
        top, left = (
            int(rng.integers(whole - part + 1)) for whole, part in zip(mask.shape, (height, width), strict=True)
        )
        window = (slice(top, top + height), slice(left, left + width))
        return image[(slice(None), *window)], mask[window]


def learn_mean_std(
    cases: Cases, part: Sequence[Case], pipeline: Pipeline
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all pixels of a part, on the net's grid, in f64."""
    count, total, squares = 0, np.zeros(pipeline.channels), np.zeros(pipeline.channels)
    for case in part:
        planes = pipeline.fitted(cases.image(case), case.spacing_mm).astype(np.float64)
        count += planes.shape[1] * planes.shape[2]
        total += planes.sum((1, 2))
        squares += (planes**2).sum((1, 2))
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1e-12))
    return tuple(mean.tolist()), tuple(std.tolist())
