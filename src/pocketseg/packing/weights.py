"""Weights as the bytes of a file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pocketseg.engine.program import Weights
from pocketseg.quant import Spec
from pocketseg.quant.encodings import packed_codes


def float_weights(kernel: NDArray[np.float32]) -> Weights:
    """f32 weights (o, h, w, i)."""
    return Weights("f32", 32, 1, kernel.astype("<f4").tobytes())


def float_numbers(weights: Weights, channels: int) -> NDArray[np.float32]:
    """The inverse: (o, h · w · i)."""
    assert weights.kind == "f32"
    return np.frombuffer(weights.data, "<f4").reshape(channels, -1)


def rounded_to_bf16(weights: Weights) -> Weights:
    """f32 weights in 16 bits: the nearest bf16, half to even.

    Example:
        >>> one = float_weights(np.array([1.0, 1.00390625, -3.3], np.float32))
        >>> (np.frombuffer(rounded_to_bf16(one).data, "<u2").astype("<u4") << 16).view("<f4").tolist()
        [1.0, 1.0, -3.296875]
    """
    assert weights.kind == "f32"
    whole = np.frombuffer(weights.data, "<u4").astype(np.uint64)
    halves = (whole + 0x7FFF + ((whole >> 16) & 1)) >> 16
    return Weights("bf16", 16, 1, halves.astype("<u2").tobytes())


def packed_weights(spec: Spec, codes: Tensor) -> Weights:
    """Codes (planes, o, i, h, w) in as few bits as their quantizer needs."""
    planes = packed_codes(spec, codes.permute(0, 1, 3, 4, 2))
    bits = 1 if spec.encoding == "signs" else spec.bits
    return Weights(spec.encoding, bits, len(planes), planes.tobytes())
