"""Voxels behind a header of text, in its file or in one beside it: what NRRD and MetaImage have in common.

A header is text of bounded length of which nothing is executed. What it promises is held against the bytes that are
there before memory is taken for it, and it names no file outside of its own folder.
"""

from __future__ import annotations

import bz2
import gzip
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pocketseg import memory
from pocketseg.data.readers import DEFLATE_LIMIT, size_of, unreadable
from pocketseg.data.volumes.base import VolumeFile
from pocketseg.data.volumes.grid import Grid, Pixels, Triple
from pocketseg.errors import DataError
from pocketseg.files import open_regular
from pocketseg.memory import MAX_VOLUME

# Thousands of segments are described in as much.
MAX_HEADER = 4 * 2**20
CHUNK = 2**20
# Of numbers written as text; they are read whole.
MAX_TEXT = 512 * 2**20
Packing = Literal["raw", "gzip", "zlib", "bzip2", "text"]
# zlib and gzip alike.
ANY_DEFLATED = zlib.MAX_WBITS + 32
AGAIN = "copy it again from its source"
# The determinant of directions at right angles is 1; below this, two of them are nearly one.
FLAT = 1e-3


def header_lines(path: Path) -> Iterator[tuple[str, int]]:
    """The lines of a header of text, each with the place in the file where the next one begins.

    Raises:
        DataError: the file cannot be read, or the header does not end.
    """
    size_of(path)
    try:
        with open_regular(path) as file:
            while file.tell() < MAX_HEADER:
                line = file.readline(MAX_HEADER)
                if not line:
                    return
                yield line.decode("utf-8", "replace").rstrip("\r\n"), file.tell()
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    raise DataError(str(path), f"has a header of more than {MAX_HEADER:,} bytes", AGAIN)


def beside(path: Path, name: str) -> Path:
    """The file that a header names for its voxels.

    Raises:
        DataError: it lies outside of the header's folder.
    """
    named = PureWindowsPath(name)  # which knows both kinds of slashes
    if not named.parts or named.anchor or ".." in named.parts or "\0" in name:
        what = f"says that its voxels are in {name!r}, which is not a file in its folder"
        raise DataError(str(path), what, "put the file beside the header, and name it there without folders")
    return path.parent.joinpath(*named.parts)


@dataclass(frozen=True)
class Stored:
    """Where voxels are, and how they are packed.

    Attributes:
        path: the file that holds them.
        packing: of their bytes; text is numbers with white space between them.
        dtype: of a voxel, in the byte order of the file.
        shape: the axes, the fastest first.
        begin: the first byte in the file; None where they are its last bytes.
        skip: bytes before the first voxel, once they are unpacked.
    """

    path: Path
    packing: Packing
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int | None = 0
    skip: int = 0

    @property
    def _bytes(self) -> int:
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    def check(self) -> None:
        """Raises: DataError: the file cannot hold the voxels, or they are too many for the memory."""
        size = size_of(self.path)
        held = size - (self.begin or 0)
        # A number and the sign after it take two bytes.
        most = {"raw": held, "gzip": held * DEFLATE_LIMIT, "zlib": held * DEFLATE_LIMIT, "bzip2": MAX_VOLUME}
        possible = most.get(self.packing, (held + 1) // 2 * self.dtype.itemsize)
        declared = f"declares {'×'.join(map(str, self.shape))} voxels ({self._bytes:,} bytes)"
        if min(self.shape) < 1 or held < 0 or self.skip < 0 or self._bytes + self.skip > possible:
            raise DataError(str(self.path), f"{declared}, more than the file can hold", AGAIN)
        if self.packing == "raw" and self.begin is not None and self._bytes < held:
            raise DataError(str(self.path), f"{declared}, but holds {held:,} bytes", AGAIN)
        if self._bytes > MAX_VOLUME or (self.packing == "text" and size > MAX_TEXT):
            raise DataError(str(self.path), f"{declared}; the limit is {MAX_VOLUME:,}", "cut it into parts")
        if self.packing != "raw" and self._bytes > memory.max_decoded(size):
            what = f"{declared}, {self._bytes // size:,} times its size; the limit is {memory.MAX_TIMES}"
            raise DataError(str(self.path), what, "save it uncompressed, or with a smaller type of voxels")

    def voxels(self) -> Pixels:
        """As they are stored, (fastest, …, slowest), in the machine's byte order; f64 becomes f32.

        Raises:
            DataError: damaged, cut off, or more than the header declares.
        """
        self.check()
        with self._damage_reported(), open_regular(self.path) as file:
            file.seek(size_of(self.path) - self._bytes if self.begin is None else self.begin)
            values = self._parsed(file) if self.packing == "text" else self._filled(file)
        kind = np.dtype(np.float32) if values.dtype.kind == "f" else values.dtype.newbyteorder("=")
        with np.errstate(over="ignore"):  # what is infinite is found by whoever uses it
            return values.astype(kind, copy=False).reshape(self.shape, order="F")

    @contextmanager
    def _damage_reported(self) -> Iterator[None]:
        try:
            yield
        except DataError:
            raise
        except (OSError, EOFError, ValueError, OverflowError, MemoryError, zlib.error, Warning) as error:
            what = f"the voxels are damaged or cut off ({error})"
            raise memory.explained(error, DataError(str(self.path), what, AGAIN)) from error

    def _filled(self, file: IO[bytes]) -> Pixels:
        values = np.empty(self._bytes // self.dtype.itemsize, self.dtype)
        target = values.view(np.uint8)
        skip, filled = self.skip, 0
        for block in self._unpacked(file):
            left_out = min(skip, len(block))
            skip -= left_out
            kept = block[left_out:]
            if filled + len(kept) > len(target):
                raise ValueError(f"there is more than the {len(target):,} bytes that the header declares")
            target[filled : filled + len(kept)] = np.frombuffer(kept, np.uint8)
            filled += len(kept)
        if filled < len(target):
            raise EOFError(f"{filled:,} of {len(target):,} bytes are there")
        return values

    def _unpacked(self, file: IO[bytes]) -> Iterator[bytes]:
        """The bytes in pieces of bounded length, whatever they unpack to."""
        if self.packing == "zlib":
            yield from _inflated(file)
            return
        stream: Any = file
        if self.packing == "gzip":
            stream = gzip.GzipFile(fileobj=file)
        if self.packing == "bzip2":
            stream = bz2.BZ2File(file)
        while block := stream.read(CHUNK):
            yield block

    def _parsed(self, file: IO[bytes]) -> Pixels:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy only warns of what is not a number
            numbers = np.fromstring(file.read().decode("ascii"), np.float64, sep=" ")
            values = numbers.astype(self.dtype)
        if len(values) * self.dtype.itemsize != self._bytes:
            raise ValueError(f"there are {len(values):,} numbers")
        if self.dtype.kind != "f" and (values != numbers).any():
            raise ValueError(f"there are numbers that are no {self.dtype}")
        return values


def _inflated(file: IO[bytes]) -> Iterator[bytes]:
    inflate = zlib.decompressobj(wbits=ANY_DEFLATED)
    while not inflate.eof:
        packed = inflate.unconsumed_tail or file.read(CHUNK)
        if not packed:
            raise EOFError("the compressed stream does not end")
        yield inflate.decompress(packed, CHUNK)
    if inflate.unused_data or file.read(1):
        raise ValueError("there are bytes behind the compressed stream")


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadedVolume(VolumeFile):
    """A volume with a header of text.

    Attributes:
        stored: where its voxels are.
        component: which axis of the file holds the parts of a voxel (contrasts, colors); None where it is one number.
        colors: how many parts are colors, red, green and blue before what may follow.
    """

    stored: Stored
    component: int | None = None
    colors: int = 0
    measured = True

    def voxels(self) -> Pixels:
        values = self.stored.voxels()
        if self.component is None:
            return values.reshape(self.grid.shape)
        parts = np.moveaxis(values, self.component, -1)
        whole: Pixels = parts.reshape(*self.grid.shape, parts.shape[-1])
        return whole[..., :3] if self.colors else whole


def placed(
    path: Path, shape: Sequence[int], spacing_mm: Sequence[float] | None, affine: NDArray[np.float64] | None
) -> Grid:
    """The grid of two or three axes.

    Args:
        path: what errors name.
        shape: of the axes.
        spacing_mm: along them; nan is unknown.
        affine: (4, 4) to millimeters in RAS, where the file says how it lies in a patient.

    Raises:
        DataError: sizes of voxels of zero and below, directions that are none.
    """
    sides: Triple = (shape[0], shape[1], shape[2] if len(shape) > 2 else 1)
    if affine is not None:
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        flat = not np.isfinite(affine).all() or not (sizes > 0).all()
        if flat or abs(np.linalg.det(affine[:3, :3] / sizes)) < FLAT:
            what = "has directions that are singular or not finite"
            raise DataError(str(path), what, "repair the directions in its header")
        return Grid(sides, (float(sizes[0]), float(sizes[1]), float(sizes[2])), affine)
    if spacing_mm is None or np.isnan(spacing_mm[:2]).any():
        return Grid(sides)
    if not all(0 < size < np.inf or np.isnan(size) for size in spacing_mm):
        what = f"declares voxels of {', '.join(f'{size:g}' for size in spacing_mm)}"
        raise DataError(str(path), what, "repair the sizes in its header")
    i, j, k = (*spacing_mm, np.inf)[:3]
    # Slices without a distance from each other are never cut across.
    return Grid(sides, (float(i), float(j), float(np.inf if np.isnan(k) else k)))


def to_ras(
    vectors: Sequence[NDArray[np.float64]], origin: NDArray[np.float64], signs: tuple[int, ...]
) -> NDArray[np.float64]:
    """(4, 4) to millimeters in RAS.

    Args:
        vectors: from one voxel to the next along each of two or three axes, in the file's space; of two, the volume is
            one slice of one millimeter.
        origin: the center of the first voxel there.
        signs: by which the file's space becomes RAS.
    """
    if len(vectors) == 2:
        normal = np.cross(vectors[0], vectors[1])
        vectors = [*vectors, normal / max(float(np.linalg.norm(normal)), 1e-30)]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.stack(vectors, axis=1), origin
    affine[:3] *= np.array(signs)[:, None]
    return affine


def numbers(path: Path, name: str, text: str, count: int | None = None, *, whole: bool = False) -> list[Any]:
    """The numbers of a field, as many as there must be.

    Raises:
        DataError: they are no numbers, or more, or fewer.
    """
    try:
        found = [int(word) if whole else float(word) for word in text.split()]
    except ValueError:
        found = []
    if not found or (count is not None and len(found) != count):
        wanted = f"{'' if count is None else f'{count} '}{'whole ' if whole else ''}numbers"
        raise DataError(str(path), f"its header's {name} is {text[:60]!r}, not {wanted}", AGAIN)
    return found
