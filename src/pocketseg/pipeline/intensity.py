"""From stored numbers to the numbers a net sees."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pocketseg.errors import DataError
from pocketseg.memory import bands
from pocketseg.pipeline.arithmetic import added, total
from pocketseg.pipeline.fields import Number, Positive, Width
from pocketseg.text import counted

Array = NDArray[np.float32]

# ITU-R BT.601 luma.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Below this standard deviation an image counts as constant and is only centered.
MIN_STD = 1e-6

# Types of integers whose maximum is white.
FULL_SCALE = {"bool": 1.0, "uint8": 255.0, "uint16": 65535.0}
# What most pixels are not brighter than, in percent, and from about how many of them that is taken.
BRIGHTEST, SAMPLED = 99.5, 4096
# An image is unlike those of training where its range of intensities is so many times smaller or larger.
FAR = 4
# Channels that are apart by no more than this share of an image's range show gray.
CAST = 1 / 20

Colors = Literal["gray", "colored", "mixed"]
Numbers = Literal["uint8", "uint16", "float"]
NUMBERS: tuple[Numbers, ...] = get_args(Numbers)
NormalizationKind = Literal["unit-range", "min-max", "z-score", "train-mean-std"]


@dataclass(frozen=True)
class Normalization:
    """How unit-range intensities become net input.

    Attributes:
        kind: `unit-range` leaves [0, 1]; `min-max` stretches each image to it; `z-score` gives each image mean 0
            and standard deviation 1; `train-mean-std` subtracts and divides by the numbers learned from the training
            part.
        clip: after `z-score`, values are cut to ±clip; None leaves them.
        mean, std: per channel, learned; only for `train-mean-std`.
    """

    kind: NormalizationKind = "unit-range"
    clip: Positive | None = None
    mean: tuple[Number, ...] = ()
    std: tuple[Positive, ...] = ()

    def __call__(self, planes: Array) -> Array:
        """Normalize (c, h, w) planes of unit range; a constant image gives zeros, no division by zero."""
        if self.kind == "unit-range":
            return planes
        if self.kind == "min-max":
            low, high = float(planes.min()), float(planes.max())
            return (planes - low) / max(high - low, MIN_STD)
        if self.kind == "z-score":
            out = planes.astype(np.float64) - total(planes) / planes.size
            out /= max(math.sqrt(total(out * out) / out.size), MIN_STD)
            return np.asarray(out if self.clip is None else np.clip(out, -self.clip, self.clip), np.float32)
        mean = np.asarray(self.mean, np.float32)[:, None, None]
        std = np.asarray(self.std, np.float32)[:, None, None]
        return (planes - mean) / std


def unit_range(
    image: NDArray[np.generic],
    declared: tuple[float, float] | None = None,
    numbers: Numbers | None = None,
) -> Array:
    """Scale an image to [0, 1]; which stored values become 0 and 1 is one rule for files and arrays, in this order.

    1. The declared range, whatever the type.
    2. bool by 0 and 1, uint8 by 255, uint16 by 65535, whatever the image's own values are.
    3. Every other type has no full scale of its own. Where training saw uint8 or uint16 only, that type's holds, if no
       value lies outside of it; floats that all lie in 0 to 1 are fractions of it.
    4. Other floats run from their own lowest to their highest value; other integers too where training saw floats only,
       and else they are refused.

    Args:
        image: (h, w) or (h, w, c), any integer, bool or float dtype.
        declared: the values that become 0 and 1.
        numbers: what training saw, if it is known and of one type.

    Raises:
        DataError: nothing says what the integers mean; or a value is nan or inf, or too far from the others for f32.

    Example:
        >>> unit_range(np.array([[0, 255]], np.uint8)).tolist()
        [[0.0, 1.0]]
        >>> unit_range(np.array([[0, 255]], np.int64), numbers="uint8").tolist()
        [[0.0, 1.0]]
    """
    _refuse_not_finite(image)
    low, high = declared or _scale(image, numbers)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        span = np.float32(high - low)
        scaled: Array = image.astype(np.float32)
        scaled -= np.float32(low)
        scaled /= span if high > low else np.float32(1)
    if not np.isfinite(scaled).all() or (high > low and not 0 < span < np.inf):
        what = f"holds {image.dtype} from {image.min():g} to {image.max():g}, which f32 cannot tell apart or hold"
        raise DataError("image", what, "bring it to a usual range")
    return scaled


def _refuse_not_finite(image: NDArray[np.generic]) -> None:
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        count = int((~np.isfinite(image)).sum())
        raise DataError("image", counted(count, "pixel[ is|s are] NaN or infinite"), "replace them by numbers")


def _scale(image: NDArray[np.generic], numbers: Numbers | None) -> tuple[float, float]:
    """The values that become 0 and 1 where none are declared."""
    own = FULL_SCALE.get(image.dtype.name)
    if own is not None:
        return 0.0, own
    low, high = float(image.min()), float(image.max())
    top, whole = FULL_SCALE.get(numbers or ""), image.dtype.kind in "ui"
    if top is not None and low >= 0 and high <= top:
        return 0.0, 1.0 if high <= 1 and not whole else top
    if not whole or numbers == "float":
        return low, high
    known = f"the model was trained on {numbers}, 0 to {top:g}" if top else "the model does not say what they mean"
    what = f"holds {image.dtype} from {low:g} to {high:g}; {known}"
    raise DataError("image", what, "convert it to uint8 or uint16, as files of the training data would be read")


def stored_fractions(values: NDArray[np.generic]) -> Array:
    """Probabilities that are stored as gray levels of full scale (bool, uint8, uint16), or as floats from 0 to 1.

    Raises:
        DataError: other integers, of which nothing says what stands for 1; or values outside of 0 to 1, or nan.

    Example:
        >>> stored_fractions(np.array([[0, 255]], np.uint8)).tolist()
        [[0.0, 1.0]]
    """
    full = FULL_SCALE.get(values.dtype.name, 1.0 if values.dtype.kind == "f" else 0.0)
    if full and values.size:
        with np.errstate(over="ignore"):
            fractions: Array = values.astype(np.float32) / np.float32(full)
        if fractions.min() >= 0 and fractions.max() <= 1:
            return fractions
    what = f"holds {values.dtype} of the shape {values.shape}, no probabilities from 0 to 1"
    raise DataError("image", what, "store floats from 0 to 1, or 8 or 16-bit gray")


def numbers_of(stored: Mapping[str, tuple[float, float]]) -> Numbers | None:
    """What kind of numbers images hold, as `unit_range` wants to know it; None where they are of several kinds.

    Integers of other types count as uint8 where none of them lies outside of 0 to 255, and nothing else is there.

    Args:
        stored: NumPy's name of each type -> the lowest and highest value of it.

    Raises:
        DataError: integers of other types that are not uint8.

    Example:
        >>> numbers_of({"int64": (0, 255)}), numbers_of({"uint8": (0, 3), "uint16": (0, 3)})
        ('uint8', None)
    """
    kinds = {name: np.dtype(name).kind for name in stored}
    others = [name for name, kind in kinds.items() if kind in "ui" and name not in FULL_SCALE]
    if not others:
        found = {"float" if kind == "f" else name for name, kind in kinds.items()}
        return next((each for each in NUMBERS if found == {each}), None)
    low, high = (end(stored[name][at] for name in others) for at, end in ((0, min), (1, max)))
    if low >= 0 and high <= FULL_SCALE["uint8"] and set(stored) <= {*others, "uint8"}:
        return "uint8"
    raise DataError(
        "images",
        f"hold {' and '.join(others)} from {low:g} to {high:g}, and nothing says which of them are black and white",
        f"set data.range=[{low:g}, {high:g}], or save them as uint8 or uint16",
    )


def bounds(planes: Array) -> tuple[float, float]:
    """Between which values nearly all pixels of planes lie: the 0.5th and the 99.5th percentile, of a part of them."""
    some = planes.reshape(-1)[:: max(1, planes.size // SAMPLED)]
    low, high = np.percentile(some, [100 - BRIGHTEST, BRIGHTEST])
    return float(low), float(high)


@dataclass(frozen=True)
class TrainedOn:
    """What the training images held, by which others are read and evaluated.

    Attributes:
        numbers: their type, if it is one; None where they are of several, or a declared range scales them.
        low, high: after scaling, the lowest and the highest of the images' `bounds`.
        narrowest, widest: the smallest and the largest distance of an image's two bounds; images of one value apart.
        colors: whether the images were gray, colored, or some of each; None in files of before, which do not say.
    """

    numbers: Numbers | None = None
    low: Number = 0.0
    high: Number = 1.0
    narrowest: Width = 1.0
    widest: Width = 1.0
    colors: Colors | None = None

    def unlike(self, low: float, high: float) -> str:
        """How an image of such `bounds` differs from those of training; empty where it does not much."""
        width = high - low
        slack = self.widest / FAR
        apart = low > self.high + slack or high < self.low - slack
        if not (apart or 0 < width * FAR < self.narrowest or width > self.widest * FAR):
            return ""
        theirs = f"those of training from {self.low:.3g} to {self.high:.3g}"
        return f"its intensities run from {low:.3g} to {high:.3g} of full scale, {theirs}"


def is_colored(image: NDArray[np.generic]) -> bool:
    """Whether an image (h, w[, c]) is in color: three channels that differ in some pixel by more than a faint cast.

    RGB that shows gray is not, nor what a scanner or a lossy format tinted by at most `CAST` of the image's range.
    """
    if image.ndim != 3 or image.shape[2] != 3:
        return False
    parts = [image[rows] for rows in bands(image.shape)]
    if not any(bool((part != part[:, :, :1]).any()) for part in parts):
        return False
    limit = CAST * (float(image.max()) - float(image.min()))
    with np.errstate(invalid="ignore", over="ignore"):  # of what is not finite, which is refused elsewhere
        return any(bool((_spread(part) > limit).any()) for part in parts)


def _spread(image: NDArray[np.generic]) -> Array:
    """How far the channels of each pixel (h, w) are apart."""
    spread: Array = image.max(axis=2).astype(np.float32) - image.min(axis=2).astype(np.float32)
    return spread


def converts(have: int, wanted: int, contrasts: bool = False) -> bool:
    """Whether `to_channels` has a rule for it; for contrasts of a scan there is none but to take all."""
    return have in (1, wanted) or ((have, wanted) == (3, 1) and not contrasts)


def check_contrasts(have: int, wanted: int, where: str) -> None:
    """Contrasts of a scan are never mixed to gray as colors are.

    Raises:
        DataError: there are as many of them as colors, and the net takes one channel.
    """
    if have > 1 and not converts(have, wanted, contrasts=True):
        what = f"holds {have} contrasts as its channels, and the net takes {wanted}"
        raise DataError(where, what, "give images of the kind that the net was trained on")


def to_planes(
    image: NDArray[np.generic],
    channels: int,
    declared: tuple[float, float] | None = None,
    numbers: Numbers | None = None,
) -> Array:
    """`unit_range` and `to_channels`, of large images some rows at a time.

    Raises:
        DataError: as `unit_range`.
        ValueError: as `to_channels`.
    """
    _refuse_not_finite(image)
    scale = declared or _scale(image, numbers)
    planes = np.empty((channels, *image.shape[:2]), np.float32)
    for rows in bands(image.shape):
        planes[:, rows] = to_channels(unit_range(image[rows], scale), channels)
    return planes


def to_channels(image: Array, channels: int) -> Array:
    """(h, w) or (h, w, c) to (channels, h, w): color to gray by BT.601, gray to color by repetition.

    Raises:
        ValueError: no rule leads from the image's channels to the wanted ones.
    """
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    have = planes.shape[0]
    if not converts(have, channels):
        raise ValueError(f"the image has {counted(have, 'channel')} and the net takes {channels}")
    if have == channels:
        return np.ascontiguousarray(planes)
    if have == 1:
        return np.repeat(planes, channels, axis=0)
    return added(weight * plane for weight, plane in zip(LUMA, planes, strict=True))[None]
