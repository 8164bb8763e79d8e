"""What a JPEG 2000 file says and Pillow does not tell: bits, signs, loss, and whether all of it is there.

ISO/IEC 15444-1, annex A (markers) and annex I (boxes).
"""

from __future__ import annotations

from dataclasses import dataclass

START = b"\xff\x4f\xff\x51"
END = b"\xff\xd9"
BOX = b"jp2c"
CODING, TILE = 0xFF52, 0xFF90
# From the start: how many components there are, and the first one's bits.
COUNT, COMPONENTS = 40, 42
# From the marker of the coding style: which wavelet is used, and the one that loses nothing.
WAVELET, REVERSIBLE = 13, 1


@dataclass(frozen=True)
class Codestream:
    """The values and the coding of an image.

    Attributes:
        bits: of each component.
        signed: whether any component is.
        lossless: whether the wavelet can be inverted exactly; it says nothing of what was cut off in encoding.
        whole: whether it has its end.
    """

    bits: tuple[int, ...]
    signed: bool
    lossless: bool
    whole: bool


def codestream(content: bytes) -> Codestream:
    """What a file's codestream says.

    Raises:
        ValueError: there is none, or it is cut off in its header.
    """
    begin, end = _place(content)
    stream = memoryview(content)[begin:end]
    if bytes(stream[:4]) != START:
        raise ValueError("it has no codestream")
    count = _number(stream, COUNT, 2)
    sizes = [_number(stream, COMPONENTS + 3 * at, 1) for at in range(count)]
    at = 2
    while (marker := _number(stream, at, 2)) not in (CODING, TILE):
        at += 2 + _number(stream, at + 2, 2)
    lossless = marker == CODING and _number(stream, at + WAVELET, 1) == REVERSIBLE
    bits = tuple((size & 0x7F) + 1 for size in sizes)
    whole = end <= len(content) and bytes(stream[-2:]) == END
    return Codestream(bits, any(size & 0x80 for size in sizes), lossless, whole)


def _number(stream: memoryview, at: int, size: int) -> int:
    part = stream[at : at + size]
    if len(part) < size:
        raise ValueError("it is cut off")
    return int.from_bytes(part, "big")


def _place(content: bytes) -> tuple[int, int]:
    """Where the codestream begins and ends: the whole file, or one of its boxes."""
    if content.startswith(START):
        return 0, len(content)
    whole, at = memoryview(content), 0
    while at < len(content):
        length, kind, head = _number(whole, at, 4), content[at + 4 : at + 8], 8
        if length == 1:
            length, head = _number(whole, at + 8, 8), 16
        end = at + length if length else len(content)
        if kind == BOX:
            return at + head, end
        at = max(end, at + head)
    raise ValueError("it has no codestream")
