"""A model in the native library: NumPy in, NumPy out."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import weakref
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pocketseg import memory
from pocketseg.engine import library as native
from pocketseg.engine.container import AGAIN
from pocketseg.engine.forks import call_in_forks
from pocketseg.errors import DataError, EnvironmentProblem, ModelFileError, PocketsegError
from pocketseg.text import counted

MAX_THREADS = 256
# Pixels of an image that nobody would interrupt.
QUICK = 2**20
# Of an arena, from one image to the next.
MAX_KEPT = 256 * 2**20


class Session:
    """A model that runs.

    Calls from several threads wait for one another; other Python threads go on meanwhile. In a forked child it goes on
    with threads of its own and the weights of its parent. Copies, and what pickles bring to another process, are opened
    again from the same bytes, which are kept for that.

    Args:
        content: a whole file.
        where: what errors call it.
        threads: how many the engine may use; results do not depend on it.

    Raises:
        ModelFileError: truncated, altered, of another kind, too new, or above a limit.
        EnvironmentProblem: the library is not there, or POCKETSEG_ISA names a set that is not.

    Attributes:
        in_channels: planes of an image.
        out_channels: planes of logits.
        multiple: height and width are multiples of it.
        isa: whose kernels run.
        kernels: of each instruction, such as `avx512/convolution_codes`; "" where it is done inside of its neighbor.
    """

    _model: ctypes.c_void_p
    _lock: threading.Lock
    _closing: weakref.finalize[[ctypes.c_void_p], Session]
    _shape: tuple[int, int] | None
    _pipeline: str | None
    _planned: tuple[float, ...] | None
    _arena: NDArray[np.uint8] | None

    def __init__(self, content: bytes, where: str, threads: int = 1) -> None:
        if not 1 <= threads <= MAX_THREADS:
            raise DataError(counted(threads, "thread"), "cannot be", f"take 1 to {MAX_THREADS}")
        self.where, self.threads = where, threads
        self._content = content
        self._library = native.library()
        self._open()
        call_in_forks(self)
        description = native.Description()
        self._check(self._library.pseg_describe(self._model, ctypes.byref(description)))
        self.in_channels, self.out_channels, self.multiple = (
            description.in_channels,
            description.out_channels,
            description.multiple,
        )
        self.isa: str = self._library.pseg_isa(self._model).decode()
        kernels = (self._library.pseg_kernel(self._model, number) for number in range(description.instructions))
        self.kernels: tuple[str, ...] = tuple(name.decode() for name in kernels)

    def __reduce__(self) -> tuple[type[Session], tuple[bytes, str, int]]:
        return Session, (self._content, self.where, self.threads)

    def forked(self) -> None:
        """What another thread was at when the process forked is lost in the child: opened again, never waited for."""
        if self._lock.locked():
            self._closing.detach()
            self._open()
        else:
            self._lock = threading.Lock()

    def arena_bytes(self, height: int, width: int) -> int:
        """Memory that one image of this size needs, weights apart.

        Raises:
            DataError: the net takes no image of this size.
        """
        with self._lock:
            return self._plan(height, width)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits f32 (n, k, h, w) of images f32 (n, c, h, w), one after the other.

        Raises:
            DataError: another type or shape, or a value that is nan or inf.
        """
        if not isinstance(batch, np.ndarray) or batch.dtype != np.float32 or batch.ndim != 4:
            found = f"{batch.dtype} {batch.shape}" if isinstance(batch, np.ndarray) else type(batch).__name__
            raise DataError("image", f"is {found}", "the engine takes float32 (n, c, h, w)")
        count, channels, height, width = batch.shape
        if channels != self.in_channels:
            raise DataError(
                "image", f"has {counted(channels, 'channel')}, {self.where} takes {self.in_channels}", "convert it"
            )
        images = np.ascontiguousarray(batch)
        logits = np.empty((count, self.out_channels, height, width), np.float32)
        with self._lock:
            needed = self._plan(height, width)
            if self._arena is None or self._arena.size < needed:
                self._arena = np.empty(needed, np.uint8)
            for image, out in zip(images, logits, strict=True):
                self._check(
                    self._library.pseg_run(
                        self._model, image.ctypes.data, out.ctypes.data, self._arena.ctypes.data, self._arena.size
                    )
                )
        return logits

    def segment(
        self, image: NDArray[np.generic], pipeline: str, spacing_mm: tuple[float, float] | None, probabilities: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None, tuple[float, float]]:
        """The whole pipeline (`pipeline.pipeline`), without NumPy.

        Args:
            image: (h, w) or (h, w, c), uint8, uint16, int16 or float32.
            pipeline: as JSON.
            spacing_mm: pixel size (row, column), if it is known.
            probabilities: whether they are wanted.

        Returns:
            The mask (h, w), the probabilities f32 (h, w, k), and between which intensities nearly all of it lies
            (`intensity.bounds`).

        Raises:
            DataError: an image or a pipeline that the library does not take.
        """
        kind = native.TYPES.get(image.dtype.name)
        if kind is None or not image.dtype.isnative or image.ndim not in (2, 3):
            raise DataError("image", f"is {image.dtype} {image.shape}", "give uint8, uint16, int16 or float32")
        pixels = np.ascontiguousarray(image)
        height, width, channels = (*pixels.shape, 1)[:3]
        sides = [min(side, 2**32 - 1) for side in (height, width, channels)]
        of = native.ImageOf(pixels.ctypes.data, kind, *sides, 0, (ctypes.c_double * 2)(*(spacing_mm or (0, 0))))
        with self._lock:
            needed, classes = self._plan_segment(of, pipeline)
            arena = self._arena
            if arena is None or arena.size < needed:
                arena = np.empty(needed, np.uint8)
                self._arena = arena if needed <= MAX_KEPT else self._arena
            mask = np.empty((height, width), np.uint8)
            found = np.empty((height, width, classes), np.float32) if probabilities else None
            results = mask.ctypes.data, None if found is None else found.ctypes.data

            def run(progress: object) -> int:
                return int(
                    self._library.pseg_segment(
                        self._model, ctypes.byref(of), *results, progress, None, arena.ctypes.data, arena.size
                    )
                )

            self._check(_interruptible(run) if mask.size > QUICK else run(native.NO_PROGRESS))
            seen, colored = (ctypes.c_float * 2)(), ctypes.c_uint32()
            self._check(self._library.pseg_seen(self._model, seen, ctypes.byref(colored)))
        return mask, found, (seen[0], seen[1])

    def _plan_segment(self, image: native.ImageOf, pipeline: str) -> tuple[int, int]:
        """Bytes that it needs, and the number of classes."""
        if pipeline != self._pipeline:
            self._pipeline, self._planned, text = None, None, pipeline.encode()
            self._check(self._library.pseg_use_pipeline(self._model, text, len(text)))
            self._pipeline = pipeline
        key = image.type, image.height, image.width, image.channels, *image.spacing_mm
        if key != self._planned:
            self._shape, self._planned, size = None, None, ctypes.c_size_t()
            self._check(
                self._library.pseg_plan_segment(self._model, ctypes.byref(image), self.threads, ctypes.byref(size))
            )
            self._planned, self._needed = key, int(size.value)
        return self._needed, max(1, self.out_channels - 1)

    def _open(self) -> None:
        self._lock = threading.Lock()
        self._shape, self._arena = None, None
        self._pipeline, self._planned = None, None
        self._model = ctypes.c_void_p()
        status = self._library.pseg_open(self._content, len(self._content), ctypes.byref(self._model))
        self._closing = weakref.finalize(self, self._library.pseg_close, self._model)
        # At the end of the program a thread of the background may still be at it: the system frees what is left.
        self._closing.atexit = False
        self._check(status)

    def _plan(self, height: int, width: int) -> int:
        if self._shape != (height, width):
            size = ctypes.c_size_t()
            self._shape = self._planned = None
            arguments = [min(max(side, 0), 2**32 - 1) for side in (height, width)]
            self._check(self._library.pseg_plan(self._model, *arguments, self.threads, ctypes.byref(size)))
            self._shape, self._needed = (height, width), int(size.value)
        return self._needed

    def _check(self, status: int) -> None:
        if status:
            raise self._error(status, self._library.pseg_error(self._model).decode())

    def _error(self, status: int, what: str) -> PocketsegError:
        match status:
            case native.NOT_A_MODEL | native.DAMAGED:
                return ModelFileError(self.where, what, AGAIN)
            case native.TOO_NEW:
                return ModelFileError(self.where, what, "upgrade pocketseg")
            case native.NO_MEMORY:
                return EnvironmentProblem(self.where, what, "take a smaller image, or tiles").coded(memory.CODE)
            case native.TOO_LARGE:
                return ModelFileError(self.where, what, "take a smaller image, or a smaller net")
            case native.NOT_FINITE:
                return DataError(self.where, what, "look for nan and inf in the image")
            case native.UNSUPPORTED:
                return ModelFileError(self.where, what, "run it with POCKETSEG_PIPELINE=numpy")
            case native.BAD_IMAGE:
                return DataError("image", what, "give images of the kind that the model was trained on")
            case _ if "POCKETSEG_ISA" in what:
                return EnvironmentProblem(self.where, what, "unset POCKETSEG_ISA")
        return DataError(self.where, what, "give an image of another size")


def _interruptible(run: Callable[[object], int]) -> int:
    """What `run` returns. A signal (Ctrl-C) that ends the wait for it cancels it before the next run of the net."""
    if threading.current_thread() is not threading.main_thread():
        return run(native.NO_PROGRESS)
    found: list[int] = []
    begun, stopped, done = threading.Event(), threading.Event(), threading.Event()
    progress = native.PROGRESS(lambda *_: stopped.is_set())

    def work() -> None:
        begun.set()
        try:
            if not stopped.is_set():
                found.append(run(progress))
        finally:
            done.set()

    try:
        # The signal may come before the thread is known to have begun. Not `join`: interrupted, that takes a thread for
        # ended that is not.
        threading.Thread(target=work).start()
        done.wait()
    finally:
        stopped.set()
        while begun.is_set() and not done.is_set():  # what it writes to stays as long
            with contextlib.suppress(BaseException):  # of another signal
                done.wait()
    return found[0]


JOINED = "within its neighbor"
