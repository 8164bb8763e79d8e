"""Torn and altered files: an error from both readers, the same for the same file."""

from __future__ import annotations

import struct

import pytest

from helpers.packed_models import changed, packed
from pocketseg.engine.codec import program_in
from pocketseg.engine.container import HEADER, HEADER_BYTES, read_container
from pocketseg.engine.session import Session
from pocketseg.errors import ModelFileError


def refused(content: bytes) -> str:
    """What both readers say."""
    with pytest.raises(ModelFileError) as python:
        program_in(content, "here")
    with pytest.raises(ModelFileError) as native:
        Session(content, "here")
    assert str(native.value).startswith("here: ")
    return str(python.value)


@pytest.mark.row("P10")
def test_cut_anywhere_in_the_header():
    whole = packed()
    for length in range(HEADER_BYTES + 1):
        assert "not a packed model" in refused(whole[:length]) or "truncated" in refused(whole[:length])


@pytest.mark.row("P10")
def test_cut_or_longer_anywhere():
    whole = packed()
    for length in range(HEADER_BYTES, len(whole), 97):
        assert "truncated" in refused(whole[:length])
    assert "truncated" in refused(whole + b"\0")


@pytest.mark.row("P10")
def test_every_bit_of_the_header_counts():
    whole = packed()
    for place in range(HEADER_BYTES):
        for bit in range(8):
            altered = bytearray(whole)
            altered[place] ^= 1 << bit
            refused(bytes(altered))


@pytest.mark.row("P10")
def test_every_byte_behind_it_counts():
    whole = packed()
    for place in range(HEADER_BYTES, len(whole), 53):
        altered = bytearray(whole)
        altered[place] ^= 0x10
        assert "digest" in refused(bytes(altered))


@pytest.mark.row("P12")
def test_a_newer_version_is_reported():
    head = struct.pack("<I", 3)
    assert "newer than 2 → upgrade" in refused(packed()[:8] + head + packed()[12:])


@pytest.mark.parametrize("lengths", [(2**63, 0, 2**63), (2**64 - 1, 1, 0), (0, 0, 0), (1, 2**64 - 1, 1)])
def test_section_lengths_that_overflow(lengths):
    whole = packed()
    magic, version, zero, length, *_ = HEADER.unpack_from(whole)
    refused(HEADER.pack(magic, version, zero, length, *lengths) + whole[HEADER.size :])


@pytest.mark.row("P10")
def test_sections_cut_behind_a_right_digest():
    """Every length of the program section: the reader in C++ has no other guard than its own counting."""
    whole = packed()
    sections = read_container(whole, "here")
    for length in range(len(sections.program)):
        assert "valid program" in refused(changed(whole, program=sections.program[:length]))
    for part in (sections.data[:-1], sections.data + b"\0", b""):
        assert "valid program" in refused(changed(whole, data=part))
    assert "valid program" in refused(changed(whole, program=sections.program + b"\0"))


def altered_at(place: int, form: str, value: int) -> bytes:
    program = bytearray(read_container(packed(), "here").program)
    struct.pack_into("<" + form, program, place, value)
    return changed(packed(), program=bytes(program))


@pytest.mark.parametrize(
    ("place", "form", "value", "what"),
    [
        (0, "H", 0, "without channels"), (4, "H", 0, "without channels"), (6, "H", 65535, "ends too soon"),
        (8, "H", 65535, "ends too soon"), (10, "H", 65535, "ends too soon"), (12, "B", 9, "unknown grid"),
        (13, "i", -(2**31), "without order"), (17, "i", 2**30, "without order"), (25, "I", 0x7F800000, "nan or inf"),
        (25, "I", 0x80000001, "without order"),
    ],
)  # fmt: skip
def test_what_the_native_reader_says(place, form, value, what):
    with pytest.raises(ModelFileError, match=what):
        Session(altered_at(place, form, value), "here")


@pytest.mark.parametrize(
    ("by", "what"),
    [((-1, 0, 0, 0), "is truncated"), ((1, 0, 0, 0), "is truncated"), ((0, 0, 1, 0), "longer than it is"),
     ((0, 0, 0, 1), "longer than it is"), ((0, -1, 0, 0), "shorter than it is"), ((0, 0, -1, 0), "shorter than it is")],
)  # fmt: skip
def test_what_the_native_reader_says_of_lengths(by, what):
    whole = packed()
    magic, version, zero, *lengths = HEADER.unpack_from(whole)
    head = HEADER.pack(magic, version, zero, *map(sum, zip(lengths, by, strict=True)))
    with pytest.raises(ModelFileError, match=what):
        Session(head + whole[HEADER.size :], "here")
    with pytest.raises(ModelFileError, match="it is truncated"):
        Session(whole[: HEADER_BYTES - 1], "here")
