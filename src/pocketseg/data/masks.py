"""From stored mask values to class indices, or to planes of classes that may overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pocketseg.data.mask_colors import ColorRule
from pocketseg.errors import DataError
from pocketseg.layers import PLANES
from pocketseg.text import counted

# With more stored values than these a mask is not a map of classes but gray levels; 0, 1, 2, … without a gap may be.
MAX_VALUES, MAX_NUMBERS = 9, 16


@dataclass(frozen=True)
class MaskCoding:
    """How stored values name classes.

    Attributes:
        classes: number of foreground classes.
        values: stored value of each foreground class; None: any single non-zero value for one class, 1..K for
            several.
        invert: one class only: the stored foreground is the background.
        threshold: one class only, and only where the user asked for it: stored values from here on are
            foreground. It makes masks of gray levels (resized ones, JPEG) usable.
        colors: "#rrggbb" of each foreground class, for pictures.
        multilabel: classes may overlap: a mask is stored as a plane for each, each as the mask of a single class; or by
            `layers`.
        layers: for classes that may overlap: the stored values that each is in.
        named: names of classes that the data set gives, for what is advised.
    """

    classes: int = 1
    values: tuple[int, ...] | None = None
    invert: bool = False
    threshold: float | None = None
    colors: tuple[str, ...] | None = None
    multilabel: bool = False
    layers: tuple[tuple[int, ...], ...] | None = None
    named: tuple[str, ...] = field(default=(), compare=False)

    @property
    def by_value(self) -> bool:
        """Whether the user says which stored values the classes are."""
        return self.values is not None or self.layers is not None

    @property
    def color_rule(self) -> ColorRule:
        """What colors and palettes of pictures mean: `values` are those of a palette's indices."""
        return self.colors or ("index" if self.by_value else "look")

    def decode(self, stored: NDArray[np.generic], where: str) -> NDArray[np.uint8]:
        """uint8 (h, w) of class indices; planes (k, h, w) of 0 and 1 where classes may overlap.

        Args:
            stored: (h, w), or planes (k, h, w).
            where: the mask, for errors.

        Raises:
            DataError: the values are not class values, for example the gray levels of a photograph.
        """
        return self.decode_with_values(stored, where)[0]

    def decode_with_values(
        self, stored: NDArray[np.generic], where: str
    ) -> tuple[NDArray[np.uint8], NDArray[np.generic]]:
        """As `decode`, and the stored values but 0; none of a mask of true and false, or under a threshold."""
        if self.multilabel and self.layers is None:
            return self._planes(stored, where)
        if stored.ndim != 2:
            what = f"holds {counted(len(stored), 'plane')}, and one is needed"
            fix = "leave out data.mask.layers, or data.multilabel says that classes may overlap"
            raise DataError(where, what, fix)
        found = np.unique(stored)
        if np.issubdtype(stored.dtype, np.floating) and not np.isfinite(found).all():
            raise DataError(where, "the mask holds NaN or infinite values", "store class indices")
        if self.threshold is not None:
            cut: NDArray[np.uint8] = (np.greater_equal(stored, self.threshold) != self.invert).astype(np.uint8)
            return cut, found[:0]
        if self.layers is not None:
            return self._layers(self.layers, stored, where), found[found != 0]
        mapping = self._mapping(found, where)
        out = np.zeros(stored.shape, np.uint8)
        for value, index in mapping.items():
            out[stored == value] = index
        return out, found[:0] if stored.dtype == bool else found[found != 0]

    def _planes(self, stored: NDArray[np.generic], where: str) -> tuple[NDArray[np.uint8], NDArray[np.generic]]:
        """Planes from a stored plane for each class, every one read as the mask of a single class."""
        planes = stored if stored.ndim == PLANES else stored[None]
        if len(planes) != self.classes:
            what = f"holds {counted(len(planes), 'plane')} for {counted(self.classes, 'class[|es]')} that may overlap"
            fix = (
                "store a channel or page for each; or a file for each, and --set 'data.mask.suffix=_{class}'; or say "
                "which classes a stored value stands for with data.mask.layers"
            )
            raise DataError(where, what, fix)
        single = MaskCoding(threshold=self.threshold)
        each = [single.decode_with_values(plane, f"{where}, plane {at}") for at, plane in enumerate(planes, start=1)]
        return np.stack([mask for mask, _ in each]), np.unique(np.concatenate([values for _, values in each]))

    def _layers(self, layers: Sequence[Sequence[int]], stored: NDArray[np.generic], where: str) -> NDArray[np.uint8]:
        """Planes from values that stand for several classes."""
        known = {value for values in layers for value in values}
        found = np.unique(stored).tolist()
        unknown = [value for value in found if value != 0 and value not in known]
        if unknown:
            what, fix = self._not_a_mask(found, unknown)
            in_layers = "name each value in data.mask.layers, for every class that it is in"
            raise DataError(where, what, in_layers if "none of the" in what else fix)
        return np.stack([np.isin(stored, list(values)) for values in layers]).astype(np.uint8)

    def _mapping(self, found: NDArray[np.generic], where: str) -> dict[float, int]:
        foreground = [value for value in found.tolist() if value != 0]
        if self.values is not None:
            known: dict[float, int] = {float(value): index for index, value in enumerate(self.values, start=1)}
        elif self.classes == 1:
            known = {float(foreground[0]): 1} if len(foreground) == 1 and foreground[0] > 0 else {}
        else:
            known = {float(index): index for index in range(1, self.classes + 1)}
        unknown = [value for value in foreground if float(value) not in known]
        if unknown:
            raise DataError(where, *self._not_a_mask(found.tolist(), unknown))
        if not self.invert:
            return known
        return {0.0: 1} | dict.fromkeys(known, 0)

    def _not_a_mask(self, found: Sequence[float], unknown: Sequence[float]) -> tuple[str, str]:
        shown = ", ".join(f"{value:g}" for value in unknown[:8]) + (", …" if len(unknown) > 8 else "")
        if min(found) < 0:
            return (
                f"not a mask: it holds negative values ({shown})",
                "this looks like an image; check the folders",
            )
        if any(value != round(value) for value in unknown) and len(found) <= MAX_NUMBERS:
            return (
                f"holds values that are not whole numbers ({shown})",
                "save the labels as integers, a NIfTI file without a scaling slope (scl_slope); or, for one class, "
                "--set data.mask.threshold=0.5 cuts them",
            )
        if self.values is not None or self.classes > 1:
            return (
                f"holds the values {shown}, which stand for none of the {counted(self.classes, '[class|classes]')}",
                "set data.classes, and data.mask.values where the classes are not stored as 1, 2, …",
            )
        numbered = list(found) == list(range(len(found)))
        if len(found) > (MAX_NUMBERS if numbered else MAX_VALUES):
            half = 128 if max(found) > 1 else 0.5
            return (
                "not a mask: it has many gray levels",
                "check that image and mask are not swapped; if the masks are blurred, "
                f"--set data.mask.threshold={half} cuts them; numbered objects: data.mask.threshold=1 unites them",
            )
        known = self.named if max(unknown) <= len(self.named) else ()
        names = known or [f"name{number + 1}" for number in range(len(unknown))]
        return (
            f"holds several foreground values ({shown}), but there is one class",
            f"--set 'data.classes=[{','.join(names)}]' "
            "--set 'stages.*.loss.bce=0' --set 'stages.*.loss.ce=1' if they are classes "
            "(with data.mask.values where they are not stored as 1, 2, …), "
            "or --set data.mask.threshold=1 to unite them",
        )


def class_indices(stored: NDArray[np.generic], where: str) -> NDArray[np.uint8]:
    """A mask (h, w) to be shown, whose classes nobody has named: a single foreground value is class 1, whatever it is.

    Raises:
        DataError: several values that are not class indices.
    """
    values = np.unique(stored[stored != 0])
    if len(values) <= 1:
        stored = np.not_equal(stored, 0)
    elif not np.isin(values, np.arange(256)).all():
        raise DataError(
            where,
            f"holds {counted(len(values), 'value[ that is|s that are] not class indices')}",
            "give class indices (h, w)",
        )
    indices: NDArray[np.uint8] = stored.astype(np.uint8)
    return indices
