"""Whether runtimes may multiply 8-bit integers on this CPU, or have to compute the same in f32.

x86 without VNNI adds pairs of products of uint8 and int8 in 16 bits, where 2 · 255 · 127 saturates: ONNX Runtime and
OpenVINO then give other masks, without a word. Weights up to 64 are safe; those of 8-bit schemes, and of the first and
last layer of the others, are larger.
"""

from __future__ import annotations

from functools import cache

import numpy as np

# Both products of a pair are as large as they can be, in every pair of a row that fills all vectors.
ACTIVATION, WEIGHT, COUNT = 255, 127, 256
# In onnx.proto.
INT8, UINT8, INT32 = 3, 2, 6


@cache
def saturates() -> bool:
    """What a product of uint8 and int8 shows; taken for true where ONNX Runtime is not there to be asked."""
    try:
        import onnxruntime

        session = onnxruntime.InferenceSession(_product(), providers=["CPUExecutionProvider"])
        found = session.run(None, {"a": np.full((COUNT, COUNT), ACTIVATION, np.uint8)})[0]
    except Exception:  # whatever keeps it from answering
        return True
    return not bool((found == ACTIVATION * WEIGHT * COUNT).all())


def _product() -> bytes:
    """An ONNX file: y = MatMulInteger(a, b), all values of b the largest."""
    weights = _number(1, COUNT) * 2 + _number(2, INT8) + _field(8, b"b") + _field(9, bytes([WEIGHT]) * COUNT**2)
    node = _field(1, b"a") + _field(1, b"b") + _field(2, b"y") + _field(4, b"MatMulInteger")
    ends = _field(11, _value(b"a", UINT8)) + _field(12, _value(b"y", INT32))
    graph = _field(1, node) + _field(2, b"product") + _field(5, weights) + ends
    return _number(1, 8) + _field(7, graph) + _field(8, _number(2, 18))


def _value(name: bytes, kind: int) -> bytes:
    shape = _field(1, _number(1, COUNT)) * 2
    return _field(1, name) + _field(2, _field(1, _number(1, kind) + _field(2, shape)))


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + _varint(value >> 7)
