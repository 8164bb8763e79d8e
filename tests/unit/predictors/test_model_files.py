"""What is not a model file is neither waited for nor read to its end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pocketseg import inspect, load, verify
from pocketseg.engine.container import MAGIC
from pocketseg.errors import ModelFileError, PocketsegError
from pocketseg.files import sha256_of
from pocketseg.predictors import load_onnx, load_openvino, load_pseg
from pocketseg.predictors.onnx_file import BEGIN
from pocketseg.predictors.pseg import MAX_FILE_BYTES, read_pseg

OPENERS = {
    "load_pseg": (load_pseg, ".pseg"),
    "read_pseg": (read_pseg, ".pseg"),
    "load": (load, ".pseg"),
    "verify": (verify, ".pseg"),
    "inspect": (inspect, ".pseg"),
    "load_onnx": (load_onnx, ".onnx"),
    "load_openvino": (load_openvino, ".onnx"),
    "sha256_of": (sha256_of, ".pseg"),
}
SECONDS = 20
resource = pytest.importorskip("resource")
GIB = 2**30


def fifo(path: Path) -> None:
    os.mkfifo(path)


def zeros_without_end(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def nothing(path: Path) -> None:
    pass


def empty(path: Path) -> None:
    path.touch()


def a_hole(path: Path, begin: bytes = b"") -> None:
    """3 GiB that take no room on the disk."""
    with path.open("wb") as file:
        file.write(begin)
        file.truncate(3 * GIB)


def too_large(path: Path) -> None:
    a_hole(path, MAGIC if path.suffix == ".pseg" else BEGIN)


@pytest.fixture(autouse=True)
def _bounded():
    def late(*_: object) -> None:
        raise TimeoutError(f"{SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("make", [fifo, zeros_without_end, folder, nothing, empty, a_hole, too_large])
@pytest.mark.parametrize("name", OPENERS)
def test_no_model(tmp_path, name, make):
    opener, suffix = OPENERS[name]
    path = tmp_path / f"model{suffix}"
    make(path)
    if name == "sha256_of" and make in (empty, a_hole, too_large):
        return  # files, of which it may be asked
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PocketsegError) as error:
        opener(path)
    assert "model" in str(error.value) and "→" in str(error.value) and error.value.exit_code == 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 * 1024


def test_no_more_is_read_than_is_looked_at(tmp_path):
    a_hole(tmp_path / "a.pseg")
    with pytest.raises(ModelFileError, match="is not a packed model"):
        read_pseg(tmp_path / "a.pseg")
    too_large(tmp_path / "b.pseg")
    with pytest.raises(ModelFileError, match=f"more than {MAX_FILE_BYTES:,} bytes"):
        read_pseg(tmp_path / "b.pseg")
