"""What a caller gives as an image or a pixel size: converted where the meaning is plain, refused where it is not."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg.errors import DataError

# Modes of Pillow whose array is the picture: not indices of a palette, not colors of another space.
PLAIN_MODES = ("1", "L", "I", "I;16", "I;16L", "I;16B", "F", "RGB")
EXIF_ORIENTATION = 274
WANTED = "give an array (h, w) or (h, w, c) of numbers"


def as_image(given: Any) -> NDArray[np.generic]:
    """Pixels (h, w) or (h, w, c) of a bool, integer or float type in this machine's byte order.

    Arrays, memory maps, nested lists of numbers, torch tensors, Pillow pictures and whatever else has `__array__` are
    taken. Which numbers are black and white is decided elsewhere (`intensity.unit_range`).

    Args:
        given: an image; a path is none.

    Raises:
        DataError: no image: another type, shape or kind of number, an empty side, masked pixels, a Pillow picture that
            a palette, another color space or its EXIF orientation would make another one.
    """
    image = given if type(given) is np.ndarray else _converted(given)
    if image.dtype.kind not in "buif":
        raise DataError("image", f"holds {image.dtype}, no numbers that can be intensities", WANTED)
    if image.ndim not in (2, 3):
        raise DataError("image", f"has the shape {image.shape}", WANTED)
    if 0 in image.shape:
        raise DataError("image", f"is empty: its shape is {image.shape}", WANTED)
    if image.dtype == np.longdouble:
        image = image.astype(np.float64)
    return image if image.dtype.isnative else image.astype(image.dtype.newbyteorder("="))


def _converted(given: Any) -> NDArray[np.generic]:
    if given is None:
        raise DataError("image", "is None", WANTED)
    if isinstance(given, str | bytes | PurePath):
        raise DataError("image", f"is a path ({given!s})", "read it first, or use pocketseg.predict, which reads files")
    if any(np.ma.is_masked(each) for each in (given, *(given if isinstance(given, list | tuple) else ()))):
        raise DataError("image", "has masked pixels, of which a net knows nothing", "fill them: image.filled(value)")
    if hasattr(given, "getexif"):
        _check_picture(given)
    if hasattr(given, "detach"):  # a torch tensor; what is not in memory of the CPU is brought there
        given = given.detach().cpu()
    try:
        return np.asarray(given)
    except Exception as error:  # whatever `__array__` of a foreign type raises
        raise DataError("image", f"is {type(given).__name__}, which is not an array ({error})", WANTED) from None


def _check_picture(picture: Any) -> None:
    if picture.mode not in PLAIN_MODES:
        fix = "convert it: picture.convert('L') or picture.convert('RGB')"
        raise DataError("image", f"is a picture of mode {picture.mode}, whose numbers are not intensities", fix)
    if picture.getexif().get(EXIF_ORIENTATION, 1) != 1:
        fix = "turn it first: PIL.ImageOps.exif_transpose(picture)"
        raise DataError("image", "is a picture that its EXIF orientation turns", fix)


def as_spacing(given: Any) -> tuple[float, float] | None:
    """A pixel size (row, column) in mm, or None.

    Raises:
        DataError: not two finite numbers above 0.
    """
    if given is None:
        return None
    try:
        row, column = (float(side) for side in given if not isinstance(side, str | bool | np.bool_))
    except (TypeError, ValueError):
        row = column = np.nan
    if not (0 < row < np.inf and 0 < column < np.inf):
        raise DataError(
            "spacing_mm", f"is {given!r}", "give the pixel size as two numbers above 0: (row, column) in mm"
        )
    return row, column
