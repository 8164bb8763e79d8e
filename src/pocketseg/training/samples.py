"""Training samples: which cases an epoch takes, in which order, and their net input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketseg.data import BoundedCache, Case, Cases
from pocketseg.data.cases import cache_bytes
from pocketseg.errors import DataError
from pocketseg.layers import covered, grid_of, layer, present
from pocketseg.pipeline import Pipeline, TrainedOn
from pocketseg.pipeline.geometry import pad_to_size, tiles
from pocketseg.pipeline.intensity import Colors, bounds, is_colored
from pocketseg.recipes.schema import SamplingSection
from pocketseg.training.augment import sample_generator
from pocketseg.training.pixel_weights import border_weights

# First numbers of the generators' keys, so that order and augmentation never share a stream.
ORDER, CROP, AUGMENT, DROPOUT, UNLABELLED, MIX, OWN = range(1, 8)

UNIFORM = SamplingSection()

# Images and maps in f32, masks in u8.
Planes = NDArray[Any]


@dataclass
class Samples:
    """Cases as net input, prepared once and kept as far as memory allows.

    Attributes:
        cases: the data set.
        part: the cases to draw from.
        pipeline: how images become net input.
        seed: of order and crops.
        unlabelled: images without masks that join.
        maps: probabilities (k, h, w) of a case on a grid (h, w), where a teacher left them; else None.
        weighting: where the weights of pixels come from, if the loss has some.
        sampling: weight of empty cases, number and place of windows.
    """

    cases: Cases
    part: Sequence[Case]
    pipeline: Pipeline
    seed: int
    cache: BoundedCache
    unlabelled: Sequence[Case] = ()
    maps: Callable[[Case, tuple[int, int]], NDArray[np.float32]] | None = None
    weighting: Literal["files", "borders"] | None = None
    sampling: SamplingSection = UNIFORM

    @classmethod
    def of(cls, cases: Cases, part: Sequence[Case], pipeline: Pipeline, seed: int) -> Samples:
        return cls(cases, part, pipeline, seed, BoundedCache(cache_bytes()))

    def length(self, copies: int) -> int:
        """Samples of an epoch: no more unlabelled ones than others."""
        labelled = copies * sum(map(self.windows, self.part))
        return labelled + min(labelled, len(self.unlabelled))

    def windows(self, case: Case) -> int:
        """Samples that an epoch takes of a case: one, or as many windows as have its area on the net's grid."""
        if self.sampling.windows == "one":
            return 1
        return max(1, math.ceil(math.prod(grid_of(self.prepared(case)[1])) / math.prod(self.pipeline.size)))

    def calls(self, case: Case) -> int:
        """Calls of the net that it takes to predict a case."""
        if self.pipeline.fit != "tile":
            return 1
        return len(tiles(grid_of(self.prepared(case)[1]), self.pipeline.size))

    def prepared(self, case: Case) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Net input (c, h, w) and mask, class indices (h, w) or planes (k, h, w), of a case, before augmentation.

        No mask is an empty one.
        """

        def make() -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
            image, spacing = self.cases.image(case), case.spacing_mm
            mask = self.cases.mask(case) if case.masks else self.pipeline.empty_mask((image.shape[0], image.shape[1]))
            try:
                return self.pipeline.prepare(image, spacing), self.pipeline.fit_mask(mask, spacing)
            except DataError as error:
                raise error.about(case.image.where) from None

        image, mask = self.cache.get(case.name, make)
        return image, mask

    @cached_property
    def classes(self) -> dict[str, tuple[int, ...]]:
        """The indices that occur on the grid in the mask of each case of the part, background included."""
        return {case.name: _occurring(self.prepared(case)[1]) for case in self.part}

    @cached_property
    def with_objects(self) -> list[Case]:
        """The cases of the part whose masks have foreground."""
        return [case for case in self.part if any(self.classes[case.name])]

    def order(self, epoch: int, *, copies: int, balanced: bool) -> list[Case]:
        """The cases of an epoch: a permutation, or drawn so that each set of present classes is as likely.

        Unlabelled images are spread evenly among them. Where they are many, every epoch takes other ones, until all had
        their turn.
        """
        labelled = self._labelled_order(epoch, copies, balanced)
        if not self.unlabelled:
            return labelled
        count = self.length(copies) - len(labelled)
        turns = [divmod(epoch * count + index, len(self.unlabelled)) for index in range(count)]
        shuffled = {turn: self._shuffled(turn) for turn, _ in turns}
        others = [shuffled[turn][place] for turn, place in turns]
        places = [((index + 0.5) / len(each), case) for each in (labelled, others) for index, case in enumerate(each)]
        return [case for _, case in sorted(places, key=lambda pair: pair[0])]

    def _shuffled(self, turn: int) -> list[Case]:
        rng = sample_generator(UNLABELLED, self.seed, turn)
        return [self.unlabelled[index] for index in rng.permutation(len(self.unlabelled))]

    def _labelled_order(self, epoch: int, copies: int, balanced: bool) -> list[Case]:
        rng = sample_generator(ORDER, self.seed, epoch)
        pool = [case for case in self.part for _ in range(copies * self.windows(case))]
        if self.sampling.empty != 1:
            return self._weighted(rng, pool)
        if not balanced:
            return [pool[index] for index in rng.permutation(len(pool))]
        kinds: dict[tuple[int, ...], list[Case]] = {}
        for case in pool:
            kinds.setdefault(self.classes[case.name], []).append(case)
        groups = [kinds[key] for key in sorted(kinds)]
        chosen = [groups[index] for index in rng.integers(len(groups), size=len(pool))]
        return [group[rng.integers(len(group))] for group in chosen]

    def _weighted(self, rng: np.random.Generator, pool: Sequence[Case]) -> list[Case]:
        """As many cases as the pool has, each as often as its weight says, but for one more or less.

        Systematic sampling: marks at distances of 1 fall on the cases laid one after the other, each as long as it is
        often to be taken.
        """
        weights = np.array([1.0 if any(self.classes[case.name]) else self.sampling.empty for case in pool])
        shuffled = rng.permutation(len(pool))
        ends = np.cumsum(weights[shuffled])
        ends *= len(pool) / ends[-1]
        ends[-1] = len(pool)
        counts = np.diff(np.floor(ends + rng.random()), prepend=0).astype(int)
        return [pool[index] for index in rng.permutation(np.repeat(shuffled, counts))]

    def batch(self, batch: Sequence[Case], epoch: int, first: int) -> tuple[Tensor, Tensor]:
        """Images (n, c, h, w) and masks (n, [k, ]h, w) of cases at positions first, first + 1, … of the epoch."""
        pairs = [self.prepared(case) for case in batch]
        images = self._cut([image for image, _ in pairs], batch, epoch, first)
        planes = self.pipeline.multilabel
        masks = self._cut([mask if planes else mask[None] for _, mask in pairs], batch, epoch, first)
        return torch.from_numpy(images), torch.from_numpy(masks if planes else masks[:, 0])

    def teacher_maps(self, batch: Sequence[Case], epoch: int, first: int) -> Tensor:
        """The teacher's probabilities (n, k, h, w) of the same windows as `batch` gives."""
        maps = [self._kept("map", self._map, case) for case in batch]
        return torch.from_numpy(self._cut(maps, batch, epoch, first))

    def shares(self, batch: Sequence[Case], epoch: int, first: int) -> Tensor:
        """What each class covers of the pixels, (n, classes, h, w), in the same windows as `batch` gives."""
        shares = [self._kept("shares", self._shares, case) for case in batch]
        return torch.from_numpy(self._cut(shares, batch, epoch, first))

    def pixel_weights(self, batch: Sequence[Case], epoch: int, first: int) -> Tensor:
        """The weights (n, 1, h, w) of the pixels of the same windows as `batch` gives."""
        weights = [self._kept("weights", self._weights, case) for case in batch]
        return torch.from_numpy(self._cut(weights, batch, epoch, first))

    def _kept(self, what: str, make: Callable[[Case], NDArray[np.float32]], case: Case) -> NDArray[np.float32]:
        """Planes (k, h, w) of a case on the grid of its net input, made once."""
        (planes,) = self.cache.get((what, case.name), lambda: (make(case),))
        return planes

    def _map(self, case: Case) -> NDArray[np.float32]:
        assert self.maps is not None
        return self.maps(case, grid_of(self.prepared(case)[1]))

    def _shares(self, case: Case) -> NDArray[np.float32]:
        if case.masks:
            return self.pipeline.mask_shares(self.cases.mask(case), case.spacing_mm)
        return np.zeros((len(self.pipeline.classes), *grid_of(self.prepared(case)[1])), np.float32)

    def _weights(self, case: Case) -> NDArray[np.float32]:
        mask = self.prepared(case)[1]
        if not case.masks or self.weighting == "borders":
            return border_weights(mask)[None]
        weights = self.cases.weights(case)
        if weights is None:
            raise no_weights(case)
        place = self.pipeline.placement((weights.shape[0], weights.shape[1]), case.spacing_mm)
        return place.surround(place.cut(weights[None]))

    def _cut(self, planes: Sequence[Planes], batch: Sequence[Case], epoch: int, first: int) -> Planes:
        """Planes (n, k, h, w) of cases at positions first, first + 1, …: random windows where the pipeline tiles."""
        if self.pipeline.fit != "tile":
            return np.stack(planes)
        each = enumerate(zip(planes, batch, strict=True), start=first)
        return np.stack([self._window(whole, case, epoch, position) for position, (whole, case) in each])

    def _window(self, planes: Planes, case: Case, epoch: int, position: int) -> Planes:
        planes = pad_to_size(planes, self.pipeline.size)
        height, width = self.pipeline.size
        lowest, rightmost = planes.shape[1] - height, planes.shape[2] - width
        rng = sample_generator(CROP, self.seed, epoch, position)
        pixel = self._pixel_to_show(rng, case)
        if pixel is None:
            top, left = int(rng.integers(lowest + 1)), int(rng.integers(rightmost + 1))
        else:
            row, column = pixel
            top = int(rng.integers(max(0, row - height + 1), min(row, lowest) + 1))
            left = int(rng.integers(max(0, column - width + 1), min(column, rightmost) + 1))
        return planes[:, top : top + height, left : left + width]

    def _pixel_to_show(self, rng: np.random.Generator, case: Case) -> tuple[int, int] | None:
        """The pixel (row, column) of a class, drawn first, that a window is laid over; None for a window anywhere."""
        if not self.sampling.foreground or rng.random() >= self.sampling.foreground:
            return None
        shown = [index for index in self.classes.get(case.name, ()) if index]
        if not shown:
            return None
        mask = self.prepared(case)[1]
        places = np.flatnonzero(layer(mask, shown[int(rng.integers(len(shown)))]))
        row, column = divmod(int(places[rng.integers(len(places))]), mask.shape[-1])
        return row, column


