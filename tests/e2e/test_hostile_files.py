"""Hostile pickles under every name, in every place that reads a file: none is executed, each is refused."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from places import PLACES, here

SUFFIXES = (".pth", ".pt", ".safetensors", ".onnx", ".pseg", ".npz", ".json", ".png")


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def write(path: Path, canary: Canary) -> Path:
    """As the suffix says: an archive of torch, an archive of arrays, a bare pickle."""
    if path.suffix == ".pth":
        torch.save({"state_dict": canary}, path)
    elif path.suffix == ".npz":
        array = io.BytesIO()
        np.save(array, np.array([canary], dtype=object), allow_pickle=True)
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("images.npy", "masks.npy"):
                archive.writestr(name, array.getvalue())
    else:
        path.write_bytes(pickle.dumps(canary))
    return path


@pytest.mark.row("S02")
def test_the_canary_sings_where_it_is_unpickled(tmp_path):
    pickle.loads(write(tmp_path / "a.pt", Canary(tmp_path / "sung")).read_bytes()).close()  # noqa: S301
    assert (tmp_path / "sung").exists()


@pytest.mark.row("S02")
@pytest.mark.parametrize("place", PLACES)
def test_no_pickle_is_executed(place, phantom_data, trained_run, tmp_path):
    sung = tmp_path / "sung"
    for suffix in SUFFIXES:
        path = write(tmp_path / f"canary{suffix}", Canary(sung))
        code, said = here(*PLACES[place](str(path), phantom_data, trained_run, tmp_path / "out"))
        assert not sung.exists(), f"{suffix} was executed"
        assert code in (2, 3) and "→" in said and "Traceback" not in said, f"{suffix}: {code} {said}"


@pytest.mark.row("S08")
def test_no_other_program_is_asked_for_an_image(tmp_path, monkeypatch):
    """Pillow hands EPS to Ghostscript, which is a language: here is one that would leave a trace."""
    trace = tmp_path / "trace"
    for name in ("gs", "gswin32c", "ghostscript"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {trace}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, told in (("a.eps", "is a drawing, which is not read"), ("a.png", "not an image of an allowed format")):
        (tmp_path / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
        code, said = here("overlay", tmp_path / name, "--reference", tmp_path / name, "--out", tmp_path / "o.png")
        assert code == 2 and told in said, said
    assert not trace.exists()
