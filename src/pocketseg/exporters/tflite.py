"""TensorFlow Lite: the net of an ONNX file of ours as a .tflite flatbuffer, written without TensorFlow.

Tensors become (1, h, w, c). A quantized net keeps its integers: codes of uint8 are written as int8, 128 less. A
convolution whose result is brought to a grid right behind it (or behind its ReLU) runs on integers, as do pooling,
enlarging and joining on one grid; what lies between two grids as floats (a norm behind a ReLU, the logits) is computed
in f32.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg.errors import ModelFileError
from pocketseg.packages import require
from pocketseg.pipeline import Forward
from pocketseg.pipeline.pipeline import METADATA_KEY

IDENTIFIER, SCHEMA = b"TFL3", 3
# Numbers of the schema of TensorFlow Lite.
FLOAT32, INT32, INT8 = 0, 2, 9
TYPES = {"float32": FLOAT32, "int32": INT32, "int8": INT8}
SAME, VALID = 0, 1
NO_ACTIVATION, RELU, RELU6 = 0, 1, 3
# Operators: number, version, number of their options.
ADD, MUL = (0, 1, 11), (18, 1, 21)
CONCATENATION = (2, 2, 10)
CONV_2D, DEPTHWISE_CONV_2D = (3, 3, 1), (4, 3, 2)
DEQUANTIZE, QUANTIZE = (6, 2, 0), (114, 2, 0)
MAX_POOL_2D = (17, 2, 5)
RELU_OPERATOR, RELU6_OPERATOR = (19, 2, 0), (21, 2, 0)
RESIZE_BILINEAR, RESIZE_NEAREST_NEIGHBOR = (23, 1, 15), (97, 2, 74)
PAD = (34, 2, 22)

Array = NDArray[Any]
Grid = tuple[float, int]


def tflite_file(onnx_content: bytes, path: Path) -> bytes:
    """A TensorFlow Lite file of the same net, for one image; the pipeline and the card are its metadata.

    Args:
        onnx_content: what `onnx_file` gives.
        path: what errors call it.

    Raises:
        ModelFileError: the net has an operation that has no form here; it is named.
    """
    require("tflite", "flatbuffers")
    require("export", "onnx")
    import onnx

    proto = onnx.load_from_string(onnx_content)
    writer = _Writer()
    _Translation(proto.graph, writer, str(path)).run()
    return writer.content({entry.key: entry.value for entry in proto.metadata_props})


def litert_forward(content: bytes) -> Forward:
    """What runs planes (n, c, h, w) through a TensorFlow Lite file in LiteRT, image by image.

    Raises:
        EnvironmentProblem: LiteRT is not installed.
    """
    require("tflite", "ai_edge_litert")
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    image, logits = (each[0]["index"] for each in (interpreter.get_input_details(), interpreter.get_output_details()))

    def forward(planes: NDArray[np.float32]) -> NDArray[np.float32]:
        found = []
        for each in planes:
            interpreter.set_tensor(image, np.ascontiguousarray(each.transpose(1, 2, 0)[None]))
            interpreter.invoke()
            found.append(interpreter.get_tensor(logits)[0].transpose(2, 0, 1))
        return np.stack(found)

    return forward


@dataclass
class _Value:
    """A value of the net: tensors that hold it, as floats, and as codes of a grid that it lies on."""

    shape: tuple[int, ...]
    floats: int | None = None
    codes: dict[Grid, int] = field(default_factory=dict)
    # What quantizers behind it made of it: another value, which nothing but they may read.
    rounded: dict[Grid, int] = field(default_factory=dict)
    # Writes it as codes of a grid, exactly: a convolution that ends there.
    ending: Callable[[Grid], int] | None = None
    # Writes it as floats, when they are wanted.
    made: Callable[[], int] | None = None


class _Translation:
    def __init__(self, graph: Any, writer: _Writer, where: str) -> None:
        from onnx import helper, numpy_helper

        self.graph, self.writer, self.where = graph, writer, where
        self.constants: dict[str, Array] = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        self.attributes: Callable[[Any], dict[str, Any]] = lambda node: {
            each.name: helper.get_attribute_value(each) for each in node.attribute
        }
        self.values: dict[str, _Value] = {}
        # Constants that DequantizeLinear made: codes, scale.
        self.grids: dict[str, tuple[Array, Array]] = {}
        self.users: dict[str, list[Any]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.users[name].append(node)

    def run(self) -> None:
        image, logits = self.graph.input[0], self.graph.output[0].name
        _, channels, height, width = (each.dim_value for each in image.type.tensor_type.shape.dim)
        shape = (1, height, width, channels)
        first = self.writer.tensor("image", shape, FLOAT32)
        self.values[image.name] = _Value(shape, first)
        for node in self.graph.node:
            step = getattr(self, f"_{node.op_type.lower()}", None)
            if step is None:
                raise self._refused(node, "is an operation that is not written to TensorFlow Lite")
            step(node, self.attributes(node))
        self.writer.inputs, self.writer.outputs = [first], [self._floats(logits)]

    def _refused(self, node: Any, what: str) -> ModelFileError:
        return ModelFileError(self.where, f"{node.op_type} {what}", "export it with --to onnx")

    # --- tensors -------------------------------------------------------------------------------------------------

    def _floats(self, name: str) -> int:
        """The tensor that holds a value, or a constant, as floats."""
        if name not in self.values:
            values = self.constants[name]
            return self.writer.constant(name, _channels_last(values).astype(np.float32))
        value = self.values[name]
        if value.floats is None:
            if value.made is not None:
                value.floats = value.made()
            else:
                value.floats = self.writer.tensor(name, value.shape, FLOAT32)
                self.writer.operator(DEQUANTIZE, [next(iter(value.codes.values()))], [value.floats])
        return value.floats

    def _codes(self, name: str, grid: Grid) -> int:
        """The tensor that holds a value, brought to a grid, as codes."""
        value = self.values[name]
        if grid in value.codes:
            return value.codes[grid]
        if grid not in value.rounded:
            if value.ending is not None:
                value.rounded[grid] = value.ending(grid)
            else:
                value.rounded[grid] = self.writer.tensor(f"{name}.codes", value.shape, INT8, grid=grid)
                self.writer.operator(QUANTIZE, [self._floats(name)], [value.rounded[grid]])
        return value.rounded[grid]

    def _one_grid(self, names: Sequence[str]) -> Grid | None:
        """A grid that all of some values lie on."""
        shared = set.intersection(*({*self.values[name].codes} if name in self.values else set() for name in names))
        return min(shared, default=None)

    def _new(self, node: Any, shape: tuple[int, ...], floats: int | None = None) -> _Value:
        value = self.values[node.output[0]] = _Value(shape, floats)
        return value

    # --- grids ---------------------------------------------------------------------------------------------------

    def _quantizelinear(self, node: Any, _: dict[str, Any]) -> None:
        scale, zero = (self.constants[name] for name in node.input[1:3])
        if zero.dtype != np.uint8 or zero.ndim:
            raise self._refused(node, "brings to codes that are not uint8")
        grid = float(scale), int(zero) - 128
        source = self.values[node.input[0]]
        self._new(node, source.shape).codes[grid] = self._codes(node.input[0], grid)

    def _dequantizelinear(self, node: Any, _: dict[str, Any]) -> None:
        if node.input[0] in self.constants:
            codes, scale, zero = (self.constants[name] for name in node.input[:3])
            if zero.any():
                raise self._refused(node, "has weights that are not even around 0")
            self.grids[node.output[0]] = codes, np.asarray(scale)
            each = scale.reshape(-1, *[1] * (codes.ndim - 1)) if scale.ndim else scale
            self.constants[node.output[0]] = (codes.astype(np.float64) * each).astype(np.float32)
        else:
            self.values[node.output[0]] = self.values[node.input[0]]

    # --- operations that compute ---------------------------------------------------------------------------------

    def _conv(self, node: Any, attributes: dict[str, Any]) -> None:
        weights = self.constants[node.input[1]]
        convolution = _Convolution.of(weights, attributes, self.values[node.input[0]].shape)
        if convolution is None:
            raise self._refused(node, f"with {attributes.get('group', 1)} groups and these pads is not written")
        self._new(node, convolution.shape)
        self._end(node, convolution, node.output[0], NO_ACTIVATION)

    def _end(self, node: Any, convolution: _Convolution, output: str, activation: int) -> None:
        """A value that a convolution gives, as floats or as codes, whatever is asked for."""
        value, grids = self.values[output], [self.grids.get(name) for name in node.input[1:]]
        value.made = lambda: self._float_convolution(node, convolution, output, activation)
        mine = self._one_grid(node.input[:1])
        if mine is not None and all(grids) and len(grids) == 2:
            value.ending = lambda grid: self._integer_convolution(node, convolution, output, activation, mine, grid)

    def _float_convolution(self, node: Any, convolution: _Convolution, output: str, activation: int) -> int:
        weights = self.constants[node.input[1]]
        bias = self.constants[node.input[2]] if len(node.input) > 2 else np.zeros(len(weights))
        into = self._padded(self._floats(node.input[0]), convolution, FLOAT32, None)
        w = self.writer.constant(f"{output}.weights", convolution.layout(weights).astype(np.float32))
        b = self.writer.constant(f"{output}.bias", bias.astype(np.float32))
        out = self.writer.tensor(output, convolution.shape, FLOAT32)
        self.writer.operator(convolution.code, [into, w, b], [out], convolution.options(activation))
        return out

    def _integer_convolution(
        self, node: Any, convolution: _Convolution, output: str, activation: int, mine: Grid, grid: Grid
    ) -> int:
        (codes, scale), (bias, _) = (self.grids[name] for name in node.input[1:3])
        scales = np.broadcast_to(scale, len(codes)).astype(np.float32)
        into = self._padded(self._codes(node.input[0], mine), convolution, INT8, mine)
        w = self.writer.constant(
            f"{output}.weights", convolution.layout(codes).astype(np.int8), scales=scales, along=convolution.along
        )
        b = self.writer.constant(f"{output}.bias", bias.astype(np.int32), scales=scales * np.float32(mine[0]))
        out = self.writer.tensor(f"{output}.codes", convolution.shape, INT8, grid=grid)
        self.writer.operator(convolution.code, [into, w, b], [out], convolution.options(activation))
        return out

    def _padded(self, tensor: int, convolution: _Convolution, kind: int, grid: Grid | None) -> int:
        if not any(convolution.pads):
            return tensor
        top, left, bottom, right = convolution.pads
        _, height, width, channels = convolution.given
        shape = (1, height + top + bottom, width + left + right, channels)
        pads = self.writer.constant("pads", np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32))
        out = self.writer.tensor("padded", shape, kind, grid=grid)
        self.writer.operator(PAD, [tensor, pads], [out], [])
        return out

    def _relu(self, node: Any, _: dict[str, Any]) -> None:
        self._activation(node, RELU, RELU_OPERATOR)

    def _clip(self, node: Any, _: dict[str, Any]) -> None:
        low, high = (float(self.constants[name]) for name in node.input[1:3])
        source = self.values[node.input[0]]
        if source.codes or (low, high) != (0.0, 6.0):
            raise self._refused(node, f"from {low:g} to {high:g} is not written (activations of fewer than 8 bits?)")
        self._activation(node, RELU6, RELU6_OPERATOR)

    def _activation(self, node: Any, fused: int, code: tuple[int, int, int]) -> None:
        source = self.values[node.input[0]]
        value = self._new(node, source.shape)
        before = next((each for each in self.graph.node if each.output[0] == node.input[0]), None)
        if before is not None and before.op_type == "Conv" and len(self.users[node.input[0]]) == 1:
            convolution = _Convolution.of(
                self.constants[before.input[1]], self.attributes(before), self.values[before.input[0]].shape
            )
            assert convolution is not None, "it was written before"
            self._end(before, convolution, node.output[0], fused)
            return
        value.floats = self.writer.tensor(node.output[0], source.shape, FLOAT32)
        self.writer.operator(code, [self._floats(node.input[0])], [value.floats])

    def _batchnormalization(self, node: Any, attributes: dict[str, Any]) -> None:
        gain, shift, mean, variance = (self.constants[name].astype(np.float64) for name in node.input[1:5])
        factor = gain / np.sqrt(variance + attributes.get("epsilon", 1e-5))
        name, shape = node.output[0], self.values[node.input[0]].shape
        between, out = (self.writer.tensor(text, shape, FLOAT32) for text in (f"{name}.scaled", name))
        each = [self.writer.constant(name, part.astype(np.float32)) for part in (factor, shift - mean * factor)]
        self.writer.operator(MUL, [self._floats(node.input[0]), each[0]], [between], [("b", NO_ACTIVATION)])
        self.writer.operator(ADD, [between, each[1]], [out], [("b", NO_ACTIVATION)])
        self._new(node, shape, out)

    def _add(self, node: Any, _: dict[str, Any]) -> None:
        self._of_two(node, ADD)

    def _mul(self, node: Any, _: dict[str, Any]) -> None:
        self._of_two(node, MUL)

    def _of_two(self, node: Any, code: tuple[int, int, int]) -> None:
        shapes = [self.values[name].shape for name in node.input if name in self.values]
        if any(shape != shapes[0] for shape in shapes):
            raise self._refused(node, "of two shapes is not written")
        into = [self._floats(name) for name in node.input]
        out = self.writer.tensor(node.output[0], shapes[0], FLOAT32)
        self.writer.operator(code, into, [out], [("b", NO_ACTIVATION)])
        self._new(node, shapes[0], out)

    # --- operations that move ------------------------------------------------------------------------------------

    def _maxpool(self, node: Any, attributes: dict[str, Any]) -> None:
        sides = attributes["kernel_shape"]
        odd = any(attributes.get("pads", [])) or attributes.get("ceil_mode") or attributes["strides"] != sides
        if odd or any(each != 1 for each in attributes.get("dilations", [])):
            raise self._refused(node, "of windows that overlap or are padded is not written")
        _, height, width, channels = self.values[node.input[0]].shape
        shape = (1, height // sides[0], width // sides[1], channels)
        numbers = [("b", VALID), *(("i", each) for each in (sides[1], sides[0], sides[1], sides[0])), ("b", 0)]
        self._moved(node, node.input[:1], shape, MAX_POOL_2D, numbers)

    def _resize(self, node: Any, attributes: dict[str, Any]) -> None:
        _, height, width, channels = self.values[node.input[0]].shape
        given = [
            self.constants[name] for name in node.input[2:] if name in self.constants and len(self.constants[name])
        ]
        if len(given) != 1 or len(given[0]) != 4:
            raise self._refused(node, "to a size that is not fixed is not written")
        fixed = given[0].dtype == np.int64
        side = [
            int(each) if fixed else round(float(each) * old)
            for each, old in zip(given[0][2:], (height, width), strict=True)
        ]
        mode, how = attributes["mode"], attributes.get("coordinate_transformation_mode", b"half_pixel")
        if mode == b"nearest" and how == b"asymmetric" and attributes.get("nearest_mode") == b"floor":
            code, numbers = RESIZE_NEAREST_NEIGHBOR, [("b", 0), ("b", 0)]
        elif mode == b"linear" and how in (b"half_pixel", b"pytorch_half_pixel", b"align_corners"):
            corners = how == b"align_corners"
            code, numbers = RESIZE_BILINEAR, [("i", 0), ("i", 0), ("b", int(corners)), ("b", int(not corners))]
        else:
            raise self._refused(node, f"of the kind {mode.decode()}, {how.decode()} is not written")
        size = self.writer.constant("size", np.array(side, np.int32))
        exact = code is RESIZE_NEAREST_NEIGHBOR  # linear ones compute
        self._moved(node, node.input[:1], (1, *side, channels), code, numbers, extra=[size], on_codes=exact)

    def _concat(self, node: Any, attributes: dict[str, Any]) -> None:
        shapes = [self.values[name].shape for name in node.input]
        if attributes["axis"] != 1:
            raise self._refused(node, "along another axis than the channels is not written")
        shape = (*shapes[0][:3], sum(each[3] for each in shapes))
        self._moved(node, node.input, shape, CONCATENATION, [("i", 3), ("b", NO_ACTIVATION)])

    def _moved(
        self, node: Any, names: Sequence[str], shape: tuple[int, ...], code: tuple[int, int, int],
        numbers: list[tuple[str, int]], extra: Sequence[int] = (), on_codes: bool = True,
    ) -> None:  # fmt: skip
        """Codes where all of what is moved has those of one grid, else floats."""
        grid = self._one_grid(names) if on_codes else None
        into = [self._floats(name) if grid is None else self._codes(name, grid) for name in names]
        out = self.writer.tensor(node.output[0], shape, FLOAT32 if grid is None else INT8, grid=grid)
        self.writer.operator(code, [*into, *extra], [out], numbers)
        value = self._new(node, shape, out if grid is None else None)
        if grid is not None:
            value.codes[grid] = out


@dataclass(frozen=True)
class _Convolution:
    """How a convolution is written: `pads` are those that an operator of its own adds."""

    depthwise: bool
    same: bool
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pads: tuple[int, ...]
    given: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, weights: Array, attributes: dict[str, Any], given: tuple[int, ...]) -> _Convolution | None:
        """None for one that is neither dense nor depthwise with one filter a channel, or whose pads are not stated."""
        out, per_group, *sides = weights.shape
        groups, channels = attributes.get("group", 1), given[3]
        depthwise = groups == channels == out and per_group == 1 and channels > 1
        if not (depthwise or groups == 1) or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
            return None
        strides, dilations = attributes["strides"], attributes["dilations"]
        pads = tuple(attributes["pads"])
        reach = [dilation * (side - 1) for side, dilation in zip(sides, dilations, strict=True)]
        same = strides == [1, 1] and pads == tuple(each // 2 for each in reach) * 2 and not any(r % 2 for r in reach)
        height, width = (
            (given[1 + at] + pads[at] + pads[at + 2] - reach[at] - 1) // strides[at] + 1 for at in range(2)
        )
        none = (0, 0, 0, 0)
        return cls(
            depthwise, same, tuple(strides), tuple(dilations), none if same else pads, given, (1, height, width, out)
        )

    @property
    def code(self) -> tuple[int, int, int]:
        return DEPTHWISE_CONV_2D if self.depthwise else CONV_2D

    @property
    def along(self) -> int:
        """The axis of the weights that has a scale each."""
        return 3 if self.depthwise else 0

    def layout(self, weights: Array) -> Array:
        """Weights (out, in, h, w) as (out, h, w, in), or of one filter a channel as (1, h, w, out)."""
        return np.ascontiguousarray(weights.transpose((1, 2, 3, 0) if self.depthwise else (0, 2, 3, 1)))

    def options(self, activation: int) -> list[tuple[str, int]]:
        strides = [("i", self.stride[1]), ("i", self.stride[0])]
        dilations = [("i", self.dilation[1]), ("i", self.dilation[0])]
        times = [("i", 1)] if self.depthwise else []
        return [("b", SAME if self.same else VALID), *strides, *times, ("b", activation), *dilations]


def _channels_last(values: Array) -> Array:
    """A constant of one number, or of one each channel (c, 1, 1), as it lies beside (1, h, w, c)."""
    return values.reshape(-1) if values.ndim and values.size == values.shape[-3 if values.ndim > 2 else 0] else values


# --- the flatbuffer ---------------------------------------------------------------------------------------------


@dataclass
class _Tensor:
    name: str
    shape: tuple[int, ...]
    kind: int
    buffer: int
    scales: list[float]
    zeros: list[int]
    along: int


class _Writer:
    """Tensors and operators in order, and the file of them."""

    def __init__(self) -> None:
        self.buffers: list[bytes] = [b""]
        self.tensors: list[_Tensor] = []
        self.codes: list[tuple[int, int, int]] = []
        self.operators: list[tuple[int, list[int], list[int], int, list[tuple[str, int]] | None]] = []
        self.inputs: list[int] = []
        self.outputs: list[int] = []

    def tensor(self, name: str, shape: Sequence[int], kind: int, *, grid: Grid | None = None) -> int:
        scales, zeros = ([grid[0]], [grid[1]]) if grid else ([], [])
        self.tensors.append(_Tensor(name, tuple(shape), kind, 0, scales, zeros, 0))
        return len(self.tensors) - 1

    def constant(self, name: str, values: Array, *, scales: Array | None = None, along: int = 0) -> int:
        self.buffers.append(np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes())
        each = [] if scales is None else scales.tolist()
        kind, buffer = TYPES[values.dtype.name], len(self.buffers) - 1
        self.tensors.append(_Tensor(name, values.shape, kind, buffer, each, [0] * len(each), along))
        return len(self.tensors) - 1

    def operator(
        self, code: tuple[int, int, int], into: list[int], out: list[int], numbers: list[tuple[str, int]] | None = None
    ) -> None:
        if code not in self.codes:
            self.codes.append(code)
        self.operators.append((self.codes.index(code), into, out, code[2], numbers))

    def content(self, metadata: dict[str, str]) -> bytes:
        import flatbuffers

        build = flatbuffers.Builder(1 << 16)
        card = metadata[METADATA_KEY].encode()
        buffers = [
            self._table(build, [(0, "o", self._bytes(build, data))] if data else []) for data in [*self.buffers, card]
        ]
        tensors = [self._tensor(build, each) for each in self.tensors]
        operators = [self._operator(build, *each) for each in self.operators]
        parts = [
            (0, "o", self._offsets(build, tensors)), (1, "o", self._numbers(build, self.inputs, np.int32)),
            (2, "o", self._numbers(build, self.outputs, np.int32)), (3, "o", self._offsets(build, operators)),
            (4, "o", build.CreateString("main")),
        ]  # fmt: skip
        graph = self._table(build, parts)
        codes = [
            self._table(build, [(0, "b", min(number, 127)), (2, "i", version), (3, "i", number)])
            for number, version, _ in self.codes
        ]
        named = self._table(build, [(0, "o", build.CreateString(METADATA_KEY)), (1, "u", len(self.buffers))])
        parts = [
            (0, "u", SCHEMA), (1, "o", self._offsets(build, codes)), (2, "o", self._offsets(build, [graph])),
            (3, "o", build.CreateString("pocketseg")), (4, "o", self._offsets(build, buffers)),
            (6, "o", self._offsets(build, [named])),
        ]  # fmt: skip
        build.Finish(self._table(build, parts), IDENTIFIER)
        return bytes(build.Output())

    def _tensor(self, build: Any, tensor: _Tensor) -> int:
        parts = [
            (0, "o", self._numbers(build, tensor.shape, np.int32)), (1, "b", tensor.kind), (2, "u", tensor.buffer),
            (3, "o", build.CreateString(tensor.name)),
        ]  # fmt: skip
        if tensor.scales:
            scales = self._numbers(build, tensor.scales, np.float32)
            zeros = self._numbers(build, tensor.zeros, np.int64)
            parts.append((4, "o", self._table(build, [(2, "o", scales), (3, "o", zeros), (6, "i", tensor.along)])))
        return self._table(build, parts)

    def _operator(
        self, build: Any, code: int, into: list[int], out: list[int], kind: int, numbers: list[tuple[str, int]] | None
    ) -> int:
        parts = [
            (0, "u", code), (1, "o", self._numbers(build, into, np.int32)),
            (2, "o", self._numbers(build, out, np.int32)),
        ]  # fmt: skip
        if kind:
            options = self._table(build, [(slot, *each) for slot, each in enumerate(numbers or [])])
            parts += [(3, "b", kind), (4, "o", options)]
        return self._table(build, parts)

    def _table(self, build: Any, parts: Sequence[tuple[int, str, int]]) -> int:
        """A table of fields: slot, kind (offset, byte, int32, uint32), value."""
        build.StartObject(max((slot for slot, _, _ in parts), default=-1) + 1)
        for slot, kind, value in parts:
            if kind == "o":
                build.PrependUOffsetTRelativeSlot(slot, value, 0)
            else:
                write = {"b": build.PrependInt8Slot, "i": build.PrependInt32Slot, "u": build.PrependUint32Slot}[kind]
                write(slot, value, None)  # written also where it is the default
        offset: int = build.EndObject()
        return offset

    def _offsets(self, build: Any, offsets: Sequence[int]) -> int:
        build.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            build.PrependUOffsetTRelative(offset)
        end: int = build.EndVector()
        return end

    def _numbers(self, build: Any, values: Sequence[float], kind: type) -> int:
        offset: int = build.CreateNumpyVector(np.asarray(values, kind))
        return offset

    def _bytes(self, build: Any, data: bytes) -> int:
        """Aligned to 16 bytes, as runtimes map weights."""
        build.StartVector(1, len(data), 16)
        build.head -= len(data)
        build.Bytes[build.head : build.head + len(data)] = data
        end: int = build.EndVector()
        return end
