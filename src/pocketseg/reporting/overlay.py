"""Contours and regions drawn on an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pocketseg.layers import grid_of, overlaps
from pocketseg.memory import bands

# Okabe and Ito (2008), distinguishable with any kind of color vision; in the order in which classes use them.
PALETTE = ("#E69F00", "#56B4E9", "#F0E442", "#CC79A7", "#009E73", "#D55E00", "#0072B2")
REFERENCE_COLOR = PALETTE[1]
DASH_PIXELS = 4
# Reference only, prediction only, both.
COMPARED = (PALETTE[1], PALETTE[0], PALETTE[4])
GAP, TITLE_PIXELS = 8, 16
# Of an image's longer side to the width of its contours.
SIDE_TO_WIDTH = 400


def overlay(
    image: NDArray[Any],
    mask: NDArray[np.uint8],
    reference: NDArray[np.uint8] | None = None,
    *,
    alpha: float = 0.0,
    classes: int | None = None,
    stretched: bool = True,
) -> NDArray[np.uint8]:
    """The image with the contours of a mask, and of the reference where there is one.

    A contour lies inside its region, and is one pixel wide for each 400 of the image's longer side. One class: the mask
    is orange, the reference blue, and where both run along the same pixels the colors alternate. Several classes: every
    class has its color, the reference is dashed. Classes that may overlap are drawn in their order, each over those
    before it.

    Args:
        image: (h, w) or (h, w, c), any dtype; stretched to 0..255.
        mask: (h, w) class indices, 0 is background; or planes (k, h, w).
        reference: of the same kind.
        alpha: 0 to 1, how strongly the regions of the mask are tinted.
        classes: foreground classes there are in the data; by default those seen in the two masks.
        stretched: False for uint8 that is shown as it is: a frame like those before and behind it.

    Returns:
        uint8 (h, w, 3).

    Example:
        >>> mask = np.zeros((5, 5), np.uint8); mask[1:4, 1:4] = 1
        >>> overlay(np.zeros((5, 5)), mask)[1, 1].tolist()
        [230, 159, 0]
    """
    check_shapes(image, mask, reference)
    picture = as_rgb(stretch(image) if stretched else np.array(image))
    if overlaps(mask):
        return _planes(picture, mask, reference, alpha)
    if alpha > 0:
        tinted = mask > 0
        mixed = (1 - alpha) * picture[tinted] + alpha * class_colors(mask[tinted])
        picture[tinted] = np.rint(mixed).astype(np.uint8)
    width = max(1, round(max(mask.shape) / SIDE_TO_WIDTH))
    edge = contour_pixels(mask, width)
    picture[edge] = class_colors(mask[edge])
    if reference is None:
        return picture
    dash = np.add.outer(np.arange(mask.shape[0]), np.arange(mask.shape[1])) // (DASH_PIXELS * width) % 2 == 0
    if (count_classes(mask, reference) if classes is None else classes) > 1:
        shown = contour_pixels(reference, width) & dash
        picture[shown] = class_colors(reference[shown])
    else:
        picture[contour_pixels(reference, width) & (dash | ~edge)] = rgb(REFERENCE_COLOR)
    return picture


def _planes(
    picture: NDArray[np.uint8], mask: NDArray[np.uint8], reference: NDArray[np.uint8] | None, alpha: float
) -> NDArray[np.uint8]:
    """A picture (h, w, 3) with the contours of planes (k, h, w), and those of the reference dashed."""
    height, width = grid_of(mask)
    broad = max(1, round(max(height, width) / SIDE_TO_WIDTH))
    dash = np.add.outer(np.arange(height), np.arange(width)) // (DASH_PIXELS * broad) % 2 == 0
    colors = [np.array(rgb(class_color(index)), np.uint8) for index in range(1, len(mask) + 1)]
    for plane, color in zip(mask, colors, strict=True) if alpha > 0 else ():
        mixed = (1 - alpha) * picture[plane > 0] + alpha * color
        picture[plane > 0] = np.rint(mixed).astype(np.uint8)
    for plane, color in zip(mask, colors, strict=True):
        picture[contour_pixels(plane, broad)] = color
    for plane, color in zip(reference if reference is not None else (), colors, strict=False):
        picture[contour_pixels(plane, broad) & dash] = color
    return picture


def compare(
    image: NDArray[Any],
    reference: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    *,
    colors: tuple[str, str, str] = COMPARED,
    alpha: float = 0.5,
) -> NDArray[np.uint8]:
    """The image tinted in three colors: reference only (missed), prediction only (too much), both (right).

    A pixel is right where both name the same class; where they name different ones it counts as too much.

    Args:
        image: (h, w) or (h, w, c), any dtype; stretched to 0..255.
        reference, prediction: (h, w) class indices, 0 is background.
        colors: "#E69F00" and so on, in the order above.
        alpha: 0 to 1, how strongly regions are tinted.

    Returns:
        uint8 (h, w, 3).

    Example:
        >>> one = np.array([[1, 1, 0]], np.uint8); other = np.array([[0, 1, 1]], np.uint8)
        >>> compare(np.zeros((1, 3)), one, other, alpha=1.0)[0, 1].tolist()
        [0, 158, 115]
    """
    check_shapes(image, prediction, reference)
    picture = as_rgb(stretch(image))
    both = (reference > 0) & (reference == prediction)
    regions = ((reference > 0) & (prediction == 0), (prediction > 0) & ~both, both)
    for region, color in zip(regions, colors, strict=True):
        tint = (1 - alpha) * picture[region] + alpha * np.array(rgb(color))
        picture[region] = np.rint(tint).astype(np.uint8)
    return picture


def side_by_side(pictures: Sequence[NDArray[np.uint8]], titles: Sequence[str]) -> NDArray[np.uint8]:
    """Pictures (h, w, 3) of one size beside one another, each under its title."""
    height, width = pictures[0].shape[:2]
    font = ImageFont.load_default()
    strip = Image.new("RGB", ((width + GAP) * len(pictures) - GAP, height + TITLE_PIXELS), "white")
    for number, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        left = number * (width + GAP)
        line = Image.new("RGB", (width, TITLE_PIXELS), "white")
        # The built-in font knows Latin letters only.
        ImageDraw.Draw(line).text((2, 2), title.encode("ascii", "replace").decode(), fill="black", font=font)
        strip.paste(line, (left, 0))
        strip.paste(Image.fromarray(picture), (left, TITLE_PIXELS))
    return np.asarray(strip)


def check_shapes(image: NDArray[Any], mask: NDArray[np.uint8] | None, reference: NDArray[np.uint8] | None) -> None:
    """Refuse masks that lie on another grid than their image."""
    for name, array in (("mask", mask), ("reference", reference)):
        if array is not None and grid_of(array) != image.shape[:2]:
            raise ValueError(f"the {name} is {array.shape}, its image {image.shape[:2]}; needed is one grid")


def stretch(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Bring the finite values of an image to 0..255: uint8 (h, w) or (h, w, 3).

    The darkest value becomes 0, the brightest 255, all channels alike; nan becomes 0, and so does an image of one
    value. Of two channels the first is shown, of more than three the first three.

    Example:
        >>> stretch(np.array([[-1.0, 0.0, 1.0]])).tolist()
        [[0, 128, 255]]
    """
    values = np.asarray(image)
    if values.ndim == 3:
        values = values[..., :3] if values.shape[-1] >= 3 else values[..., 0]
    stretched = np.zeros(values.shape, np.uint8)
    finite = (values[rows][np.isfinite(values[rows])] for rows in bands(values.shape))
    ends = [(float(part.min()), float(part.max())) for part in finite if part.size]
    low, high = min((end[0] for end in ends), default=0.0), max((end[1] for end in ends), default=0.0)
    if low == high:
        return stretched
    for rows in bands(values.shape):
        shares = (values[rows].astype(np.float64) - low) / (high - low)
        stretched[rows] = np.rint(255 * np.nan_to_num(shares, nan=0.0, posinf=1.0, neginf=0.0))
    return stretched


