"""Decoding image and mask files, and refusing what would be read wrongly.

Only PNG, JPEG, TIFF, BMP, GIF, WebP (one frame) and JPEG 2000 are decoded, whatever the file is called; the content
tells the format.
"""

from __future__ import annotations

import errno
import io
import re
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pocketseg import memory
from pocketseg.data import jpeg2000, unread
from pocketseg.data.mask_colors import ColorRule, color_values, index_values
from pocketseg.errors import DataError, PocketsegError
from pocketseg.files import open_regular, read_file
from pocketseg.memory import MAX_PIXELS, bands
from pocketseg.text import counted

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000")
SUFFIXES_OF = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"),
}
SUFFIXES = tuple(suffix for suffixes in SUFFIXES_OF.values() for suffix in suffixes)
# Which a file's name may end in beside those of one part: compressed NIfTI, segmentations of 3D Slicer.
DOUBLE_SUFFIXES = (".nii.gz", ".seg.nrrd")

MAX_PAGES = 2**16
# Nothing that is deflated unpacks to more than this many times its size.
DEFLATE_LIMIT = 1032

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
WEBP = re.compile(rb"RIFF(....)WEBP", re.DOTALL)
SIGNATURES = (PNG_SIGNATURE, b"\xff\xd8\xff", *TIFF_SIGNATURES, b"BM", b"GIF8", jpeg2000.START)
SIGNATURE_BYTES = 12
IMAGEJ = re.compile(r"ImageJ=.*?^images=(\d+)", re.DOTALL | re.MULTILINE)
TIFF_DESCRIPTION = 270
# What a picture's `info` tells of its format where that may change values.
LOSSY = "lossy"
TIFF_BITS_PER_SAMPLE = 258
TIFF_PHOTOMETRIC = 262
WHITE_IS_ZERO = 0
EXIF_ORIENTATION = 274
EXIF_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def stem_of(path: Path) -> str:
    """A file's name without its suffix, which may have two parts, as that of a compressed volume.

    Example:
        >>> stem_of(Path("scan.1.nii.gz"))
        'scan.1'
    """
    double = next((each for each in DOUBLE_SUFFIXES if path.name.lower().endswith(each)), "")
    return path.name[: -len(double)] if double else path.stem


def is_picture(path: Path) -> bool:
    """Whether a file begins as one of the allowed formats, whatever it is called."""
    try:
        with open_regular(path) as file:
            start = file.read(SIGNATURE_BYTES)
    except (OSError, ValueError):
        return False
    return start.startswith(SIGNATURES) or WEBP.match(start) is not None


def read_image(path: Path) -> NDArray[np.generic]:
    """Decode an image: (h, w) for gray, (h, w, 3) for color; uint8, uint16, int32, float32 or bool.

    The orientation that a camera stored beside the pixels (EXIF) is applied; an alpha channel is dropped.

    Raises:
        DataError: the file is missing, empty, truncated, too large, no allowed format, or would be decoded wrongly.
    """
    with memory.named(str(path)):
        return decode_image(_content(path), path)


def decode_image(content: bytes, path: Path) -> NDArray[np.generic]:
    """The bytes of an image file, as `read_image` gives them; `path` is what errors call it."""
    with memory.named(str(path)), decode(content, path) as picture:
        ImageOps.exif_transpose(picture, in_place=True)
        image = _as_array(picture)
    if image.dtype == np.float32 and not np.isfinite(image).all():
        count = int((~np.isfinite(image)).sum())
        raise DataError(str(path), counted(count, "pixel[ is|s are] NaN or infinite"), "replace them before training")
    return image


def read_mask(path: Path, *, gray: bool = False, colors: ColorRule = "look") -> NDArray[np.generic]:
    """Decode a mask to (h, w) of stored values, turned as its own EXIF says; equal color channels are collapsed.

    Args:
        path: the file.
        gray: take gray levels as they are, so that a JPEG is not an error; the caller will threshold them.
        colors: what palettes and colors mean, see `mask_colors`.

    Raises:
        DataError: as `read_image`, or the file is a JPEG, its colors do not say what is background, transparency
            carries the mask, or white is stored as 0.
    """
    with memory.named(str(path)), _opened(path) as picture:
        if picture.info.get(LOSSY) and not gray:
            raise DataError(
                str(path),
                f"a mask stored as {picture.info[LOSSY]} has gray levels that are not classes",
                "use the original mask as PNG; if only this one exists, --set data.mask.threshold=128 cuts it",
            )
        if _white_is_zero(picture):
            what = "the TIFF stores white as 0, so programs differ in which value they show as foreground"
            raise DataError(str(path), what, "save the mask as PNG")
        ImageOps.exif_transpose(picture, in_place=True)
        if picture.mode == "P":
            return index_values(_pixels(picture).astype(np.uint8), _palette(picture), str(path), colors, gray=gray)
        values = _as_array(picture, keep_alpha=True)
    if isinstance(colors, tuple):
        planes = values if values.ndim == 3 else np.stack([values] * 3, axis=-1)
        if planes.dtype != np.uint8 or planes.shape[2] < 3:
            what = f"holds {planes.dtype} of {planes.shape[2]} channels, and data.mask.colors names colors of 8 bits"
            raise DataError(str(path), what, "leave out data.mask.colors, or save all masks in colors")
        return color_values(planes.astype(np.uint8), str(path), colors)
    return values if values.ndim == 2 else _collapse(values, path)


def _palette(picture: Image.Image) -> NDArray[np.uint8]:
    """Colors of a palette, RGBA (n, 4)."""
    colors = np.array(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    alpha = np.full(len(colors), 255, np.uint8)
    clear = picture.info.get("transparency")
    if isinstance(clear, bytes):
        alpha[: len(clear)] = np.frombuffer(clear, np.uint8)[: len(alpha)]
    elif isinstance(clear, int) and clear < len(alpha):
        alpha[clear] = 0
    return np.column_stack([colors, alpha])


def size_in_header(path: Path) -> tuple[int, int]:
    """(height, width) that the header of an image tells.

    Raises:
        OSError: it cannot be read, or is not an image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_regular(path) as file, Image.open(file, formats=FORMATS) as picture:
            return picture.height, picture.width


def exif_turn(path: Path) -> Image.Transpose | None:
    """How an image that can be read is turned by what a camera stored beside its pixels; None if it is upright."""
    with _opened(path) as picture:
        return EXIF_TURNS.get(picture.getexif().get(EXIF_ORIENTATION, 1))


def stored_pixels(path: Path) -> NDArray[np.generic]:
    """(h, w) or (h, w, c), turned as EXIF says, with an alpha channel where there is one.

    Raises:
        DataError: as `read_image`.
    """
    with memory.named(str(path)), _opened(path) as picture:
        ImageOps.exif_transpose(picture, in_place=True)
        return _as_array(picture, keep_alpha=True)


def read_pages(path: Path) -> list[NDArray[np.generic]]:
    """All pages of a TIFF file, each as `read_image` gives it.

    Raises:
        DataError: as `read_image`.
    """
    content = _content(path)
    left = memory.max_decoded(len(content))
    with decode(content, path, pages=True) as picture:
        try:
            pages: list[NDArray[np.generic]] = []
            for number in range(page_count(picture)):
                picture.seek(number)
                left -= _decoded_bytes(picture)
                if left < 0 or picture.width * picture.height > MAX_PIXELS:
                    raise _unpacks_to_much(path)
                pages.append(_as_array(picture))
        except DataError:
            raise
        except Exception as error:  # Pillow's decoders raise many kinds of errors on damaged files
            what = f"page {number + 1} is damaged or cut off ({error})"
            raise memory.explained(error, DataError(str(path), what, "copy the file again from its source")) from error
    return pages


def _opened(path: Path) -> Image.Image:
    return decode(_content(path), path)


def _content(path: Path) -> bytes:
    unread.refuse(path)
    try:
        return read_file(path, memory.MAX_FILE)
    except (OSError, ValueError, MemoryError) as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> PocketsegError:
    """What to say of a file of data that cannot even be opened; the path itself may be at fault."""
    if isinstance(error, FileNotFoundError):
        return DataError(str(path), "the file does not exist", "check the path")
    if isinstance(error, PermissionError):
        return DataError(str(path), "the file cannot be read (permission denied)", "make it readable for this user")
    what = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, OSError) and error.errno in (errno.EISDIR, errno.EINVAL, errno.EFBIG):
        return DataError(str(path), what, "remove it, or put an image in its place")
    return memory.explained(
        error, DataError(str(path), f"the file cannot be read ({what})", "check the path and the disk")
    )


def size_of(path: Path) -> int:
    """Size in bytes of a file of data that can be opened.

    Raises:
        DataError: it is missing, empty, no regular file, or cannot be read.
    """
    try:
        with open_regular(path) as file:
            size = file.seek(0, io.SEEK_END)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    if size == 0:
        raise empty(path)
    return size


def empty(path: Path) -> DataError:
    return DataError(str(path), "the file is empty (0 bytes)", "copy it again from its source")


def decode(content: bytes, path: Path, pages: bool = False) -> Image.Image:
    """Decode the bytes of one allowed file to a loaded picture; `pages` allows several."""
    if not content:
        raise empty(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about odd metadata that is not used here
            picture: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
            _refuse_unusual(picture, content, path, pages)
            _refuse_damaged_png(content, path)
            picture.load()
            picture = _as_stored(picture, content)
    except UnidentifiedImageError:
        raise DataError(str(path), *_what_it_is_instead(content)) from None
    except Image.DecompressionBombError:
        raise _too_large(path, "the image") from None
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds of errors on damaged files
        what = f"the image is damaged or cut off ({error})"
        raise memory.explained(error, DataError(str(path), what, "copy it again from its source")) from error
    return picture


def _what_it_is_instead(content: bytes) -> tuple[str, str]:
    """What it is, and what to do."""
    start, usual = content[:200].lstrip().lower(), "use PNG, JPEG, TIFF, BMP, GIF, WebP or JPEG 2000"
    if start.startswith(b"version https://git-lfs"):
        return "this is a Git LFS pointer, not the image (run: git lfs pull)", usual
    if start.startswith((b"<html", b"<!doctype")):
        return "not an image: it starts with <html, probably a web page saved by a failed download", usual
    damaged = "the header of the image is damaged, or of a kind that cannot be read"
    if content.startswith(TIFF_SIGNATURES):
        fix = "save it as gray or 8-bit color, with each further channel as a page (OME-TIFF), or copy it again"
        return f"{damaged} (such as channels of more than 8 bits in one page)", fix
    if content.startswith(SIGNATURES) or WEBP.match(content):
        return damaged, usual
    kind = unread.kind_of(Path(), content)
    if kind is not None:
        return f"not an image of an allowed format: it is {kind.what}", kind.fix
    return "not an image of an allowed format", usual


def _too_large(path: Path, what: str) -> DataError:
    return DataError(str(path), f"{what} is above the limit of {MAX_PIXELS:,} pixels", "cut it into parts")


def has_pages(path: Path) -> bool:
    """Whether a file is a TIFF of several pages; one that cannot be read is none, and whoever reads it says why."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_regular(path) as file, Image.open(file, formats=["TIFF"]) as picture:
                return page_count(picture) > 1
    except Exception:  # Pillow raises many kinds of errors on what is no TIFF
        return False


def page_count(picture: Image.Image) -> int:
    """Pages of a TIFF file, or frames, counted no further than a file may have.

    Raises:
        ValueError: there are more.
    """
    if not getattr(picture, "is_animated", False):
        return 1
    count = 1
    try:
        while count <= MAX_PAGES:
            picture.seek(count)
            count += 1
    except EOFError:
        picture.seek(0)
        return count
    raise ValueError(f"more than {MAX_PAGES:,} pages")


def _unpacks_to_much(path: Path) -> DataError:
    what = f"its pages unpack to more than {memory.MAX_TIMES} times its size"
    return DataError(str(path), what, "cut it into parts, or save it uncompressed")


def _decoded_bytes(picture: Image.Image) -> int:
    """What a page takes in the memory."""
    return picture.width * picture.height * (4 if picture.mode in ("I", "F") else len(picture.getbands()))


def _refuse_damaged_png(content: bytes, path: Path) -> None:
    """Raises: DataError: pixels of a PNG do not fit their check sums, which Pillow holds for all other parts only."""
    at = len(PNG_SIGNATURE)
    while content.startswith(PNG_SIGNATURE) and at < len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4])
        kind, stated = content[at + 4 : at + 8], int.from_bytes(content[end : end + 4])
        if kind == b"IDAT" and zlib.crc32(memoryview(content)[at + 4 : end]) != stated:
            what = "the image is damaged or cut off: its pixels do not fit their check sum"
            raise DataError(str(path), what, "copy it again from its source")
        at = end + 4


def _refuse_unusual(picture: Image.Image, content: bytes, path: Path, pages: bool) -> None:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise _too_large(path, f"{width}×{height}")
    if getattr(picture, "is_animated", False) and not pages:
        what = f"the file holds {page_count(picture)} pages or frames"
        raise DataError(str(path), what, "save each as a file of its own")
    if picture.format == "BMP" and picture.mode == "1" and _bmp_bits(content) != 1:
        what = "the BMP has a palette of black and white for more than one bit a pixel, which is decoded wrongly"
        raise DataError(str(path), what, "save it as PNG")
    if picture.format == "PNG" and width * height * content[24] // 8 > DEFLATE_LIMIT * len(content):
        what = f"the image is cut off: it declares {width}×{height} pixels, more than the file can hold"
        raise DataError(str(path), what, "copy it again from its source")
    if content.startswith(PNG_SIGNATURE) and content[24] == 16 and content[25] in (2, 4, 6):
        raise DataError(
            str(path),
            "16-bit color (or gray with alpha) would be cut to 8 bits in decoding",
            "save it as 16-bit gray without alpha, or as 8-bit color",
        )
    if picture.format == "WEBP" and int.from_bytes(content[4:8], "little") + 8 > len(content):
        raise DataError(str(path), "the image is damaged or cut off", "copy it again from its source")
    if picture.format == "JPEG2000":
        _refuse_unusual_codestream(jpeg2000.codestream(content), picture.mode, path)
    stored = IMAGEJ.match(str(_tiff_tag(picture, TIFF_DESCRIPTION) or ""))
    if stored and int(stored[1][:9]) > page_count(picture):
        what = f"ImageJ stored {stored[1]} images in it, of which one page has its place"
        raise DataError(str(path), what, "open it in Fiji and save it as OME-TIFF")
    bits = _tiff_tag(picture, TIFF_BITS_PER_SAMPLE) or ()
    if len(bits) > 1 and max(bits) > 8:
        what = f"{max(bits)}-bit color would be cut to 8 bits in decoding"
        raise DataError(str(path), what, "save it as gray or 8-bit color")
    if _white_is_zero(picture) and max(bits, default=1) > 8:
        what = f"{max(bits)}-bit gray that stores white as 0 would be decoded as its negative"
        raise DataError(str(path), what, "save it with black as 0")


def _refuse_unusual_codestream(found: jpeg2000.Codestream, mode: str, path: Path) -> None:
    if not found.whole:
        raise DataError(str(path), "the image is damaged or cut off: it has no end", "copy it again from its source")
    if found.signed:
        raise DataError(str(path), "JPEG 2000 of signed numbers would be moved in decoding", "save it as TIFF")
    if max(found.bits, default=0) > 8 and not mode.startswith("I;16"):
        what = f"{max(found.bits)}-bit {'color' if len(found.bits) > 1 else 'gray'} would be cut to 8 bits in decoding"
        raise DataError(str(path), what, "save it as 16-bit gray, or as 8-bit color")


def _as_stored(picture: Image.Image, content: bytes) -> Image.Image:
    """The picture with the values that are stored, and, where its format may have changed them, that it is so."""
    lossy = "JPEG" if picture.format == "JPEG" else "lossy WebP" if _has_lossy_chunk(picture, content) else ""
    if picture.format == "JPEG2000":
        found = jpeg2000.codestream(content)
        lossy = "" if found.lossless else "lossy JPEG 2000"
        # Pillow fills up what is of fewer bits than its type, so that 1 of 12 bits becomes 16.
        shift = (16 if picture.mode.startswith("I;16") else 8) - found.bits[0]
        if shift > 0 and len(found.bits) == 1:
            moved = Image.fromarray(np.asarray(picture) >> shift)
            moved.format, moved.info = picture.format, picture.info
            picture = moved
    if lossy:
        picture.info[LOSSY] = lossy
    return picture


def _has_lossy_chunk(picture: Image.Image, content: bytes) -> bool:
    at = 12
    while picture.format == "WEBP" and at < len(content):
        if content[at : at + 4] == b"VP8 ":
            return True
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    return False


def _bmp_bits(content: bytes) -> int:
    """Bits a pixel; headers of 12 bytes have them earlier."""
    at = 24 if content[14] == 12 else 28
    return int.from_bytes(content[at : at + 2], "little")


def _tiff_tag(picture: Image.Image, tag: int) -> Any:
    return getattr(picture, "tag_v2", {}).get(tag)


def _white_is_zero(picture: Image.Image) -> bool:
    return bool(_tiff_tag(picture, TIFF_PHOTOMETRIC) == WHITE_IS_ZERO)


def _as_array(picture: Image.Image, keep_alpha: bool = False) -> NDArray[np.generic]:
    """Pixels of any mode as gray (h, w) or color (h, w, c)."""
    mode = picture.mode
    if mode in ("LA", "RGBA") and keep_alpha:
        return _pixels(picture)
    if mode == "P":
        color = _pixels(picture, "RGB")
        gray = (color == color[:, :, :1]).all()
        return color[:, :, 0] if gray else color
    if mode == "LA":
        return _pixels(picture, "L")
    if mode in ("RGBA", "CMYK", "YCbCr", "RGBX", "PA", "La", "RGBa", "HSV", "LAB"):
        return _pixels(picture, "RGB")
    values = _pixels(picture)
    # Pillow gives 16-bit big-endian files in their own byte order.
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def _pixels(picture: Image.Image, mode: str | None = None) -> NDArray[np.generic]:
    """Pixels in a mode; of a large picture some rows at a time, since Pillow makes several copies of them."""

    def part(rows: slice) -> NDArray[np.generic]:
        whole = rows.stop >= height and not rows.start
        band = picture if whole else picture.crop((0, rows.start, width, min(rows.stop, height)))
        return np.asarray(band.convert(mode) if mode else band)

    width, height = picture.size
    first, *others = bands((height, width))
    top = part(first)
    if not others:
        return top
    pixels = np.empty((height, *top.shape[1:]), top.dtype)
    pixels[first] = top
    for rows in others:
        pixels[rows] = part(rows)
    return pixels


def _collapse(values: NDArray[np.generic], path: Path) -> NDArray[np.generic]:
    """One channel of a mask whose color channels are all equal."""
    colors = 3 if values.shape[2] >= 3 else 1
    if not (values[:, :, :colors] == values[:, :, :1]).all():
        return color_values(values.astype(np.uint8), str(path))
    if values.shape[2] in (2, 4) and values[:, :, -1].min() != 255:
        raise DataError(
            str(path), "the mask has a transparent alpha channel", "save the mask as gray PNG without alpha"
        )
    return values[:, :, 0]
