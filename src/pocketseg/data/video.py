"""Videos: their frames one after the other, and a writer, so that none is in memory as a whole; with the extra `video`.

What a file is by its name it has to be by its first bytes too, before a decoder sees it: there are lists
of addresses that are played as videos.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pocketseg.errors import DataError, EnvironmentProblem, missing_package
from pocketseg.files import open_regular, whole_file
from pocketseg.memory import MAX_PIXELS
from pocketseg.text import counted

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
# How files of these kinds begin: at which byte, with what.
MARKS = (
    *((4, kind) for kind in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
    (8, b"AVI "),
    (0, b"\x1a\x45\xdf\xa3"),
    *((0, b"\0\0\1" + kind) for kind in (b"\xba", b"\xb3")),
)
# What is written, by the ending: its name in files, and for people. A frame of 512 x 512 takes them 3 ms, VP8 90 ms.
CODECS = {".mp4": ("mp4v", "MPEG-4 Part 2"), ".avi": ("MJPG", "Motion JPEG")}
# Frames a second: where a file tells none, and what a written one has at most.
USUAL_RATE, MAX_RATE = 25.0, 120.0
# Of channels that decoders make of a gray frame, whose color is stored rounded.
NEARLY = 4
# Between two frames; a written video repeats the first of them as long.
MAX_PAUSE_S = 600.0
# A container counts its frames, or tells its length from which they are counted; so many may lack at the end.
LACKING, LACKING_SHARE = 2, 0.02

log = logging.getLogger("pocketseg")


class Frame(NamedTuple):
    """A frame: its number from 0, seconds since the first one, and pixels uint8 (h, w), or (h, w, 3) where in color."""

    number: int
    seconds: float
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class Clip:
    """A video that is open.

    Attributes:
        path: its file.
        rate: frames a second, as the file tells.
        count: of its frames, as the file tells; 0 where it does not.
    """

    path: Path
    rate: float
    count: int
    capture: Any

    def frames(self) -> Iterator[Frame]:
        """All frames, upright as the file tells to show them.

        Raises:
            DataError: there are none, fewer than the file tells, or they change in size.
        """
        number, begin, before, shape = 0, 0.0, -math.inf, None
        while True:
            there, pixels = self.capture.read()
            if not there:
                break
            shape = shape or pixels.shape
            if pixels.shape != shape:
                raise self._fault(f"changes its size at frame {number}", "cut it there")
            seconds = self._seconds(number)
            begin = seconds if number == 0 else begin
            seconds = seconds - begin
            if seconds <= before:  # a container without times, or with wrong ones
                seconds = before + 1 / self.rate
            yield Frame(number, seconds, _gray_or_rgb(pixels))
            before, number = seconds, number + 1
        if number == 0:
            raise self._fault("has no frame that can be decoded", "play it: it may be damaged, or of a rare codec")
        if self.count - number > max(LACKING, LACKING_SHARE * self.count):
            what = f"ends after {counted(number, 'frame')}, and states that it has {self.count:,}"
            raise self._fault(what, "copy it again, or cut off the damaged part: ffmpeg -i FILE -c copy CUT.mp4")

    def _seconds(self, number: int) -> float:
        import cv2

        stated = float(self.capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
        return stated if math.isfinite(stated) and (stated > 0 or number == 0) else number / self.rate

    def _fault(self, what: str, fix: str) -> DataError:
        return DataError(str(self.path), what, fix)


def is_video(path: Path) -> bool:
    """Whether a file is one by its name."""
    return path.name.lower().endswith(SUFFIXES)


def require_video() -> Any:
    """OpenCV.

    Raises:
        EnvironmentProblem: it is not installed, or broken.
    """
    # What FFmpeg finds odd about a file goes to standard error, in lines that name no file.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    try:
        import cv2
    except Exception as error:
        raise missing_package("cv2", "video", error) from error
    return cv2


@contextmanager
def opened(path: Path) -> Iterator[Clip]:
    """A video, for the length of a block.

    Raises:
        DataError: it is not there, no video, damaged, or has frames of more pixels than an image may have.
        EnvironmentProblem: the extra `video` is not installed.
    """
    _check_start(path)
    cv2 = require_video()
    capture = cv2.VideoCapture(os.fspath(path.absolute()), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            fix = "play it: it may be cut off, or of a rare codec; convert it to H.264"
            raise DataError(str(path), "is a video that cannot be opened", fix)
        width, height = (int(capture.get(each)) for each in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > MAX_PIXELS:
            raise DataError(str(path), f"has frames of {height}×{width} pixels, more than {MAX_PIXELS:,}", "shrink it")
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        rate, count = float(capture.get(cv2.CAP_PROP_FPS)), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        if not 0 < rate < math.inf:
            log.warning(
                "%s: states no frame rate; %g a second are assumed where frames have no times", path, USUAL_RATE
            )
            rate = USUAL_RATE
        yield Clip(path, rate, int(count) if 0 < count < 2**31 else 0, capture)
    finally:
        capture.release()


def _check_start(path: Path) -> None:
    try:
        with open_regular(path) as file:
            start = file.read(16)
    except FileNotFoundError:
        raise DataError(str(path), "does not exist", "check the path") from None
    except OSError as error:
        raise DataError(str(path), f"cannot be read ({error.strerror or error})", "check the path") from None
    if not start:
        raise DataError(str(path), "is empty", "copy it again")
    if not any(start.startswith(mark, at) for at, mark in MARKS):
        raise DataError(str(path), "is called a video and does not begin as one", f"known: {', '.join(SUFFIXES)}")


def _gray_or_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels (h, w, 3) in the order of OpenCV; where all are gray, as scanners' are, (h, w)."""
    blue, green, red = (pixels[..., channel].astype(np.int16) for channel in range(3))
    if max(int(np.abs(blue - green).max()), int(np.abs(red - green).max())) > NEARLY:
        return np.ascontiguousarray(pixels[..., ::-1])
    gray: NDArray[np.uint8] = np.rint(0.299 * red + 0.587 * green + 0.114 * blue).astype(np.uint8)  # ITU-R 601
    return gray


