"""The native library, found beside this file and bound with ctypes."""

from __future__ import annotations

import ctypes
import itertools
import sys
from functools import cache
from pathlib import Path

from pocketseg.engine.container import VERSION
from pocketseg.errors import EnvironmentProblem

NAMES = {"darwin": "libpocketseg.dylib", "win32": "pocketseg.dll"}
REBUILD = "install pocketseg again; from a checkout: pip install -e ."

# Codes of pocketseg.h.
NOT_A_MODEL, TOO_NEW, DAMAGED, TOO_LARGE, BAD_ARGUMENT, NO_MEMORY, NOT_FINITE = range(1, 8)
UNSUPPORTED, BAD_IMAGE, CANCELLED = range(8, 11)
# pseg_type, by NumPy's names.
TYPES = {"uint8": 0, "uint16": 1, "int16": 2, "float32": 3}


class Description(ctypes.Structure):
    """pseg_facts."""

    _fields_ = [(name, ctypes.c_uint32) for name in ("in_channels", "out_channels", "multiple", "instructions")]


# pseg_progress: context, runs of the net that are done, and of how many; what is not 0 ends the work.
PROGRESS = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32)
NO_PROGRESS = PROGRESS()


class ImageOf(ctypes.Structure):
    """pseg_image."""

    _fields_ = [
        ("pixels", ctypes.c_void_p),
        *((name, ctypes.c_uint32) for name in ("type", "height", "width", "channels", "planar")),
        ("spacing_mm", ctypes.c_double * 2),
    ]


def library_file() -> Path:
    """Where the library lies, in a wheel and in an editable install."""
    return Path(__file__).with_name(NAMES.get(sys.platform, "libpocketseg.so"))


@cache
def library() -> ctypes.CDLL:
    """The loaded library.

    Raises:
        EnvironmentProblem: it is not there, does not load, or is of another version.
    """
    file = library_file()
    try:
        found = ctypes.CDLL(str(file))
    except OSError as error:
        raise EnvironmentProblem(str(file), f"cannot be loaded ({error})", REBUILD) from error
    model, floats, size = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t
    found.pseg_version.restype = ctypes.c_uint32
    found.pseg_open.argtypes = [ctypes.c_char_p, size, ctypes.POINTER(model)]
    found.pseg_describe.argtypes = [model, ctypes.POINTER(Description)]
    found.pseg_isa.argtypes, found.pseg_isa.restype = [model], ctypes.c_char_p
    found.pseg_kernel.argtypes, found.pseg_kernel.restype = [model, ctypes.c_uint32], ctypes.c_char_p
    found.pseg_kernel_name.argtypes, found.pseg_kernel_name.restype = [ctypes.c_uint32], ctypes.c_char_p
    found.pseg_plan.argtypes = [model, *[ctypes.c_uint32] * 3, ctypes.POINTER(size)]
    found.pseg_run.argtypes = [model, floats, floats, ctypes.c_void_p, size]
    image = ctypes.POINTER(ImageOf)
    found.pseg_use_pipeline.argtypes = [model, ctypes.c_char_p, size]
    found.pseg_plan_segment.argtypes = [model, image, ctypes.c_uint32, ctypes.POINTER(size)]
    found.pseg_segment.argtypes = [model, image, *[ctypes.c_void_p] * 2, PROGRESS, *[ctypes.c_void_p] * 2, size]
    found.pseg_seen.argtypes = [model, ctypes.POINTER(ctypes.c_float), ctypes.POINTER(ctypes.c_uint32)]
    found.pseg_error.argtypes, found.pseg_error.restype = [model], ctypes.c_char_p
    found.pseg_close.argtypes, found.pseg_close.restype = [model], None
    if found.pseg_version() != VERSION:
        raise EnvironmentProblem(str(file), f"reads version {found.pseg_version()}, not {VERSION}", REBUILD)
    return found


def kernel_names() -> list[str]:
    """Every kernel that a file may ask for, such as `avx512/convolution_codes`, best first; also for other machines."""
    names = map(library().pseg_kernel_name, itertools.count())
    return [name.decode() for name in itertools.takewhile(bool, names)]
