"""Files that earlier versions wrote are read, and give the masks that they gave then."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pocketseg
from pocketseg.data.readers import read_image
from pocketseg.engine.container import VERSION

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*/*.pseg"))


def version_of(path: Path) -> int:
    return struct.unpack_from("<I", path.read_bytes(), 8)[0]


@pytest.mark.row("N23")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(HERE).as_posix())
def test_the_same_mask_as_then(path):
    mask = pocketseg.load(path).mask(read_image(path.parent / "image.png"))
    assert np.array_equal(mask * 255, np.asarray(Image.open(path.with_suffix(".mask.png"))))
    assert 20 < mask.sum() < mask.size / 2


@pytest.mark.row("N23")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(HERE).as_posix())
def test_it_computes_what_it_says(path):
    assert pocketseg.verify(path)


@pytest.mark.row("N23")
def test_every_version_of_the_format_is_here_and_all_are_small():
    assert {version_of(path) for path in FILES} == set(range(1, VERSION + 1))
    assert sum(path.stat().st_size for path in HERE.glob("*/*")) < 40 * 1024
