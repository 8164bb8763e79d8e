"""The memory's end: recognized in whatever form libraries tell it, and told as what it is."""

from __future__ import annotations

import ast
import errno
from pathlib import Path

import numpy as np
import pytest
import torch

from pocketseg import memory
from pocketseg.errors import DataError, EnvironmentProblem, ModelFileError

SOURCE = Path(memory.__file__).parent
ENDS = [
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    OSError("out of memory error when reading image file"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer"),
    RuntimeError("Exception from src/inference: std::bad_alloc"),
    RuntimeError("can't start new thread"),
    EnvironmentProblem("model.pseg", "no memory").coded(memory.CODE),
]
OTHERS = [
    ValueError("bad"),
    OSError(errno.ENOENT, "memory of a file"),
    RuntimeError("shape"),
    DataError("a", "b"),
    None,
]


@pytest.mark.row("F20")
@pytest.mark.parametrize("error", ENDS, ids=repr)
def test_it_is_recognized(error):
    assert memory.ended(error)
    wrapped = ValueError("cannot be read")
    wrapped.__cause__ = error
    assert memory.ended(wrapped)
    told = memory.explained(error, DataError("a.png", "is damaged", "copy it"))
    assert isinstance(told, EnvironmentProblem) and "a.png: there is not enough memory" in str(told)


@pytest.mark.parametrize("error", OTHERS, ids=repr)
def test_what_is_something_else(error):
    assert not memory.ended(error)
    if error is not None:
        otherwise = DataError("a.png", "is damaged", "copy it")
        assert memory.explained(error, otherwise) is otherwise


def test_what_really_ends_it():
    for take in (
        lambda: np.empty(2**60, np.uint8),
        lambda: torch.empty(2**60, dtype=torch.uint8),
        lambda: bytes(2**60),
    ):
        with pytest.raises((MemoryError, RuntimeError)) as caught:
            take()
        assert memory.ended(caught.value)


@pytest.mark.row("F20")
def test_a_block_is_named():
    words = "stage 'a': there is not enough memory for it; a batch of 4 → half"
    with pytest.raises(EnvironmentProblem, match=words), memory.named("stage 'a'", "a batch of 4", "half"):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
    with pytest.raises(ZeroDivisionError), memory.named("stage 'a'"):
        raise ZeroDivisionError
    with pytest.raises(ModelFileError), memory.named("stage 'a'"):
        raise ModelFileError("x", "y")


def test_what_is_free():
    free = memory.free_bytes()
    assert free is None or 0 < free < 2**50


@pytest.mark.parametrize("shape", [(1, 1), (3000, 4000), (1, 10**7), (10**7, 1), (4096, 4096, 3), (0, 5)])
def test_bands_cover_an_image(shape):
    bands = list(memory.bands(shape))
    rows = [row for band in bands for row in range(band.start, min(band.stop, shape[0]))]
    assert rows == list(range(shape[0]))
    assert all((band.stop - band.start) * shape[1] <= max(memory.BAND_PIXELS, shape[1]) for band in bands)


def handlers(path: Path) -> list[tuple[int, str, str]]:
    """Line, kinds and body of every `except`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        (node.lineno, "" if node.type is None else ast.unparse(node.type), ast.unparse(ast.Module(node.body, [])))
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
    ]


@pytest.mark.row("F20")
@pytest.mark.parametrize("room", ["data", "weights", "predictors", "training"])
def test_no_reader_takes_the_memorys_end_for_a_fault_of_the_file(room):
    """Whatever takes all kinds of errors for damage asks first, by `memory.explained`."""
    wide = {"Exception", "BaseException", "MemoryError", "RuntimeError", ""}
    wrong = [
        f"{path.relative_to(SOURCE)}:{line}"
        for path in sorted((SOURCE / room).rglob("*.py"))
        for line, kinds, body in handlers(path)
        if wide & set(kinds.strip("()").replace(" ", "").split(","))
        and any(f"raise {kind}" in body for kind in ("DataError", "ModelFileError"))
        and "memory." not in body
    ]
    # A quaternion and an intercept, which are numbers of a header.
    assert len(wrong) <= 2 and all("nifti" in place for place in wrong), wrong
