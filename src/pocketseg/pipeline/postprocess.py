"""From probabilities on the image's own grid to a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pocketseg.memory import bands
from pocketseg.pipeline.arithmetic import added
from pocketseg.pipeline.components import fill_holes, label_components
from pocketseg.pipeline.evidence import evidence
from pocketseg.pipeline.fields import Count, Flag, Share


@dataclass(frozen=True)
class Postprocess:
    """The rules that turn probabilities into a mask, applied to each class by itself, in this order.

    Attributes:
        threshold: one foreground class, and classes that may overlap: foreground where p >= threshold. Several classes
            that exclude each other: the most probable wins (background included, the first index in a tie) and the
            threshold is not used.
        fill_holes: fill background enclosed by a component.
        min_peak: drop components whose highest probability is below it (a faint smear is not an object).
        min_pixels: drop components smaller than this number of pixels of the image's own grid.
        keep: `all` components or only the `largest` (the first one in a tie).
        thresholds: of each class that may overlap with others, where they are not all `threshold`.
        presence: a limit for each class: where the evidence of its map (`evidence`) is not above, nothing of the class
            is there, whatever the other rules would keep. Empty: no such rule.
    """

    threshold: Share = 0.5
    fill_holes: Flag = False
    min_peak: Share = 0.0
    min_pixels: Count = 0
    keep: Literal["all", "largest"] = "all"
    thresholds: tuple[Share, ...] = ()
    presence: tuple[Share, ...] = ()

    def __call__(self, probabilities: NDArray[np.float32], *, multilabel: bool = False) -> NDArray[np.uint8]:
        """uint8 (h, w) of class indices from float32 (h, w, k) foreground probabilities.

        Planes (k, h, w) of 0 and 1 where classes may overlap: each class has its own threshold and components, and its
        holes are filled whatever other classes are there.
        """
        classes = probabilities.shape[2]
        if multilabel:
            planes = threshold_or_argmax(probabilities, self.limits(classes), multilabel=True)
            for index, plane in enumerate(planes):
                there = not self.absent(index + 1, probabilities)
                plane[...] = self.clean((plane > 0) & there, probabilities[:, :, index])
            return planes
        winner = threshold_or_argmax(probabilities, self.threshold)
        mask = np.zeros_like(winner)
        for index in range(1, classes + 1):
            if self.absent(index, probabilities):
                continue
            own = winner == index
            # Holes are filled where there is background; another class inside keeps its pixels.
            mask[self.clean(own, probabilities[:, :, index - 1]) & (own | (winner == 0))] = index
        return mask

    def limits(self, classes: int) -> tuple[float, ...]:
        """The threshold of each class."""
        return self.thresholds or (self.threshold,) * classes

    def absent(self, index: int, probabilities: NDArray[np.float32]) -> bool:
        """Whether a map (h, w, k) is not sure enough that there is anything of a class (from 1 on)."""
        return bool(self.presence) and evidence(probabilities[:, :, index - 1]) <= self.presence[index - 1]

    def clean(self, mask: NDArray[np.bool_], probability: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Apply the component rules to one class's mask."""
        if self.fill_holes:
            mask = fill_holes(mask)
        if self.min_peak <= 0 and self.min_pixels <= 1 and self.keep == "all":
            return mask
        labels, count = label_components(mask)
        if not count:
            return mask
        sizes, peaks = component_sizes_and_peaks(labels, count, probability)
        kept = self.kept(sizes, peaks)
        table = np.concatenate([[False], kept])
        clean = np.empty_like(mask)
        for band in bands(mask.shape):
            clean[band] = table[labels[band]]
        return clean

    def kept(self, sizes: NDArray[np.int64], peaks: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which components stay, given their sizes in pixels and highest probabilities."""
        kept = (sizes >= self.min_pixels) & (peaks >= self.min_peak)
        if self.keep == "largest" and kept.any():
            kept &= np.arange(len(sizes)) == np.argmax(np.where(kept, sizes, -1))
        return kept


def threshold_or_argmax(
    probabilities: NDArray[np.float32], threshold: float | Sequence[float], *, multilabel: bool = False
) -> NDArray[np.uint8]:
    """Class index of each pixel before any component rule, uint8 (h, w); planes (k, h, w) where classes may overlap."""
    if multilabel:
        limits = np.broadcast_to(np.asarray(threshold, np.float32), probabilities.shape[2])
        each = zip(np.moveaxis(probabilities, 2, 0), limits, strict=True)
        return np.stack([plane >= limit for plane, limit in each]).astype(np.uint8)
    if probabilities.shape[2] == 1:
        return (probabilities[:, :, 0] >= np.asarray(threshold, np.float32)).astype(np.uint8)
    out = np.empty(probabilities.shape[:2], np.uint8)
    for band in bands(out.shape):
        background = 1 - added(np.moveaxis(probabilities[band], 2, 0))[:, :, None]
        out[band] = np.concatenate([background, probabilities[band]], 2).argmax(2)
    return out


def component_sizes_and_peaks(
    labels: NDArray[np.int32], count: int, probability: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Pixels and highest probability of components 1..count."""
    sizes = np.zeros(count + 1, np.int64)
    peaks = np.zeros(count + 1, np.float32)
    for band in bands(labels.shape):
        inside = labels[band] > 0
        of_pixels = labels[band][inside]
        sizes += np.bincount(of_pixels, minlength=count + 1)
        np.maximum.at(peaks, of_pixels, probability[band][inside])
    return sizes[1:], peaks[1:]
