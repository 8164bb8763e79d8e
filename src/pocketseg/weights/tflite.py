"""Convolutions out of a TensorFlow Lite file, by a reader of the few tables that hold them (decision 0022).

A file is a FlatBuffer: tables that point at one another by numbers of bytes. Each number is looked at before it is
followed, nothing is executed, and no more is taken than a file of its size can hold. A quantized number is
scale · (code − zero point).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from pocketseg.errors import ModelFileError
from pocketseg.files import open_regular

Array = NDArray[np.float32]

MAGIC = b"TFL3"
MAX_BYTES = 64 << 20
# Bytes that are read in all, for each byte of the file. What is stored once is read once; a file in which many tables
# point at the same numbers would make hours of work out of little.
MAX_TIMES_LARGER = 4
# Codes of TensorFlow Lite's schema.
CONV, DEPTHWISE = 3, 4
DTYPES = {0: "<f4", 1: "<f2", 2: "<i4", 3: "<u1", 9: "<i1"}
RELU, RELU6 = 1, 3
ACTIVATIONS = {0: "none", RELU: "ReLU", RELU6: "ReLU6"}


class _DamagedError(Exception):
    """What is wrong with a file, in words."""


@dataclass(frozen=True)
class TfliteLayer:
    """A convolution.

    Args:
        name: of its kernel in the file.
        kernel: f32 (o, h, w, i); of a depthwise one (1, h, w, o).
        bias: f32 (o,).
        depthwise: whether each channel is filtered by itself.
        stride: of height and width.
        activation: what follows it: none, ReLU or ReLU6.
    """

    name: str
    kernel: Array
    bias: Array
    depthwise: bool
    stride: tuple[int, int]
    activation: str


@dataclass(frozen=True)
class TfliteNet:
    """The convolutions of a net in the order in which they run.

    Args:
        layers: all of them.
        factor: what a pixel of 0 to 1 is multiplied with for the net.
        offset: what is added then.
    """

    layers: tuple[TfliteLayer, ...]
    factor: float
    offset: float


def read_tflite(path: Path) -> TfliteNet:
    """The convolutions of a TensorFlow Lite file, float or quantized, as floats.

    Raises:
        ModelFileError: missing, no such file, damaged, or with numbers of another kind.
    """
    try:
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ModelFileError(str(path), "does not exist", "check the path") from None
    except OSError as error:
        raise ModelFileError(str(path), f"cannot be read ({error.strerror or error})", "check the path") from None
    if data[4:8] != MAGIC:
        raise ModelFileError(str(path), "is not a TensorFlow Lite file", "give a .tflite file")
    try:
        if len(data) > MAX_BYTES:
            _refuse(f"is larger than {MAX_BYTES >> 20} MiB")
        return _Reader(data).net()
    except _DamagedError as error:
        raise ModelFileError(str(path), str(error), "use another copy or another file") from None


def _refuse(what: str) -> NoReturn:
    raise _DamagedError(what)


class _Bytes:
    """A file's bytes, and how many more may be read."""

    def __init__(self, data: bytes) -> None:
        self.data, self.left = data, MAX_TIMES_LARGER * len(data)

    def number(self, form: str, at: int) -> int:
        if not 0 <= at <= len(self.data) - struct.calcsize(form):
            _refuse("is damaged: it points outside of itself")
        found: int = struct.unpack_from(form, self.data, at)[0]
        return found

    def part(self, start: int, end: int) -> bytes:
        if end > len(self.data):
            _refuse("is damaged: it ends before its numbers do")
        self.left -= end - start
        if self.left < 0:
            _refuse("promises more numbers than its bytes can hold")
        return self.data[start:end]


class _Table:
    """A table of a FlatBuffer: fields by their number in the schema; an absent one is its default."""

    def __init__(self, data: _Bytes, at: int) -> None:
        self.data, self.at, self.number = data, at, data.number
        self.fields = at - self.number("<i", at)
        self.size = self.number("<H", self.fields)

    def place(self, field: int) -> int | None:
        """Where a field is stored."""
        entry = 4 + 2 * field
        offset = self.number("<H", self.fields + entry) if entry + 2 <= self.size else 0
        return self.at + offset if offset else None

    def scalar(self, field: int, form: str, default: int = 0) -> int:
        place = self.place(field)
        return default if place is None else self.number(form, place)

    def follow(self, place: int) -> int:
        return place + self.number("<I", place)

    def table(self, field: int) -> _Table | None:
        place = self.place(field)
        return None if place is None else _Table(self.data, self.follow(place))

    def content(self, field: int, width: int) -> bytes:
        """A vector of numbers of some bytes each."""
        place = self.place(field)
        if place is None:
            return b""
        start = self.follow(place)
        return self.data.part(start + 4, start + 4 + width * self.number("<I", start))

    def numbers(self, field: int, dtype: str) -> list[float]:
        found: list[float] = np.frombuffer(self.content(field, np.dtype(dtype).itemsize), dtype).tolist()
        return found

    def tables(self, field: int) -> list[_Table]:
        place = self.place(field)
        if place is None:
            return []
        start = self.follow(place) + 4
        count = len(self.content(field, 4)) // 4
        return [_Table(self.data, self.follow(start + 4 * index)) for index in range(count)]


