"""A case: one image, its mask, its group, and where both are stored."""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from pocketseg import archives, memory
from pocketseg.data import readers
from pocketseg.data.mask_colors import ColorRule, refuse_colors
from pocketseg.errors import DataError, PocketsegError
from pocketseg.pipeline.components import fill_outline
from pocketseg.text import counted

Pixels = NDArray[np.generic]

# By version of the format; a third has arrays of fields with names, which are not images.
READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Source(Protocol):
    """Where an image or mask is stored."""

    @property
    def where(self) -> str:
        """The place as an error names it."""

    @property
    def path(self) -> Path:
        """The file it is in, or the folder of a DICOM series."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file it is read from."""

    @property
    def contrasts(self) -> bool:
        """Whether its channels are images of their own (contrasts of a scan) and not colors: none makes gray."""

    def image(self) -> Pixels: ...

    def mask(self, *, gray: bool, colors: ColorRule = "look") -> Pixels:
        """Stored mask values (h, w), or planes (k, h, w) of a source that is to give them.

        `gray` allows files that can hold no exact values (JPEG), `colors` is for pictures.
        """


@dataclass(frozen=True)
class FileSource:
    """One image file; `planes` tells a mask to give all pages of a TIFF file."""

    path: Path
    planes: bool = field(default=False, kw_only=True)
    contrasts: ClassVar[bool] = False

    @property
    def where(self) -> str:
        return str(self.path)

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def image(self) -> Pixels:
        return readers.read_image(self.path)

    def mask(self, *, gray: bool, colors: ColorRule = "look") -> Pixels:
        if self.planes and readers.has_pages(self.path):
            return self._pages()
        return readers.read_mask(self.path, gray=gray, colors=colors)

    def _pages(self) -> Pixels:
        pages = readers.read_pages(self.path)
        if len({page.shape for page in pages}) > 1 or pages[0].ndim != 2:
            what = "has pages of several sizes, or in color"
            raise DataError(self.where, what, "save a gray page of one size for each class")
        return np.stack(pages)


@dataclass(frozen=True)
class SeriesSource(FileSource):
    """The files of one DICOM series, in a folder that holds others beside; `path` is the folder."""

    slices: tuple[Path, ...] = ()


@dataclass(frozen=True)
class OutlineSource(FileSource):
    """An image file with the outline of a region, or the region; the outline is read filled."""

    def mask(self, *, gray: bool, colors: ColorRule = "look") -> Pixels:
        outline = np.not_equal(readers.read_mask(self.path, gray=gray, colors=colors), 0)
        try:
            return fill_outline(outline)
        except ValueError as error:
            raise DataError(self.where, str(error), "close it, or give the mask") from None


@dataclass(frozen=True)
class ChannelSource:
    """Several images of one place (contrasts of a scan) as the channels of one image.

    `endings` are what their files' stems add to the name of the case, such as _0000 and _0001.
    """

    parts: tuple[Source, ...]
    endings: tuple[str, ...] = ()
    contrasts: ClassVar[bool] = True

    @property
    def where(self) -> str:
        return self.parts[0].where

    @property
    def path(self) -> Path:
        return self.parts[0].path

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file for part in self.parts for file in part.files)

    def image(self) -> Pixels:
        images = [part.image() for part in self.parts]
        for part, image in zip(self.parts, images, strict=True):
            if image.shape != images[0].shape or image.ndim != 2:
                raise DataError(part.where, f"has the shape {image.shape}, the first {images[0].shape}", "align them")
            if image.dtype != images[0].dtype:  # stacked, the numbers of one would count as those of the other
                what = f"holds {image.dtype}, the first channel {images[0].dtype}"
                raise DataError(part.where, what, "save all channels as one type of numbers")
        return np.stack(images, axis=-1)

    def mask(self, *, gray: bool, colors: ColorRule = "look") -> Pixels:
        raise DataError(self.where, "several files are not one mask", "store class indices in one file")


@dataclass(frozen=True)
class LayeredSource:
    """Masks of single classes as the planes of one mask; None for a class whose plane is empty."""

    parts: tuple[Source | None, ...]
    contrasts: ClassVar[bool] = False

    @property
    def known(self) -> list[Source]:
        """The masks of single classes that there are."""
        return [part for part in self.parts if part is not None]

    @property
    def where(self) -> str:
        return self.known[0].where

    @property
    def path(self) -> Path:
        return self.known[0].path

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file for part in self.known for file in part.files)

    def image(self) -> Pixels:
        raise DataError(self.where, "is the mask of a class, not an image", "give it as a mask, with its image")

    def mask(self, *, gray: bool, colors: ColorRule = "look") -> Pixels:
        found = [None if part is None else part.mask(gray=gray, colors=colors) for part in self.parts]
        shape = next(mask.shape for mask in found if mask is not None)
        for part, mask in zip(self.parts, found, strict=True):
            if part is not None and mask is not None and mask.shape != shape:
                what = f"is {mask.shape}, the mask of another class {shape}"
                raise DataError(part.where, what, "export the masks of all classes at the size of the image")
        return np.stack([np.zeros(shape, bool) if mask is None else mask for mask in found])


def single(sources: Iterable[Any]) -> list[Any]:
    """Some sources, those of single classes one by one."""
    return [part for source in sources for part in (source.known if isinstance(source, LayeredSource) else [source])]


@dataclass(frozen=True)
class ArraySource:
    """One row of an array (B, H, W, C) in a `.npy` file, or in a member of an `.npz` file.

    `planes` tells a mask to give its channels.
    """

    path: Path
    member: str | None
    row: int
    planes: bool = False
    contrasts: ClassVar[bool] = False

    @property
    def where(self) -> str:
        return f"{self.path}[{self.member + ', ' if self.member else ''}{self.row}]"

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def image(self) -> Pixels:
        rows = open_array(self.path, self.member)
        if rows.ndim < 3 or self.row >= len(rows):
            raise DataError(self.where, "is not there any more", "leave the file as it is while it is used")
        values = np.asarray(rows[self.row])
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise DataError(self.where, "pixels are NaN or infinite", "replace them before training")
        return values[:, :, 0] if values.ndim == 3 and values.shape[2] == 1 else values

    def mask(self, *, gray: bool, colors: ColorRule = "look") -> Pixels:
        refuse_colors(colors, self.where)
        values = self.image()
        if self.planes and values.ndim > 2:
            return np.moveaxis(values, -1, 0)
        if values.ndim != 2:
            raise DataError(
                self.where, f"the mask has {counted(values.shape[2], 'channel')}", "store class indices, one channel"
            )
        return values


def open_array(path: Path, member: str | None) -> Pixels:
    """An array of an `.npz` (read whole) or `.npy` (mapped, read row by row). Objects are never unpickled.

    The last ones are kept as long as their files are what they were.
    """
    try:
        now = path.stat()
    except (OSError, ValueError) as error:
        raise readers.unreadable(path, error) from None
    return _kept_array(path, member, (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns))


@lru_cache(maxsize=4)
def _kept_array(path: Path, member: str | None, _version: tuple[int, ...]) -> Pixels:
    with _numpy_errors(path):
        if member is None:
            readers.size_of(path)
            array: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
            if not isinstance(array, np.ndarray):
                raise ValueError("it is an NPZ file")
            return array
        with archives.opened(path) as archive:
            names = archive.namelist()
            if f"{member}.npy" not in names:
                what = f"holds no array named {member}"
                raise DataError(str(path), what, "store the arrays `images` and `masks`")
            return _unpacked(archive, archive.getinfo(f"{member}.npy"))


def array_names(path: Path) -> set[str]:
    """Names of the arrays in an `.npz` file."""
    with _numpy_errors(path), archives.opened(path) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist()}


@contextmanager
def _numpy_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except PocketsegError:
        raise
    except Exception as error:  # NumPy, zipfile and zlib raise errors that have no other common base
        what = f"is not a readable NumPy file ({error})"
        raise memory.explained(error, DataError(str(path), what, "save it again with numpy.savez")) from error


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Pixels:
    """An array of a member, if it is not larger than it may be; what it says of itself is held against what it is."""
    with archives.member(archive, entry) as stream:
        read_header = READ_HEADER[np.lib.format.read_magic(stream)]
        shape, _, dtype = read_header(stream)
    needed = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if needed > entry.file_size:
        raise ValueError(f"{entry.filename!r} declares {needed:,} bytes, more than it has")
    if needed > archives.max_unpacked(archive, entry):
        what = f"{entry.filename!r} unpacks to {needed:,} bytes, more than {memory.MAX_TIMES} times its size"
        raise ValueError(f"{what}; numpy.savez stores it as it is, and masks of uint8 are smaller")
    with archives.member(archive, entry) as stream:
        array: Pixels = np.lib.format.read_array(stream, allow_pickle=False)
        return array


@dataclass(frozen=True)
class Case:
    """One image with its masks; several are united, unless they are of several raters, which are fused.

    Attributes:
        name: unique in the data set; the stem of the image file where that is unique.
        label: class folder the case lies in, for stratified splits and tables by class.
        group: cases of one group (patient, cluster of near duplicates) never lie in two parts of a split.
        spacing_mm: pixel size (row, column) in millimeters, where it is known.
        raters: who drew each mask; empty where one mask is the reference, or several are parts of it.
        site, subject: where and of whom the image was taken, as far as file names say.
        part: of the split that the data came with: train, validation or test.
        weights: weight of every pixel in a loss, a `.npy` file, where the data has them.
    """

    name: str
    image: Source
    masks: tuple[Source, ...]
    label: str | None = None
    group: str = ""
    spacing_mm: tuple[float, float] | None = None
    raters: tuple[str, ...] = ()
    site: str | None = None
    subject: str | None = None
    part: str | None = None
    weights: Path | None = None


class BoundedCache:
    """Least-recently-used cache of arrays with a limit in bytes.

    An array larger than the limit is handed out and not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._held: OrderedDict[Any, tuple[NDArray[Any], ...]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, key: Any, make: Callable[[], tuple[NDArray[Any], ...]]) -> tuple[NDArray[Any], ...]:
        """The arrays kept under a key, made and kept if they are not there."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        arrays = make()
        with self._lock:
            size = sum(array.nbytes for array in arrays)
            if key not in self._held and size <= self.max_bytes:
                self._held[key] = arrays
                self._bytes += size
            while self._bytes > self.max_bytes:
                _, dropped = self._held.popitem(last=False)
                self._bytes -= sum(array.nbytes for array in dropped)
        return arrays
