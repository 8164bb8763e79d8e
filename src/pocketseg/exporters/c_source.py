"""A packed model as C: one C99 file and a header with the net and the pipeline from a u8 image to a u8 mask.

The file is made of pieces (`pieces.c`), of which it holds those that its net needs, of the net's numbers as constants,
and of one function for each layer, which asks for the rows that it reads (`c_plan`). Its results are those of the
engine's plain kernels, to the bit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg.engine.program import (
    Add,
    Affine,
    AveragePool,
    Bilinear,
    Clip,
    Convolution,
    Copy,
    Input,
    MaxPool,
    Mean,
    Multiply,
    Nearest,
    Operation,
    Output,
    Pad,
    Program,
    Relu,
    Snap,
    Transposed,
    Weights,
    name_of,
)
from pocketseg.engine.rules import largest
from pocketseg.errors import ModelFileError
from pocketseg.exporters.c_plan import Layer, Piece, Plan, kind_of, plan_of
from pocketseg.grids import BinaryPlanes, PowersOfTwo, Quantization, Uniform
from pocketseg.pipeline import Pipeline
from pocketseg.pipeline.intensity import to_planes
from pocketseg.quant.packing import unpack
from pocketseg.version import VERSION

# In the head of both files.
MARK = "pocketseg export --to c"
MAX_SUM, MAX_CODE = 2**31 - 1, 2**22
FLOAT_WEIGHTS = ("f32", "bf16")
# A mask's bit that says "its probability reaches min_peak", while rules work.
CLASSES_BESIDE_PEAKS = 127
FNV_START, FNV_PRIME = 2166136261, 16777619
# Of pieces: their first line names them and what they call.
PIECE = re.compile(r"^/\*: (.+?) \*/\n", re.MULTILINE)
WIDTH = 118


@dataclass(frozen=True)
class CSource:
    """The two files, and what they need.

    Attributes:
        source, header: texts.
        flash_bytes: of weights, constants and tables; the code comes beside it.
        arena_bytes: memory for tensors, and for the rules after them.
        ram_bytes: all static memory; image, mask and stack come beside it.
        has_rules: whether components are looked at.
    """

    source: str
    header: str
    flash_bytes: int
    arena_bytes: int
    ram_bytes: int


def c_source(
    program: Program,
    pipeline: Pipeline,
    card: Mapping[str, Any],
    name: str,
    where: str,
    expected: tuple[int, int] | None = None,
) -> CSource:
    """The files of a packed model for images of its own size.

    Args:
        program: the net.
        pipeline: of the model.
        card: facts about it for the head of the file.
        name: what the functions begin with; an identifier.
        where: what errors call it.
        expected: digests of logits and mask of `check_image`, see `digest`; None leaves the check out.

    Raises:
        ModelFileError: the net or the pipeline asks for what has no form in C; it is named.
    """
    _check_pipeline(pipeline, where)
    plan = plan_of(program, pipeline.net_size)
    return _Writer(program, pipeline, plan, where).files(card, name, expected)


def check_image(pipeline: Pipeline) -> NDArray[np.uint8]:
    """The image (h, w, c) that the check of a file makes: a ramp under noise."""
    height, width = pipeline.size
    count = height * width * pipeline.channels
    noise, state = np.empty(count, np.uint32), 1
    for index in range(count):
        state = (1664525 * state + 1013904223) % 2**32
        noise[index] = state >> 24
    columns = np.arange(count, dtype=np.uint32) // pipeline.channels % width
    return ((columns * 255 // width + noise) // 2).astype(np.uint8).reshape(height, width, pipeline.channels)


def digest(numbers: NDArray[Any]) -> int:
    """FNV-1a over 32-bit words or bytes, in C order."""
    found = FNV_START
    words = numbers.view(np.uint32) if numbers.dtype == np.float32 else numbers
    for word in words.reshape(-1).tolist():
        found = ((found ^ word) * FNV_PRIME) & 0xFFFFFFFF
    return found


def _check_pipeline(pipeline: Pipeline, where: str) -> None:
    rules = pipeline.postprocess
    exclusive = not pipeline.multilabel and len(pipeline.classes) > 1
    odd = {
        "tta (mirror images)": (bool(pipeline.tta), "train with predict.tta left out, or export another model"),
        "paint_out_calipers": (pipeline.paint_out_calipers, "give images without calipers to a model without it"),
        "postprocess.presence": (bool(rules.presence), "export a model without limits of presence"),
        "postprocess.min_peak with fill_holes of several classes": (
            exclusive and rules.min_peak > 0 and rules.fill_holes,
            "leave out one of the two rules",
        ),
        "postprocess.min_peak of so many classes": (
            rules.min_peak > 0 and len(pipeline.classes) > CLASSES_BESIDE_PEAKS,
            "leave out the rule",
        ),
    }
    for what, (asked, fix) in odd.items():
        if asked:
            raise ModelFileError(where, f"its pipeline asks for {what}, which has no form in C", fix)


@cache
def _pieces() -> dict[str, tuple[tuple[str, ...], str]]:
    """Name -> what it calls, and its text; in the order of the file."""
    _, *parts = PIECE.split(files("pocketseg.exporters").joinpath("pieces.c").read_text("utf-8"))
    names = [part.split() for part in parts[::2]]
    return {name: (tuple(calls), text) for (name, *calls), text in zip(names, parts[1::2], strict=True)}


class _Writer:
    """Layers to text; what they need is noted on the way."""

    def __init__(self, program: Program, pipeline: Pipeline, plan: Plan, where: str) -> None:
        self.program, self.pipeline, self.plan, self.where = program, pipeline, plan, where
        self.used: set[str] = set()
        self.constants: list[str] = []
        self.flash = 0
        self.grids: dict[Quantization, str] = {}
        self.filters = {"s8": 0, "s32": 0, "f32": 0}
        self.sums: set[str] = set()
        self.line = max(layer.shape[1] for layer in plan.layers)

    # --- what is noted --------------------------------------------------------------------------------------

    def refused(self, what: str, fix: str = "choose another net, or run the model with the engine") -> ModelFileError:
        return ModelFileError(self.where, f"its net {what}, which has no form in C", fix)

    def use(self, name: str) -> str:
        """A piece, and all that it calls."""
        if name not in self.used:
            self.used.add(name)
            for other in _pieces()[name][0]:
                self.use(other)
        return name

    def array(self, kind: str, name: str, values: Sequence[Any], size: int, shape: str = "") -> str:
        """A constant; `size` is the bytes of a number."""
        self.flash += size * len(values)
        numbers = [_float(each) if kind == "float" else str(each) for each in values]
        self.constants.append(f"static const {kind} {name}[{shape or len(values)}] = {{\n{_wrapped(numbers)}\n}};")
        return name

    def floats(self, name: str, values: NDArray[np.float32]) -> str:
        return self.array("float", name, list(values.reshape(-1)), 4)

    def grid(self, grid: Quantization) -> str:
        """The constant of a grid."""
        if grid not in self.grids:
            name = self.grids[grid] = f"grid_{len(self.grids)}"
            match grid:
                case Uniform():
                    if max(abs(grid.lowest - grid.zero_point), abs(grid.highest - grid.zero_point)) > MAX_CODE:
                        raise self.refused("has codes of more than 22 bits")
                    self.use("uniform")
                    whole = f"{grid.zero_point}, {grid.lowest}, {grid.highest}"
                    scales = f"{_float(grid.inverse_scale)}, {_float(grid.scale)}"
                    self.constants.append(f"static const uniform {name} = {{{scales}, {whole}}};")
                    self.flash += 20
                case PowersOfTwo():
                    self.use("power")
                    self.constants.append(f"static const power {name} = {{{grid.i}, {grid.f}}};")
                    self.flash += 8
                case BinaryPlanes():
                    self.floats(name, np.array(grid.gammas, np.float32))
        return self.grids[grid]

    def tensors(self, name: str, pieces: Sequence[Piece]) -> None:
        """An array of pieces of tensors."""
        self.use("tensor")
        rows = []
        for piece in pieces:
            of = piece.tensor
            place = f"0, arena + {of.offset // 4}" if of.kind == "f32" else f"(uint8_t *)arena + {of.offset}, 0"
            sizes = of.shape[0], of.shape[1], of.rows, of.pixel, of.plane if of.kind == "signs" else 0
            rows.append(f"    {{{place}, {', '.join(map(str, (*sizes, piece.first, piece.channels)))}}}")
        self.constants.append(f"static const tensor {name}[{len(rows)}] = {{\n" + ",\n".join(rows) + "\n};")

    def window(self, layer: Layer) -> str:
        self.use("window")
        w = layer.it.operation.window  # type: ignore[union-attr]
        name = f"window_{layer.number}"
        numbers = (*w.kernel, *w.stride, *w.dilation, *w.padding[:2])
        self.constants.append(f"static const window {name} = {{{', '.join(map(str, numbers))}}};")
        return f"&{name}"

    # --- layers -----------------------------------------------------------------------------------------------

    def layer(self, layer: Layer) -> str:
        """The function that makes rows of a layer's result, up to a number of them."""
        number = layer.number
        self.constants.append(f"/* Layer {number}: {_operation(layer)} */")
        if layer.reads:
            self.tensors(f"in_{number}", layer.reads)
        if any(layer.operands):
            self.tensors(f"with_{number}", [piece for pieces in layer.operands for piece in pieces])
        if layer.writes:
            self.tensors(f"out_{number}", [Piece(tensor, 0, tensor.channels) for tensor in layer.writes])
        body = [*self.calls(layer), *self.work(layer)]
        lines = "\n".join(f"        {line}" for line in body)
        return (
            f"/* {_operation(layer)}: {layer.shape[0]} x {layer.shape[1]} x {layer.channels} */\n"
            f"static void layer_{number}(int32_t rows) {{\n"
            f"    for (; done[{number}] < rows; ++done[{number}]) {{\n"
            f"        const int32_t y = done[{number}];\n{lines}\n    }}\n}}"
        )

    def calls(self, layer: Layer) -> list[str]:
        """Asks the layers before it for the rows that it reads."""
        found: dict[str, None] = {}
        for piece in layer.reads:
            found[f"layer_{piece.tensor.writer}({self.last_row(layer.it.operation, piece.tensor.shape[0])});"] = None
        for piece in (piece for pieces in layer.operands for piece in pieces):
            found[f"layer_{piece.tensor.writer}({'y + 1' if piece.tensor.shape[0] > 1 else '1'});"] = None
        return list(found)

    def last_row(self, operation: Operation, height: int) -> str:
        """As `rows_read`."""
        match operation:
            case Convolution(window=window) | MaxPool(window) | AveragePool(window):
                more = (window.kernel[0] - 1) * window.dilation[0] + 1 - window.padding[0]
                row = _sum(_times("y", window.stride[0]), more)
            case Transposed(window=window):
                row = _sum(f"({_sum('y', window.padding[0])}) / {window.stride[0]}", 1)
            case Nearest(factor):
                return _sum(f"y / {factor[0]}", 1)
            case Bilinear(factor):
                row = _sum(f"y / {factor[0]}", 2)
            case Pad(padding):
                row = _sum("y", 1 - padding[0])
            case Mean():
                return str(height)
            case _:
                return "y + 1"
        if row == "y + 1":
            return row
        self.use("least")
        return f"least({row}, {height})"

    def work(self, layer: Layer) -> list[str]:
        grid = layer.reads[0].tensor.grid if layer.reads else None
        moves = grid is not None and isinstance(layer.it.operation, Copy | MaxPool | Nearest | Pad)
        lines = ["int32_t c;"] if not moves or isinstance(layer.it.operation, MaxPool) else []
        channels = [0, *np.cumsum([piece.channels for piece in layer.reads]).tolist()]
        if moves:
            for at, piece in enumerate(layer.reads):
                for write in range(len(layer.writes)):
                    lines += self.moved(layer, at, piece, write, channels[at])
            return lines
        starts = {0, layer.channels}
        for pieces in layer.operands:
            starts |= set(np.cumsum([piece.channels for piece in pieces]).tolist())
        if isinstance(layer.it.operation, Convolution | Transposed):
            of_piece = self.grouped(layer, channels)
            starts |= set(of_piece)
        else:
            starts |= set(channels[1:])
        prepared = self.prepared(layer)
        for low, high in pairwise(sorted(starts)):
            lines.append(f"for (c = {low}; c < {high}; ++c) {{")
            lines += [f"    {line}" for line in [*prepared(low), *self.steps(layer, low), *self.writes(layer)]]
            lines.append("}")
        return lines

    def grouped(self, layer: Layer, channels: Sequence[int]) -> list[int]:
        """Output channels at which a convolution of groups comes to another piece of its input."""
        operation = layer.it.operation
        assert isinstance(operation, Convolution | Transposed)
        if operation.groups == 1:
            return []
        inside, outside = channels[-1] // operation.groups, operation.channels // operation.groups
        if any(each % inside for each in channels):
            raise self.refused("has a convolution of groups across parts of a concatenation")
        return [each // inside * outside for each in channels]

    def prepared(self, layer: Layer) -> Any:
        """What gives the lines that put channel c into `line`, from a first channel on."""
        operation, count = layer.it.operation, layer.shape[1]
        channels = np.cumsum([0, *(piece.channels for piece in layer.reads)]).tolist()

        def source(low: int, row: str = "") -> str:
            at = max(index for index, first in enumerate(channels[:-1]) if first <= low)
            return ", ".join([f"in_{layer.number} + {at}", *([row] if row else []), _sum("c", -channels[at])])

        match operation:
            case Input():
                self.use("see")
                same = self.pipeline.normalization.kind != "train-mean-std"
                return lambda low: [f"see(line, {count}, seen, y, c, intensities[{0 if same else 'c'}]);"]
            case Convolution() | Transposed():
                return self.convolution(layer, operation)
            case MaxPool() | AveragePool():
                call, window = self.use("largest" if isinstance(operation, MaxPool) else "average"), self.window(layer)
                return lambda low: [f"{call}(line, {count}, {window}, y, {source(low)});"]
            case Mean():
                self.use("mean")
                return lambda low: [f"mean(line, {source(low)});"]
            case Bilinear(factor, corners):
                self.use("bilinear")
                height, width = layer.reads[0].tensor.shape
                steps = [
                    _step(into, out, by, corners)
                    for into, out, by in zip((height, width), layer.shape, factor, strict=True)
                ]
                numbers = f"{_float(steps[0])}, {_float(steps[1])}, {int(corners)}"
                return lambda low: [f"bilinear(line, {count}, y, {numbers}, {source(low)});"]
            case Pad(padding):
                self.use("take")
                height, width = layer.reads[0].tensor.shape
                row = _sum("y", -padding[0])
                return lambda low: [
                    f"memset(line, 0, {4 * count});",
                    f"if (y >= {padding[0]} && y < {padding[0] + height})",
                    f"    take(line + {padding[1]}, {width}, {source(low, row)}, 1);",
                ]
            case Nearest() | Copy() | Output():
                self.use("take")
                down, across = operation.factor if isinstance(operation, Nearest) else (1, 1)
                row = _quotient("y", down)
                return lambda low: [f"take(line, {count}, {source(low, row)}, {across});"]
        raise self.refused(f"has the operation {name_of(operation)}")

    def convolution(self, layer: Layer, it: Convolution | Transposed) -> Any:
        number, count = layer.number, layer.shape[1]
        grid = layer.reads[0].tensor.grid
        kind = kind_of(grid)
        channels = np.cumsum([0, *(piece.channels for piece in layer.reads)]).tolist()
        inside = channels[-1] // it.groups
        length = inside * it.window.kernel[0] * it.window.kernel[1]
        number_kind = "f32" if grid is None else "s8" if self.fits(it, grid, length) else "s32"
        wide = number_kind == "s32"
        sums_kind = "f32" if grid is None else "s64" if wide else "s32"
        sums = "line" if it.weights.kind in FLOAT_WEIGHTS else f"sums_{sums_kind}"
        if sums != "line":
            self.sums.add(sums_kind)
        filter_of = self.filter(number, it, number_kind, length)
        window = self.window(layer)
        call = self.use("transposed" if isinstance(it, Transposed) else f"convolve_{kind}{'_wide' if wide else ''}")
        self.floats(f"b_{number}", it.b)
        planes = it.weights.planes
        zeros = _zero_planes(grid) if isinstance(grid, BinaryPlanes) else []
        inputs = max(1, len(zeros))
        m = getattr(it, "m", None)
        if m is not None:
            self.floats(f"m_{number}", m)
        if it.groups > 1:
            self.use("slice")

        def convolve(low: int) -> list[str]:
            lines, parts = [], f"in_{number}, {len(layer.reads)}"
            if it.groups > 1:
                outside = it.channels // it.groups
                first = low // outside * inside
                at = max(index for index, start in enumerate(channels[:-1]) if start <= first)
                group = _times(_quotient("c", outside), inside)
                lines.append(f"const tensor part = slice(in_{number}[{at}], {_sum(group, -channels[at])}, {inside});")
                parts = "&part, 1"
            for p in range(planes):
                get, weights = filter_of(p)
                lines += get
                for q in range(inputs):
                    zero = grid.zero_point if isinstance(grid, Uniform) else 0
                    last = f"{q}, {int(zeros[q])}" if zeros else str(zero)
                    lines.append(f"{call}({sums}, {count}, {weights}, {window}, y, {parts}, {last});")
                    pair = p * inputs + q
                    if m is None:
                        continue
                    factor = f"m_{number}[{_sum('c', pair * it.channels)}]"
                    if planes * inputs == 1:
                        name = self.use(f"scale_{sums_kind}")
                        lines.append(f"{name}(line, {sums}, {count}, {factor}, b_{number}[c]);")
                    else:
                        lines.append(
                            f"{self.use(f'plane_{sums_kind}')}(line, {sums}, {count}, {factor}, {pair == 0:d});"
                        )
            if m is None or planes * inputs > 1:
                lines.append(f"{self.use('offset')}(line, line, {count}, b_{number}[c]);")
            return lines

        return convolve

    def fits(self, it: Convolution | Transposed, grid: Quantization, length: int) -> bool:
        """Whether weights fit 8 bits and sums 32, as `fits_in_bytes` of the engine."""
        whole = np.abs(_whole_weights(it.weights, it.channels * length).astype(np.int64))
        sums = whole.reshape(it.weights.planes * it.channels, length).sum(1).max()
        return int(whole.max()) <= 127 and int(sums) * largest(grid) <= MAX_SUM

    def filter(self, number: int, it: Convolution | Transposed, to: str, length: int) -> Any:
        """What gives, for a plane, the lines that unpack the weights of channel c, and what they are called then."""
        weights, name, at = it.weights, f"w_{number}", _times("c", length)
        if weights.kind == "f32":
            self.floats(name, np.frombuffer(weights.data, "<f4"))
            return lambda p: ([], f"{name} + {at}")
        if weights.kind == "integers" and weights.bits == 8 and to == "s8":
            self.array("int8_t", name, np.frombuffer(weights.data, np.int8).tolist(), 1)
            return lambda p: ([], f"{name} + {at}")
        self.filters[to] = max(self.filters[to], length)
        if weights.kind == "bf16":
            self.array("uint16_t", name, np.frombuffer(weights.data, "<u2").tolist(), 2)
            call = self.use("halves_f32")
            return lambda p: ([f"{call}(filter_f32, {name}, {at}, {length});"], "filter_f32")
        self.array("uint8_t", name, list(weights.data), 1)
        call, plane = self.use(f"{weights.kind}_{to}"), len(weights.data) // weights.planes
        return lambda p: (
            [f"{call}(filter_{to}, {_sum(name, p * plane)}, {at}, {length}, {weights.bits});"],
            f"filter_{to}",
        )

    def steps(self, layer: Layer, low: int) -> list[str]:
        count, lines, operand, place = layer.shape[1], [], 0, 0
        for index, step in enumerate(layer.it.steps):
            match step:
                case Affine():
                    names = [f"{letter}_{layer.number}_{index}" for letter in "mb"]
                    if low == 0:
                        self.floats(names[0], step.m)
                        self.floats(names[1], step.b)
                    lines.append(f"{self.use('affine')}(line, {count}, {names[0]}[c], {names[1]}[c]);")
                case Relu():
                    lines.append(f"{self.use('relu')}(line, {count});")
                case Clip():
                    lines.append(f"{self.use('clip')}(line, {count}, {_float(step.low)}, {_float(step.high)});")
                case Add() | Multiply():
                    pieces = layer.operands[operand]
                    firsts = np.cumsum([0, *(piece.channels for piece in pieces)]).tolist()
                    at = max(each for each, first in enumerate(firsts[:-1]) if first <= low)
                    call = self.use("add" if isinstance(step, Add) else "multiply")
                    channel = _sum("c", -firsts[at])
                    lines.append(f"{call}(line, {count}, with_{layer.number} + {place + at}, y, {channel});")
                    operand, place = operand + 1, place + len(pieces)
                case Snap(grid):
                    lines += [f"{self.use('look')}(line, {count});", self.snap(grid, count)]
                case _:
                    raise self.refused(
                        f"has the step {name_of(step)}, whose last bits differ among libraries",
                        "choose a net without it, or run the model with the engine",
                    )
        return lines

    def snap(self, grid: Quantization, count: int) -> str:
        name = self.grid(grid)
        match grid:
            case Uniform():
                return f"{self.use('snap_uniform')}(line, {count}, &{name});"
            case PowersOfTwo():
                return f"{self.use('snap_power')}(line, {count}, &{name}, {_float(2.0**-grid.f)});"
        return f"{self.use('snap_signs')}(line, {count}, {name}, {len(grid.gammas)});"

    def writes(self, layer: Layer) -> list[str]:
        count, lines = layer.shape[1], []
        if isinstance(layer.it.operation, Output):
            return [f"memcpy(logits + {_times('c', count)}, line, {4 * count});"]
        if any(tensor.grid is not None for tensor in layer.writes):
            lines.append(f"{self.use('look')}(line, {count});")
        for at, tensor in enumerate(layer.writes):
            to = f"line, {count}, out_{layer.number} + {at}, y, c"
            wide = "_s32" if tensor.kind == "s32" else ""
            match tensor.grid:
                case None:
                    lines.append(f"{self.use('put_f32')}({to});")
                case Uniform():
                    lines.append(f"{self.use(f'put_uniform{wide}')}({to}, &{self.grid(tensor.grid)});")
                case PowersOfTwo():
                    lines.append(f"{self.use(f'put_power{wide}')}({to}, &{self.grid(tensor.grid)});")
                case BinaryPlanes(gammas):
                    lines.append(f"{self.use('put_signs')}({to}, {self.grid(tensor.grid)}, {len(gammas)});")
        return lines

    def moved(self, layer: Layer, at: int, piece: Piece, write: int, first: int) -> list[str]:
        """Codes of a piece of the input as they are, to a place of the result."""
        operation, tensor = layer.it.operation, piece.tensor
        to, source = f"out_{layer.number} + {write}", f"in_{layer.number} + {at}"
        if isinstance(operation, MaxPool):
            call = self.use(f"largest_{tensor.kind}")
            if at == write == 0:
                self.window(layer)
            window = f"&window_{layer.number}"
            return [
                f"for (c = 0; c < {piece.channels}; ++c)",
                f"    {call}({to}, y, {_sum('c', first)}, {window}, {source}, c);",
            ]
        row, factor, left = "y", 1, 0
        if isinstance(operation, Nearest):
            row, factor = _quotient("y", operation.factor[0]), operation.factor[1]
        if isinstance(operation, Pad):
            row, left = _sum("y", -operation.padding[0]), operation.padding[1]
        if isinstance(tensor.grid, BinaryPlanes):
            name = f"zeros_{layer.number}_{at}_{write}"
            self.array("uint8_t", name, [int(each) for each in _zero_planes(tensor.grid)], 1)
            numbers = f"{len(tensor.grid.gammas)}, {(piece.channels + 7) // 8}, {factor}, {left}, {name}"
            return [f"{self.use('move_signs')}({to}, y, {first}, {source}, {row}, 0, {numbers});"]
        zero = tensor.grid.zero_point if isinstance(tensor.grid, Uniform) else 0
        numbers = f"{4 if tensor.kind == 's32' else 1}, {piece.channels}, {factor}, {left}, {zero}"
        return [f"{self.use('move')}({to}, y, {first}, {source}, {row}, 0, {numbers});"]

    # --- the files --------------------------------------------------------------------------------------------

    def files(self, card: Mapping[str, Any], name: str, expected: tuple[int, int] | None) -> CSource:
        pipeline, size = self.pipeline, self.pipeline.net_size
        layers = "\n\n".join(self.layer(layer) for layer in self.plan.layers)
        tables, tables_ram, at_start = self.intensities()
        decide = self.decisions(size[1])
        rules, rules_bytes = self.rules()
        for each in ("look", *(["parents"] if rules else [])):
            self.use(each)
        arena = max(self.plan.arena_bytes, rules_bytes, 4)
        memory, beside = self.memory(arena, tables_ram, bool(rules))
        pieces = [text.strip("\n") for each, (_, text) in _pieces().items() if each in self.used]
        upper, last = name.upper(), self.plan.layers[-1].number
        facts = _Facts(card, name, self.flash, arena, arena + beside)
        rows = "\n".join(f"        {line}" for line in decide)
        segment = (
            f"int {name}_segment(const uint8_t *image, uint8_t *mask) {{\n"
            "    int32_t y;\n"
            "    seen = image;\n    finite = 1;\n    memset(done, 0, sizeof done);\n"
            + "".join(f"    {line}\n" for line in at_start)
            + f"#ifdef {upper}_CHECK\n    {name}_logits_digest = {FNV_START}u;\n#endif\n"
            + f"    for (y = 0; y < {size[0]}; ++y) {{\n"
            f"        layer_{last}(y + 1);\n"
            f"        look(logits, {pipeline.logits * size[1]});\n"
            f"#ifdef {upper}_CHECK\n        add_logits();\n#endif\n"
            f"        if (y >= HEIGHT) continue;\n{rows}\n    }}\n"
            + "".join(f"    {line}\n" for line in rules)
            + "    return finite ? 0 : 1;\n}"
        )
        parts = [
            self.head(facts), PREAMBLE.replace("FILE", name), *memory, *tables, *pieces,
            *(["\n".join(self.rules_text())] if rules else []), *self.constants, layers,
            CHECK_LOGITS.format(upper=upper, name=name, count=pipeline.logits * size[1], prime=FNV_PRIME), segment,
        ]  # fmt: skip
        if expected is not None:
            numbers = {"logits": expected[0], "mask": expected[1], "start": FNV_START, "prime": FNV_PRIME}
            parts.append(CHECK.format(upper=upper, name=name, **numbers))
        source = "\n\n".join(part for part in parts if part) + "\n"
        return CSource(source, self.header(facts, expected is not None), self.flash, arena, arena + beside)

    def memory(self, arena: int, tables: int, rules: bool) -> tuple[list[str], int]:
        """Static memory but the arena's constants, and the bytes of what stands beside the arena."""
        width, height = self.pipeline.size[1], self.pipeline.size[0]
        logits = self.pipeline.logits * self.pipeline.net_size[1]
        kinds = {"s8": "int8_t", "s32": "int32_t", "s64": "int64_t", "f32": "float"}
        bytes_of = {"s8": 1, "s32": 4, "s64": 8, "f32": 4}
        lines = [
            f"#define HEIGHT {height}\n#define WIDTH {width}\n#define CHANNELS {self.pipeline.channels}\n"
            f"#define LOGITS {self.pipeline.logits}",
            f"static float arena[{-(-arena // 4)}]; /* of tensors; those of codes lie in it as bytes */",
            f"static float line[{self.line}];\nstatic float logits[{logits}]; /* a row of each */",
        ]
        beside = 4 * (self.line + logits + len(self.plan.layers)) + tables + 12
        for kind in sorted(self.sums):
            lines.append(f"static {kinds[kind]} sums_{kind}[{self.line}];")
            beside += self.line * bytes_of[kind]
        for kind, count in self.filters.items():
            if count:
                lines.append(f"static {kinds[kind]} filter_{kind}[{count}];")
                beside += count * bytes_of[kind]
        lines.append(
            f"static int32_t done[{len(self.plan.layers)}]; /* rows of each layer */\n"
            "static int32_t finite;\nstatic const uint8_t *seen;"
        )
        if rules:
            bytes_, count = self.index_bytes(), width * height
            places = {
                "parents": 0,
                "sizes": bytes_ * count,
                "own": 2 * bytes_ * count,
                "result": (2 * bytes_ + 1) * count,
            }
            lines.append(f"#define INDEX_BYTES {bytes_}")
            lines += [f"static uint8_t *const {each} = (uint8_t *)arena + {at};" for each, at in places.items()]
        return ["\n".join(lines)], beside

    def intensities(self) -> tuple[list[str], int, list[str]]:
        """What the net sees of each of the 256 values: text, bytes of RAM, and what is done for each image."""
        pipeline, each = self.pipeline, np.arange(256, dtype=np.uint8)[None]
        unit = to_planes(each, 1, pipeline.intensity_range, None)
        kind = pipeline.normalization.kind
        constants, self.constants = self.constants, []
        try:
            if kind in ("unit-range", "train-mean-std"):
                planes = np.repeat(unit, pipeline.channels, 0) if kind == "train-mean-std" else unit
                values = pipeline.normalization(planes).astype(np.float32)
                shape = f"{len(values)}][256"
                rows = [list(map(_float, row)) for row in values.reshape(len(values), 256)]
                text = ",\n".join(f"{{\n{_wrapped(row)}\n}}" for row in rows)
                self.flash += 1024 * len(values)
                return (
                    [f"/* What the net sees of a number. */\nstatic const float intensities[{shape}] = {{{text}}};"],
                    0,
                    [],
                )
            self.floats("unit", unit)
            texts = [*self.constants, "static float intensities[1][256];"]
            if kind == "min-max":
                return texts, 1024, [f"{self.use('stretch')}(image);"]
            sizes = [pipeline.channels * pipeline.size[0] * pipeline.size[1]]
            while sizes[-1] > 1:
                sizes.append((sizes[-1] + 1) // 2)
            texts.append(f"#define LEVELS {len(sizes) - 1}")
            self.constants = []
            self.array("int32_t", "halves", sizes, 4)
            most = 0.0 if pipeline.normalization.clip is None else pipeline.normalization.clip
            return [*texts, *self.constants], 1024, [f"{self.use('standardize')}(image, {most!r});"]
        finally:
            self.constants = constants

    def decisions(self, width: int) -> list[str]:
        """The lines that make a row of the mask of a row of logits."""
        pipeline, peak = self.pipeline, _float(self.pipeline.postprocess.min_peak)
        if not pipeline.multilabel and len(pipeline.classes) > 1:
            return [f"{self.use('decide_most')}(mask + y * WIDTH, logits, {width}, {peak});"]
        self.use("decide_each")
        limits = pipeline.postprocess.limits(len(pipeline.classes))
        return [
            f"decide_each(mask + {_sum('y', k * pipeline.size[0], brackets=True)} * WIDTH, "
            f"logits + {k * width}, {_float(limit)}, {peak});"
            for k, limit in enumerate(limits)
        ]

    def rules(self) -> tuple[list[str], int]:
        """The lines that apply them, and the bytes that they need."""
        rules, pipeline = self.pipeline.postprocess, self.pipeline
        filters = rules.min_peak > 0 or rules.min_pixels > 1 or rules.keep != "all"
        if not (filters or rules.fill_holes):
            return [], 0
        if filters:
            self.use("filter_components")
        if rules.fill_holes:
            self.use("fill_holes")
        count = pipeline.size[0] * pipeline.size[1]
        planes = len(pipeline.classes) if pipeline.multilabel else 1
        calls = [f"apply_rules(mask + {plane} * HEIGHT * WIDTH);" for plane in range(planes)]
        return calls, count * (2 * self.index_bytes() + 2)

    def index_bytes(self) -> int:
        return 2 if self.pipeline.size[0] * self.pipeline.size[1] < 2**16 else 4

    def rules_text(self) -> list[str]:
        rules, pipeline = self.pipeline.postprocess, self.pipeline
        own = 127 if rules.min_peak > 0 else 255
        classes = 1 if pipeline.multilabel else len(pipeline.classes)
        work = ["        fill_holes();"] * rules.fill_holes
        if "filter_components" in self.used:
            least = min(rules.min_pixels, 2**31 - 1)
            work.append(
                f"        filter_components(mask, {least}, {int(rules.min_peak > 0)}, {int(rules.keep == 'largest')});"
            )
        return [
            "/* Holes and components, class by class. Holes are filled where there is background; another class inside",
            "   keeps its pixels. */",
            "static void apply_rules(uint8_t *mask) {",
            "    int32_t at, index;",
            "    memset(result, 0, HEIGHT * WIDTH);",
            f"    for (index = 1; index <= {classes}; ++index) {{",
            f"        for (at = 0; at < HEIGHT * WIDTH; ++at) own[at] = (mask[at] & {own}) == index;",
            *work,
            "        for (at = 0; at < HEIGHT * WIDTH; ++at) {",
            f"            const int32_t winner = mask[at] & {own};",
            "            if (own[at] && (winner == index || winner == 0)) result[at] = (uint8_t)index;",
            "        }",
            "    }",
            "    memcpy(mask, result, HEIGHT * WIDTH);",
            "}",
        ]

    def head(self, facts: _Facts) -> str:
        pipeline, name = self.pipeline, facts.name
        height, width = pipeline.size
        spacing = "" if pipeline.spacing_mm is None else " with pixels of {:g} x {:g} mm".format(*pipeline.spacing_mm)
        planes = (
            f"{len(pipeline.classes)} planes, one behind the other, of 0 and 1"
            if pipeline.multilabel
            else "0 is background, " + ", ".join(f"{i} {_comment(each)}" for i, each in enumerate(pipeline.classes, 1))
        )
        text = f"""{name}.c: written by pocketseg {VERSION} ({MARK}). Do not edit.

From an image of {height} x {width} pixels{spacing}, {pipeline.channels} byte(s) a pixel, to its mask, a byte a pixel
({planes}). {_comment(facts.description)}

    #include "{name}.h"
    static uint8_t image[{name.upper()}_IMAGE_BYTES], mask[{name.upper()}_MASK_BYTES];
    int failed = {name}_segment(image, mask);

Precision {_comment(facts.precision)}, {facts.parameters} parameters.
Flash: {facts.flash} bytes of weights, constants and tables, and the code.
RAM: {facts.arena} bytes of arena, {facts.ram} bytes of static memory in all; image, mask and stack come beside it.
It takes no memory from the system, and calls nothing but memcpy and memset. It is not reentrant.

C99 or C++11; the file needs a compiler that rounds f32 operations one by one: without -ffast-math, with
-ffp-contract=off (asked for below as well), and a processor that does not flush subnormal numbers to 0. Then masks and
logits are, to the bit, those of the plain kernels of pocketseg's engine; of quantized nets those of all its kernels."""
        lines = [line.rstrip() for line in text.splitlines()]
        return "/* " + "\n   ".join(lines).replace("\n   \n", "\n\n") + " */"

    def header(self, facts: _Facts, checked: bool) -> str:
        pipeline, upper, name = self.pipeline, facts.name.upper(), facts.name
        height, width = pipeline.size
        planes = len(pipeline.classes) if pipeline.multilabel else 1
        check = (
            f"""
#ifdef {upper}_CHECK
/* Whether this machine computes what the engine computed where the file was made: 0, if so. Overwrites both. */
int {name}_check(uint8_t *image, uint8_t *mask);
extern uint32_t {name}_logits_digest;
#endif
"""
            if checked
            else ""
        )
        return f"""/* {name}.h: see {name}.c. Written by pocketseg {VERSION} ({MARK}). */
#ifndef {upper}_H
#define {upper}_H

#include <stdint.h>

#define {upper}_HEIGHT {height}
#define {upper}_WIDTH {width}
#define {upper}_CHANNELS {pipeline.channels}
#define {upper}_CLASSES {len(pipeline.classes)}
#define {upper}_IMAGE_BYTES {height * width * pipeline.channels}
#define {upper}_MASK_BYTES {height * width * planes}
#define {upper}_ARENA_BYTES {facts.arena}
#define {upper}_RAM_BYTES {facts.ram}

#ifdef __cplusplus
extern "C" {{
#endif

/* Image: rows of pixels, the channels of a pixel side by side. Mask: a class of each pixel{
            ", plane by plane" if pipeline.multilabel else ""
        }. Returns 0; 1 where the
   net gave numbers that are not finite: then the mask is worth nothing. */
int {name}_segment(const uint8_t *image, uint8_t *mask);
{check}
#ifdef __cplusplus
}}
#endif

#endif
"""


@dataclass(frozen=True)
class _Facts:
    """What the heads of the files say."""

    card: Mapping[str, Any]
    name: str
    flash: int
    arena: int
    ram: int

    @property
    def description(self) -> str:
        return str(self.card.get("description") or "")

    @property
    def precision(self) -> str:
        return str(self.card.get("precision") or "unknown")

    @property
    def parameters(self) -> str:
        found = self.card.get("parameters")
        return f"{found:,}" if isinstance(found, int) else "an unknown number of"


PREAMBLE = """#include "FILE.h"

#include <float.h>
#include <string.h>

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "compile without -ffast-math: results would differ"
#endif
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "this compiler keeps f32 in more digits: results would differ (x86 of 32 bits: -msse2 -mfpmath=sse)"
#endif
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=off")
#else
#pragma STDC FP_CONTRACT OFF
#endif"""

CHECK_LOGITS = """#ifdef {upper}_CHECK
uint32_t {name}_logits_digest;

/* FNV-1a of the logits, row by row, as 32-bit words. */
static void add_logits(void) {{
    int32_t i;
    for (i = 0; i < {count}; ++i) {{
        uint32_t bits;
        memcpy(&bits, logits + i, 4);
        {name}_logits_digest = ({name}_logits_digest ^ bits) * {prime}u;
    }}
}}
#endif"""

CHECK = """#ifdef {upper}_CHECK
/* A ramp under noise is segmented; what the engine found of it is known. */
int {name}_check(uint8_t *image, uint8_t *mask) {{
    uint32_t state = 1, found = {start}u;
    int32_t i;
    for (i = 0; i < {upper}_IMAGE_BYTES; ++i) {{
        state = 1664525u * state + 1013904223u;
        image[i] = (uint8_t)(((uint32_t)(i / CHANNELS % WIDTH * 255 / WIDTH) + (state >> 24)) / 2);
    }}
    if ({name}_segment(image, mask)) return 1;
    for (i = 0; i < {upper}_MASK_BYTES; ++i) found = (found ^ mask[i]) * {prime}u;
    return !(found == {mask}u && {name}_logits_digest == {logits}u);
}}
#endif"""


def _whole_weights(weights: Weights, count: int) -> NDArray[np.int32]:
    """Numbers of codes, of all planes."""
    if weights.kind == "signs":
        return np.ones(weights.planes * count, np.int32)  # their size is all that is asked for
    codes = unpack(np.frombuffer(weights.data, np.uint8), weights.bits, count, signed=True)
    if weights.kind == "powers":
        return np.where(codes == 0, 0, np.sign(codes) * (1 << np.maximum(np.abs(codes) - 1, 0))).astype(np.int32)
    return codes


def _zero_planes(grid: BinaryPlanes) -> list[bool]:
    """Of each plane, whether the sign of 0 is +1."""
    rest, found = np.float32(0), []
    for gamma in np.asarray(grid.gammas, np.float32):
        found.append(bool(rest >= 0))
        rest = rest - (gamma if found[-1] else -gamma)
    return found


def _step(into: int, out: int, factor: int, corners: bool) -> np.float32:
    """How far rows of a bilinear result are apart on the input."""
    if not corners:
        return np.float32(1) / np.float32(factor)
    return np.float32(into - 1) / np.float32(out - 1) if out > 1 else np.float32(0)


def _operation(layer: Layer) -> str:
    window = getattr(layer.it.operation, "window", None)
    kernel = "" if window is None else f" {window.kernel[0]}x{window.kernel[1]}"
    return f"{name_of(layer.it.operation)}{kernel}"


def _float(value: Any) -> str:
    """An f32 as a constant that reads as the same number."""
    text = f"{float(np.float32(value)):.9g}"
    return f"{text}f" if any(each in text for each in ".e") else f"{text}.0f"


def _sum(text: str, number: int, *, brackets: bool = False) -> str:
    if not number:
        return text
    found = f"{text} {'+' if number > 0 else '-'} {abs(number)}"
    return f"({found})" if brackets else found


def _times(text: str, number: int) -> str:
    return text if number == 1 else f"{text} * {number}"


def _quotient(text: str, number: int) -> str:
    return text if number == 1 else f"{text} / {number}"


def _wrapped(numbers: Sequence[str]) -> str:
    """Numbers in lines of at most `WIDTH` characters."""
    lines, line = [], "   "
    for number in numbers:
        if len(line) + len(number) + 2 > WIDTH:
            lines.append(line)
            line = "   "
        line += f" {number},"
    return "\n".join([*lines, line]).rstrip(",")


def _comment(text: str) -> str:
    """Text of a card that cannot end a comment."""
    plain = "".join(each if each.isprintable() else " " for each in text)
    return plain.replace("*/", "* /").replace("/*", "/ *").replace("\\", "/")
