from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketseg.errors import ModelFileError, PocketsegError
from pocketseg.quant.packing import pack, pack_planes, packed_bytes, unpack, unpack_planes


def hexed(codes, bits, **options):
    return pack(np.array(codes), bits, **options).tobytes().hex()


def test_bytes_by_hand():
    assert hexed([1, 0, 0, 0, 0, 0, 0, 0, 1], 1) == "0101"
    assert hexed([0, 0, 0, 0, 0, 0, 0, 1], 1) == "80"
    assert hexed([1, 2, 3, 0], 2) == "39"  # 00 11 10 01
    assert hexed([1, 2, 3], 3) == "d100"  # 011 010 001 → 1101 0001, 0000 0000
    assert hexed([7, 7, 7], 3) == "ff01"
    assert hexed([1, 15, 8], 4) == "f108"
    assert hexed([0, 128, 255], 8) == "0080ff"
    assert hexed([0x1234], 16) == "3412"


def test_signed_bytes_by_hand():
    # Ternary: 00 is 0, 01 is +1, 11 is −1.
    assert hexed([0, 1, -1, 0], 2, signed=True) == "34"
    assert hexed([-7, 7], 4, signed=True) == "79"
    assert hexed([-128, 127, -1], 8, signed=True) == "807fff"
    assert pack_planes(np.array([[1, -1, -1, 1, 1, 1, 1, 1, 1], [-1] * 9])).tolist() == [[0xF9, 1], [0, 0]]


@given(st.data(), st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 16, 17, 24]), st.booleans())
def test_every_code_comes_back(data, bits, signed):
    low = -(2 ** (bits - 1)) if signed else 0
    codes = data.draw(st.lists(st.integers(low, low + 2**bits - 1), max_size=50))
    packed = pack(np.array(codes, dtype=np.int32), bits, signed=signed)
    assert packed.dtype == np.uint8
    assert packed.size == packed_bytes(len(codes), bits) == -(-len(codes) * bits // 8)
    assert unpack(packed, bits, len(codes), signed=signed).tolist() == codes
    padding = 8 * packed.size - len(codes) * bits
    assert padding == 0 or int(packed[-1]) >> (8 - padding) == 0


@given(st.integers(1, 4), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_planes_come_back(levels, count, seed):
    planes = np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), (levels, count))
    packed = pack_planes(planes)
    assert packed.shape == (levels, packed_bytes(count, 1))
    np.testing.assert_array_equal(unpack_planes(packed, count), planes)


def test_shape_and_memory_order_do_not_matter():
    codes = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(pack(np.asfortranarray(codes), 4), pack(codes.reshape(-1).astype(np.uint8), 4))
    assert pack(codes, 4).tolist() == [0x10, 0x32, 0x54, 0x76, 0x98, 0xBA]


def test_the_product_of_packed_signs_needs_no_correction_for_padding():
    rng = np.random.default_rng(0)
    a, b = rng.choice([-1, 1], (2, 1, 13))
    differing = int(np.unpackbits(pack_planes(a) ^ pack_planes(b)).sum())
    assert 13 - 2 * differing == int((a * b).sum())


@pytest.mark.parametrize(
    ("codes", "bits", "signed"),
    [([4], 2, False), ([-1], 2, False), ([2], 2, True), ([-3], 2, True), ([256], 8, False), ([0.5], 8, False)],
)
def test_codes_out_of_range_are_errors(codes, bits, signed):
    with pytest.raises(PocketsegError, match=r"lie outside|no integers"):
        pack(np.array(codes), bits, signed=signed)


def test_other_errors():
    with pytest.raises(PocketsegError, match="0 bits"):
        packed_bytes(4, 0)
    with pytest.raises(PocketsegError, match=r"neither −1 nor \+1"):
        pack_planes(np.array([[0, 1]]))
    with pytest.raises(ModelFileError, match=r"need 2 bytes, found uint8 \(1,\)"):
        unpack(np.zeros(1, np.uint8), 3, 3)
    with pytest.raises(ModelFileError, match="padding bits are set"):
        unpack(np.array([0xFF, 0x02], np.uint8), 3, 3)
    with pytest.raises(ModelFileError, match="found int64"):
        unpack(np.zeros(2, np.int64), 3, 3)
