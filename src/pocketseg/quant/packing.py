"""Codes in as few bits as they need. NumPy only; the engine's packer uses it too.

One stream of bits: code j takes bits j·n … j·n + n − 1, least significant first, and bit k of the stream is bit k mod 8
of byte ⌊k/8⌋ (value 1 for k = 0). So the first of two 4-bit codes is the low half of its byte, and 3-bit codes cross
bytes. Signed codes are two's complement in n bits; ternary (2 bits) is 00 for 0, 01 for +1, 11 for −1, and 10 never
occurs. Planes of ±1 store 1 for +1 and 0 for −1. The bits after the last code are 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pocketseg.errors import ModelFileError, PocketsegError

# Fixed Q8.8 with its sign needs 17; whole numbers up to 24 bits are exact in f32.
MAX_BITS = 24


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of `count` codes.

    Example:
        >>> packed_bytes(3, 3), packed_bytes(0, 4)
        (2, 0)
    """
    _check_bits(bits)
    return (count * bits + 7) // 8


def pack(codes: NDArray[np.integer], bits: int, *, signed: bool = False) -> NDArray[np.uint8]:
    """Codes of any shape, in C order, as packed bytes.

    Args:
        codes: 0 … 2^bits − 1, or −2^(bits−1) … 2^(bits−1) − 1 when signed; others are an error.
        bits: 1 to 24.
        signed: two's complement.

    Example:
        >>> pack(np.array([1, -1, 0, -1]), 2, signed=True)
        array([205], dtype=uint8)
    """
    _check_bits(bits)
    flat = np.ascontiguousarray(codes).reshape(-1).astype(np.int64)
    lowest = -(1 << (bits - 1)) if signed else 0
    highest = lowest + (1 << bits) - 1
    wrong = int(((flat < lowest) | (flat > highest)).sum())
    if wrong or not np.issubdtype(codes.dtype, np.integer):
        raise PocketsegError(
            f"packing in {bits} bits",
            f"{wrong} of {flat.size} codes ({codes.dtype}) lie outside {lowest} … {highest} or are no integers",
            "use the bits and the sign of the quantizer that made them",
        )
    # Shifting right keeps the two's complement of negative codes, and & 1 takes one bit of it.
    stream = ((flat[:, None] >> np.arange(bits)) & 1).astype(np.uint8)
    return np.packbits(stream.reshape(-1), bitorder="little")


def unpack(data: NDArray[np.uint8], bits: int, count: int, *, signed: bool = False) -> NDArray[np.int32]:
    """The exact inverse of `pack`: int32 (count,). Wrong lengths and set padding bits are errors.

    Example:
        >>> unpack(np.array([205], np.uint8), 2, 4, signed=True)
        array([ 1, -1,  0, -1], dtype=int32)
    """
    needed = packed_bytes(count, bits)
    if data.dtype != np.uint8 or data.shape != (needed,):
        raise ModelFileError(
            f"{count} codes of {bits} bits",
            f"need {needed} bytes, found {data.dtype} {data.shape}",
            "the file is truncated or of another kind; make it again",
        )
    stream = np.unpackbits(data, bitorder="little")
    if stream[count * bits :].any():
        raise ModelFileError(
            f"{count} codes of {bits} bits", "padding bits are set", "the file is altered; make it again"
        )
    codes = stream[: count * bits].reshape(count, bits).astype(np.int32) @ (1 << np.arange(bits, dtype=np.int32))
    if signed:
        codes = codes - ((codes >> (bits - 1)) << bits)
    return codes.astype(np.int32)


def pack_planes(planes: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Planes of ±1, (m, …), as uint8 (m, bytes of one plane): each plane starts at a byte. Gammas are stored beside.

    Example:
        >>> pack_planes(np.array([[1, -1, 1], [-1, -1, 1]]))
        array([[5],
               [4]], dtype=uint8)
    """
    if not np.isin(planes, (-1, 1)).all():
        raise PocketsegError("packing of planes", "a value is neither −1 nor +1", "sign(0) is +1 in a bit plane")
    flat = planes.reshape(len(planes), -1) > 0
    return np.packbits(flat, axis=1, bitorder="little")


def unpack_planes(data: NDArray[np.uint8], count: int) -> NDArray[np.int8]:
    """The exact inverse of `pack_planes`: int8 (m, count).

    Example:
        >>> unpack_planes(np.array([[5], [4]], np.uint8), 3)
        array([[ 1, -1,  1],
               [-1, -1,  1]], dtype=int8)
    """
    planes = [unpack(plane, 1, count) for plane in data]
    return (2 * np.array(planes).reshape(len(data), count) - 1).astype(np.int8)


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= MAX_BITS:
        raise PocketsegError("packing", f"{bits} bits a code", f"1 to {MAX_BITS} are possible")
