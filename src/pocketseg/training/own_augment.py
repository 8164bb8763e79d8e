"""Augmentation by a function of the user's, in Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg.errors import RecipeError, TrainingError
from pocketseg.layers import overlaps

# Image float32 (h, w, c), 0 to 1; mask uint8 (h, w) of class indices, or (h, w, k) of 0 and 1 where classes may
# overlap; a generator of its own for each sample.
Function = Callable[[NDArray[np.float32], NDArray[np.uint8], np.random.Generator], tuple[Any, Any]]


@dataclass(frozen=True)
class OwnAugmentation:
    """A function (image, mask, generator) → (image, mask) that changes a sample before the recipe's augmentation does.

    Attributes:
        name: of the function; what the manifest keeps of it.
        function: which may change its arrays in place.
        classes: foreground classes of the masks.
    """

    name: str
    function: Function
    classes: int

    def __call__(
        self, image: NDArray[np.float32], mask: NDArray[np.uint8], rng: np.random.Generator, where: str
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """A changed sample.

        Args:
            image: (c, h, w); the function sees it as (h, w, c), stretched to 0 … 1 by its own extremes, and its answer
                is stretched back.
            mask: (h, w), class indices; or planes (k, h, w), which the function sees and gives as (h, w, k), so that
                axes are those of its image.
            rng: the only source of chance, so that a training can be repeated.
            where: the image, for errors.

        Raises:
            TrainingError: the function fails, or gives no such pair.
        """
        low, high = float(image.min()), float(image.max())
        span = max(high - low, 1e-6)
        given = np.ascontiguousarray(np.moveaxis((image - low) / span, 0, -1), np.float32)
        drawn = np.moveaxis(mask, 0, -1) if overlaps(mask) else mask
        highest = 1 if overlaps(mask) else self.classes
        try:
            changed, labels = self.function(given, np.array(drawn, order="C"), rng)
            changed, labels = np.asarray(changed), np.asarray(labels)
        except Exception as error:
            raise self._wrong(where, f"fails ({type(error).__name__}: {error})") from error
        if changed.shape != given.shape or changed.dtype.kind not in "fiu":
            raise self._wrong(where, f"gives an image {changed.dtype} {changed.shape}, not float32 {given.shape}")
        if labels.shape != drawn.shape or labels.dtype.kind not in "biu":
            raise self._wrong(where, f"gives a mask {labels.dtype} {labels.shape}, not uint8 {drawn.shape}")
        if not np.isfinite(changed).all():
            raise self._wrong(where, "gives an image with NaN or infinite numbers")
        if labels.min() < 0 or labels.max() > highest:
            what = f"gives a mask with the values {labels.min()} to {labels.max()}, not 0 to {highest}"
            raise self._wrong(where, what)
        back = np.moveaxis(changed.astype(np.float32), -1, 0) * np.float32(span) + np.float32(low)
        labels = np.moveaxis(labels, -1, 0) if overlaps(mask) else labels
        return np.ascontiguousarray(back), np.ascontiguousarray(labels, np.uint8)

    def _wrong(self, where: str, what: str) -> TrainingError:
        return TrainingError(f"the augmentation {self.name}, for {where}", what, "correct the function")


def own_augmentation(recipe_name: str | None, function: Function | None, classes: int) -> OwnAugmentation | None:
    """What a recipe names, or what a Python program gives; None where neither does.

    Raises:
        RecipeError: both do, or nobody knows the name.
    """
    if function is None:
        if recipe_name is None:
            return None
        from pocketseg.nets.user_code import own_function

        return OwnAugmentation(recipe_name, own_function(recipe_name), classes)
    if recipe_name is not None:
        raise RecipeError("augment.own", f"is {recipe_name}, and a function is given too", "give one of them")
    if not callable(function):
        what = f"is {type(function).__name__}, not a function (image, mask, generator)"
        raise RecipeError("augment", what, "give a function, or set keys of augment in the recipe")
    name = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', type(function).__name__)}"
    return OwnAugmentation(name, function, classes)