def _occurring(mask: NDArray[np.uint8]) -> tuple[int, ...]:
    return present(mask) if covered(mask).all() else (0, *present(mask))


def no_weights(case: Case) -> DataError:
    """The error for a case without the pixel weights that the loss wants."""
    return DataError(
        case.image.where,
        "has no pixel weights beside it (loss.pixel_weights=files)",
        "write NAME_weights.npy in the layout dic, or set loss.pixel_weights=borders",
    )


def learn_intensities(cases: Cases, part: Sequence[Case], pipeline: Pipeline) -> TrainedOn:
    """What the images of a part hold, after `pipeline` scaled them, for `trained_on` of the finished pipeline."""
    found = [bounds(_fitted(cases, case, pipeline)) for case in part]
    widths = [high - low for low, high in found if high > low] or [0.0]
    lows, highs = zip(*found, strict=True)
    numbers = None if pipeline.trained_on is None else pipeline.trained_on.numbers
    colored = {is_colored(cases.image(case)) for case in part}
    colors: Colors = "mixed" if len(colored) > 1 else "colored" if True in colored else "gray"
    return TrainedOn(numbers, min(lows), max(highs), min(widths), max(widths), colors)


def _fitted(cases: Cases, case: Case, pipeline: Pipeline) -> NDArray[np.float32]:
    try:
        return pipeline.fitted(cases.image(case), case.spacing_mm)
    except DataError as error:
        raise error.about(case.image.where) from None


def learn_mean_std(
    cases: Cases, part: Sequence[Case], pipeline: Pipeline
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all pixels of a part, on the net's grid, in f64."""
    count, total, squares = 0, np.zeros(pipeline.channels), np.zeros(pipeline.channels)
    for case in part:
        planes = _fitted(cases, case, pipeline).astype(np.float64)
        count += planes.shape[1] * planes.shape[2]
        total += planes.sum((1, 2))
        squares += (planes**2).sum((1, 2))
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1e-12))
    return tuple(mean.tolist()), tuple(std.tolist())
