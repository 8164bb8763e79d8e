"""Zips of others: what they say of themselves is not believed."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest

from pocketseg import archives


def written(path: Path, content: bytes = b"x" * 1000, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.roi", content)
    return path


def read(path: Path, most: int = 10**6) -> bytes:
    with archives.opened(path) as archive:
        return archives.read_member(archive, archive.infolist()[0], most)


def patched(path: Path, offset: int, value: bytes) -> Path:
    """The entry in the directory changed."""
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02") + offset
    content[at : at + len(value)] = value
    path.write_bytes(bytes(content))
    return path


def test_a_member_is_read(tmp_path):
    assert read(written(tmp_path / "a.zip")) == b"x" * 1000


@pytest.mark.row("S05")
@pytest.mark.parametrize(
    ("offset", "value", "words"),
    [
        (24, struct.pack("<I", 10), "damaged"),  # fewer bytes than there are
        (24, struct.pack("<I", 10**7), "unpacks to more than"),
        (8, struct.pack("<H", 1), "encrypted"),
        (10, struct.pack("<H", 14), "neither stored nor deflated"),
        (10, struct.pack("<H", 99), "neither stored nor deflated"),
        (16, struct.pack("<I", 7), "damaged"),
    ],
    ids=["shorter", "longer", "encrypted", "lzma", "unknown", "check sum"],
)
def test_members_that_lie(tmp_path, offset, value, words):
    with pytest.raises(ValueError, match=words):
        read(patched(written(tmp_path / "a.zip"), offset, value))


def test_what_is_no_zip(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no zip" * 100)
    with pytest.raises(ValueError, match="not a readable zip"):
        read(tmp_path / "a.zip")


@pytest.mark.row("S05")
def test_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 0)
    with pytest.raises(ValueError, match="more than 0 members"):
        read(written(tmp_path / "a.zip"))