def enlarge(pixels: NDArray[Any], longest: int = 512) -> NDArray[Any]:
    """Repeat every pixel of a small image or mask, so that a contour drawn on it looks thin.

    Args:
        pixels: (h, w) or (h, w, c).
        longest: the longer side grows by the largest whole factor that stays within this; larger images stay.

    Example:
        >>> enlarge(np.zeros((100, 128))).shape
        (400, 512)
    """
    factor = max(1, longest // max(pixels.shape[:2]))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def enlarge_mask(mask: NDArray[Any]) -> NDArray[Any]:
    """A mask as `enlarge` makes its image, each plane by itself."""
    return np.stack([enlarge(plane) for plane in mask]) if overlaps(mask) else enlarge(mask)


def contour_pixels(mask: NDArray[np.uint8], width: int = 1) -> NDArray[np.bool_]:
    """Bool (h, w): the outermost pixels of every region, so many from its rim inward; outside is background."""
    edge, left = _rim(mask), mask
    for _ in range(width - 1):
        left = np.where(edge, np.uint8(0), left)
        edge |= _rim(left)
    return edge


def _rim(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The foreground pixels that have a neighbor (of four) of another class."""
    around = np.pad(mask, 1)
    neighbors = (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:])
    edge = np.zeros(mask.shape, bool)
    for neighbor in neighbors:
        edge |= neighbor != mask
    return edge & (mask > 0)


def count_classes(*masks: NDArray[np.uint8] | None) -> int:
    """The highest class index in some masks; of planes how many there are."""
    known = [mask for mask in masks if mask is not None]
    return max((len(mask) if overlaps(mask) else int(mask.max(initial=0)) for mask in known), default=0)


def class_color(index: int) -> str:
    """Color of the class 1, 2, …; the eighth class begins again."""
    return PALETTE[(index - 1) % len(PALETTE)]


def reference_look(index: int, classes: int) -> tuple[str, tuple[float, float] | None]:
    """Color and dashes of the reference's contour: blue where there is one class, else its class's, dashed."""
    return (REFERENCE_COLOR, None) if classes == 1 else (class_color(index), (2.0, 1.2))


def class_colors(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (…, 3): the color of every pixel's class; that of the background means nothing."""
    table = np.array([rgb(color) for color in PALETTE], np.uint8)
    return table[(mask.astype(np.intp) - 1) % len(PALETTE)]


def as_rgb(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy with three channels."""
    return np.stack([picture] * 3, axis=-1) if picture.ndim == 2 else picture.copy()


def rgb(color: str) -> tuple[int, int, int]:
    """The three numbers of "#E69F00"."""
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue
