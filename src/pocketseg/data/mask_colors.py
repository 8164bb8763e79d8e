"""Masks in colors or with a palette: what is background is decided by the colors, never by the order of a palette.

Black and transparent pixels are background. A palette whose first entry is background numbers the classes, so that an
index is a class. A single other color beside the background is the foreground, wherever it stands. What remains is
refused with its colors, unless the user says which color is which class, or that the indices are the classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pocketseg.errors import DataError

# Of how stored colors become values: by what they look like, the palette's indices as they are, or "#RRGGBB" a class.
ColorRule = Literal["look", "index"] | tuple[str, ...]
SHOWN, MAX_COLORS = 8, 256
# With more colors than these a mask is rather a picture.
PICTURE = 32
OPAQUE = 255


@dataclass(frozen=True)
class _Used:
    """The colors that a mask uses, RGBA (n, 4), in how many pixels each, and each pixel's place among them (h, w)."""

    colors: NDArray[np.uint8]
    counts: NDArray[np.int64]
    places: NDArray[np.int64]

    @property
    def background(self) -> NDArray[np.bool_]:
        """Which of them are black or transparent."""
        clear: NDArray[np.bool_] = np.equal(self.colors[:, 3], 0)
        return clear | ~self.colors[:, :3].any(axis=1)

    def text(self) -> str:
        order = np.argsort(-self.counts, kind="stable")
        shown = [f"{_named(self.colors[at])} in {self.counts[at]} pixels" for at in order[:SHOWN]]
        return ", ".join(shown) + (", …" if len(order) > SHOWN else "")


def index_values(
    indices: NDArray[np.uint8], palette: NDArray[np.uint8], where: str, rule: ColorRule = "look", *, gray: bool = False
) -> NDArray[np.generic]:
    """Stored values (h, w) of a mask with a palette: 0 is background.

    Args:
        indices: (h, w) into the palette.
        palette: RGBA (n, 4); what lies beyond it is black.
        where: the file.
        rule: see `ColorRule`.
        gray: the values will be cut by a threshold, so they are gray levels where the palette is gray.

    Raises:
        DataError: the colors do not say which of them is background, or a class's color is not among them.
    """
    if rule == "index":
        return indices
    entries = np.zeros((256, 4), np.uint8)
    entries[:, 3] = OPAQUE
    entries[: len(palette)] = palette[:256]
    numbers, places, counts = np.unique(indices, return_inverse=True, return_counts=True)
    used = _Used(entries[numbers], counts, places.reshape(indices.shape))
    if rule != "look":
        return _classes(used, rule, where)
    _refuse_half_transparent(used, where)
    if gray and (used.colors[:, :3] == used.colors[:, :1]).all() and (used.colors[:, 3] == OPAQUE).all():
        levels: NDArray[np.uint8] = used.colors[used.places, 0]
        return levels
    single = _single(used, where, 255 if gray else 1) if len(np.unique(used.colors, axis=0)) == len(numbers) else None
    first_is_background = entries[0, 3] == 0 or not entries[0, :3].any()
    if first_is_background and not used.background[numbers > 0].any() and not (gray and single is not None):
        return indices
    if single is None:
        raise _ambiguous(used, where, "their palette does not begin with the background")
    return single


def color_values(pixels: NDArray[np.uint8], where: str, rule: ColorRule = "look") -> NDArray[np.generic]:
    """Stored values (h, w) of a mask in colors, RGB or RGBA (h, w, c): 0 is background, the single other color 255.

    Raises:
        DataError: as `index_values`.
    """
    if pixels.shape[2] == 3:
        pixels = np.dstack([pixels, np.full(pixels.shape[:2], OPAQUE, np.uint8)])
    packed = np.ascontiguousarray(pixels).view(np.uint32)[:, :, 0]
    found, places, counts = np.unique(packed, return_inverse=True, return_counts=True)
    used = _Used(found.view(np.uint8).reshape(-1, 4), counts, places.reshape(packed.shape))
    if len(found) > MAX_COLORS:
        raise _ambiguous(used, where, "")
    if isinstance(rule, tuple):
        return _classes(used, rule, where)
    _refuse_half_transparent(used, where)
    single = _single(used, where, 255)
    if single is None:
        raise _ambiguous(used, where, "several of them may be the background or a class")
    return single


def refuse_colors(rule: ColorRule, where: str) -> None:
    """Raises: DataError: colors name the classes of what has no colors."""
    if isinstance(rule, tuple):
        raise DataError(where, "is not a picture, and data.mask.colors names colors", "leave out data.mask.colors")


def _single(used: _Used, where: str, value: int) -> NDArray[np.uint8] | None:
    """The one color beside the background as a value; None where it is not one."""
    background = used.background
    if (~background).sum() > 1 or background.sum() > 1 or (len(background) > 1 and not background.any()):
        return None
    return np.where(background, 0, value).astype(np.uint8)[used.places]


def _classes(used: _Used, rule: Sequence[str], where: str) -> NDArray[np.uint8]:
    """Class indices by the colors that the user names; what is left is the background, one color or black."""
    names = [_named(color)[:7] for color in used.colors]
    values = np.array([rule.index(name) + 1 if name in rule else 0 for name in names], np.uint8)
    values[used.colors[:, 3] == 0] = 0
    rest = (values == 0) & ~used.background
    if rest.sum() > 1 or (rest.any() and used.background[values == 0].any()):
        raise _ambiguous(used, where, "some of them are not a class of data.mask.colors")
    return values[used.places]


def _refuse_half_transparent(used: _Used, where: str) -> None:
    if not np.isin(used.colors[:, 3], (0, OPAQUE)).all():
        what = "the mask has a transparent alpha channel of more than two values"
        raise DataError(where, what, "save the mask as gray PNG without alpha")


def _ambiguous(used: _Used, where: str, why: str) -> DataError:
    alpha = (used.colors[:, 3] == 0).any()
    what = f"the mask is colored{', with a transparent alpha channel' if alpha else ''}: {used.text()}"
    if len(used.colors) > PICTURE:
        what = f"{what}; {len(used.colors)} colors are those of a picture, not of a mask"
        fix = (
            "give the masks themselves, as gray PNG without smoothing: a picture with outlines drawn on it (overlay) "
            "does not say what lies inside of them"
        )
        return DataError(where, what, fix)
    what = f"{what}; {why}"
    order = np.argsort(-used.counts, kind="stable")
    names = [_named(color)[:7] for color in used.colors[order][~used.background[order]]]
    if not used.background.any():
        names = names[1:] + names[:1]  # the most frequent one is rather the background
    example = names[0] if names else "#ffffff"
    fix = (
        f"name the color of each class: --set \"data.mask.colors=['{example}']\"; where a palette's indices are the "
        "classes, --set 'data.mask.values=[1]' takes them as they are"
    )
    return DataError(where, what, fix)


def _named(color: NDArray[np.uint8]) -> str:
    red, green, blue, alpha = color.tolist()
    return f"#{red:02x}{green:02x}{blue:02x}" + ("" if alpha == OPAQUE else f" (opacity {alpha})")