class _Reader:
    def __init__(self, data: bytes) -> None:
        file = _Bytes(data)
        self.model = _Table(file, file.number("<I", 0))
        graphs = self.model.tables(2)
        if len(graphs) != 1:
            _refuse(f"has {len(graphs)} graphs, not one")
        self.graph = graphs[0]
        self.tensors, self.buffers = self.graph.tables(0), self.model.tables(4)

    def net(self) -> TfliteNet:
        inputs = [int(index) for index in self.graph.numbers(1, "<i4")]
        if not inputs:
            _refuse("has no input")
        factor, offset = self.pixels(self.item(self.tensors, inputs[0]))
        return TfliteNet(tuple(self.layers()), factor, offset)

    def item(self, tables: list[_Table], index: int) -> _Table:
        if not 0 <= index < len(tables):
            _refuse("is damaged: it names what it does not have")
        return tables[index]

    def layers(self) -> Iterator[TfliteLayer]:
        # Codes above 127 are in a field of their own; those wanted here are below.
        codes = [max(code.scalar(0, "<b"), code.scalar(3, "<i")) for code in self.model.tables(1)]
        for operator in self.graph.tables(3):
            index = operator.scalar(0, "<I")
            if index >= len(codes):
                _refuse("is damaged: it names what it does not have")
            if codes[index] not in (CONV, DEPTHWISE):
                continue
            inputs, options = [int(each) for each in operator.numbers(1, "<i4")], operator.table(4)
            if len(inputs) < 2 or options is None:
                _refuse("is damaged: a convolution has no kernel")
            depthwise = codes[index] == DEPTHWISE
            tensor = self.item(self.tensors, inputs[1])
            kernel = self.values(tensor, 4)
            channels = kernel.shape[3 if depthwise else 0]
            has_bias = len(inputs) > 2 and inputs[2] >= 0
            bias = self.values(self.item(self.tensors, inputs[2]), 1) if has_bias else np.zeros(channels, np.float32)
            if bias.shape != (channels,):
                _refuse(f"is damaged: {len(bias)} biases for {channels} channels")
            code = options.scalar(4 if depthwise else 3, "<b")
            stride = (options.scalar(2, "<i"), options.scalar(1, "<i"))
            name = tensor.content(3, 1).decode("utf-8", "replace")
            yield TfliteLayer(name, kernel, bias, depthwise, stride, ACTIVATIONS.get(code, f"activation {code}"))

    def values(self, tensor: _Table, axes: int) -> Array:
        """The numbers of a tensor as f32."""
        shape = [int(side) for side in tensor.numbers(0, "<i4")]
        kind = tensor.scalar(1, "<b")
        if kind not in DTYPES:
            _refuse(f"holds numbers of a kind (code {kind}) that is not read here")
        raw = self.item(self.buffers, tensor.scalar(2, "<I")).content(0, 1)
        dtype = np.dtype(DTYPES[kind])
        # Python's numbers: a product of sides could be more than NumPy's hold.
        count = 1
        for side in shape:
            count *= side
        if len(shape) != axes or min(shape, default=0) < 1 or count * dtype.itemsize != len(raw):
            _refuse(f"is damaged: {len(raw)} bytes for numbers of the shape {shape}")
        codes = np.frombuffer(raw, dtype).reshape(shape)
        scales, zeros, axis = self.scales(tensor)
        if not scales:
            if dtype.kind != "f":
                _refuse("has integers without a scale")
            return codes.astype(np.float32)
        if axes == 1:
            axis = 0  # what files say of a vector is often the axis of the kernel it belongs to
        if len(scales) > 1:
            if not 0 <= axis < axes or len(scales) != shape[axis]:
                _refuse(f"is damaged: {len(scales)} scales for numbers of the shape {shape}")
        else:
            axis = 0
        each = [1] * axes
        each[axis] = len(scales)
        scale, zero = np.array(scales).reshape(each), np.array(zeros).reshape(each)
        with np.errstate(all="ignore"):  # a scale may be nan
            found: Array = ((codes.astype(np.float64) - zero) * scale).astype(np.float32)
        if not np.isfinite(found).all():
            _refuse("holds numbers that are not finite")
        return found

    def scales(self, tensor: _Table) -> tuple[list[float], list[float], int]:
        """Scales, as many zero points, and the axis along which they differ; no scales for floats."""
        quantized = tensor.table(4)
        if quantized is None:
            return [], [], 0
        scales, zeros = quantized.numbers(2, "<f4"), quantized.numbers(3, "<i8")
        zeros = zeros or [0.0] * len(scales)
        if len(zeros) != len(scales):
            _refuse(f"is damaged: {len(scales)} scales and {len(zeros)} zero points")
        return scales, zeros, quantized.scalar(6, "<i")

    def pixels(self, tensor: _Table) -> tuple[float, float]:
        """What the net takes, of pixels from 0 to 1: codes are pixels of 8 bits, of int8 128 less."""
        scales, zeros, _ = self.scales(tensor)
        kind = tensor.scalar(1, "<b")
        if not scales or kind not in (3, 9):
            return 1.0, 0.0
        return 255 * scales[0], -scales[0] * (zeros[0] + (128 if kind == 9 else 0))