def written_as(path: Path) -> str:
    """The ending of a video that is made of this one: its own, where it can be written."""
    suffix = path.suffix.lower()
    return suffix if suffix in CODECS else ".mp4"


@contextmanager
def writing(path: Path, rate: float) -> Iterator[Callable[[NDArray[np.uint8], float], None]]:
    """A video file that appears whole when the block ends without an error.

    Args:
        path: its ending is a key of `CODECS`.
        rate: frames a second. All have the same length: one that came late is preceded by the one before it, again,
            and one that came too early is left out, so that what is shown stays in time.

    Yields:
        What takes a frame, uint8 (h, w, 3), and its time in seconds from 0.

    Raises:
        EnvironmentProblem: it cannot be written.
        DataError: two frames are too far apart.
    """
    cv2 = require_video()
    with whole_file(path) as part, tempfile.TemporaryDirectory() as folder:
        made = Path(folder, f"video{path.suffix.lower()}")  # its ending is its kind for the writer
        rate = min(rate, MAX_RATE)
        held: list[Any] = []
        count = 0
        last: NDArray[np.uint8] | None = None

        def add(pixels: NDArray[np.uint8], seconds: float) -> None:
            nonlocal count, last
            if not held:
                code = cv2.VideoWriter.fourcc(*CODECS[made.suffix][0])
                size = tuple(each + each % 2 for each in pixels.shape[1::-1])
                held.append(cv2.VideoWriter(os.fspath(made), cv2.CAP_FFMPEG, code, rate, size))
                if not held[0].isOpened():
                    raise EnvironmentProblem(str(path), "cannot be encoded by this OpenCV", "install it from PyPI")
            due = round(seconds * rate)
            if due - count > MAX_PAUSE_S * rate:
                raise DataError(str(path), f"would have a pause of {due / rate:.0f} s", "cut the video there")
            while last is not None and count < due:
                held[0].write(last)
                count += 1
            last = _even(pixels)
            if count <= due:
                held[0].write(last)
                count += 1

        try:
            yield add
        finally:
            for writer in held:
                writer.release()
        shutil.copyfile(made, part)


def _even(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels in the order of OpenCV; codecs take even sides alone, so the last row or column is repeated."""
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), "edge") if height % 2 or width % 2 else pixels
    return np.ascontiguousarray(padded[..., ::-1])
