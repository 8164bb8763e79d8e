"""A program as bytes, and back. docs/format.md has the tables; `native/src/reader.cpp` reads the same."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from pocketseg.engine.container import AGAIN, Container, read_container
from pocketseg.engine.program import (
    Add,
    Affine,
    Array,
    AveragePool,
    Bilinear,
    Buffer,
    Clip,
    Convolution,
    Copy,
    Input,
    Instruction,
    KernelHints,
    MaxPool,
    Mean,
    Multiply,
    Nearest,
    Operation,
    Output,
    Pad,
    Program,
    Relu,
    Sigmoid,
    Snap,
    Softmax,
    Step,
    TernaryTanh,
    Transposed,
    View,
    Weights,
    Window,
)
from pocketseg.engine.rules import MAX_CONSTANTS, RuleError, check, checked, require
from pocketseg.errors import ModelFileError
from pocketseg.grids import BinaryPlanes, PowersOfTwo, Quantization, Uniform
from pocketseg.halves import from_halves, to_halves

OPERATIONS: tuple[type[Operation], ...] = (
    Input, Output, Copy, Convolution, Transposed, MaxPool, AveragePool, Nearest, Bilinear, Pad, Mean,
)  # fmt: skip
STEPS: tuple[type[Step], ...] = (Affine, Relu, Clip, Sigmoid, TernaryTanh, Add, Multiply, Snap, Softmax)
# Those without fields, by number.
PLAIN_STEPS: dict[int, Step] = {STEPS.index(kind): kind() for kind in (Relu, Sigmoid, Softmax)}
WEIGHTS = ("f32", "bf16", "integers", "powers", "signs")
UNIFORM, POWERS, SIGNS = 1, 2, 3
# How a row of constants is stored: each f32, one f32 for all, or halves with a shared exponent.
EACH, ONE, HALVES = 0, 1, 2
# Since version 2 a program may ask for kernels.
PLAIN, ASKING = 1, 2
NAME = re.compile(r"[!-~]{1,63}")


def file_of(program: Program, card: Mapping[str, Any]) -> bytes:
    """The bytes of a file.

    Raises:
        ModelFileError: as `encode`.
    """
    return Container(card, *encode(program), ASKING if program.hints else PLAIN).to_bytes()


def program_in(content: bytes, where: str) -> tuple[Program, Container]:
    """The program of a file, and the sections that it is in.

    Raises:
        ModelFileError: as `read_container` and `decode`.
    """
    found = read_container(content, where)
    return decode(found.program, found.data, where, found.version), found


def encode(program: Program) -> tuple[bytes, bytes]:
    """The program section and the data section.

    Raises:
        ModelFileError: a number does not fit its field.
    """
    writer = _Writer(program)
    try:
        return writer.program_section(), b"".join(writer.data)
    except struct.error as error:
        raise ModelFileError("model", f"is too large for this format ({error})", "take a smaller net") from error


def decode(section: bytes, data: bytes, where: str, version: int = PLAIN) -> Program:
    """The inverse of `encode`.

    Raises:
        ModelFileError: the bytes are not a program.
    """
    reader = _Reader(section, data, where, version)
    try:
        return reader.program()
    except (struct.error, IndexError, RuleError) as error:
        raise ModelFileError(where, f"holds no valid program ({error})", AGAIN) from error


def _same_bits(a: Array, b: Array) -> bool:
    """Equal to the sign of 0."""
    return a.tobytes() == b.tobytes()


class _Writer:
    def __init__(self, program: Program) -> None:
        self.program = program
        used = [buffer.grid for buffer in program.buffers]
        used += [step.grid for each in program.instructions for step in each.steps if isinstance(step, Snap)]
        self.grids = list(dict.fromkeys(grid for grid in used if grid is not None))
        self.out = bytearray()
        self.data: list[bytes] = []

    def put(self, struct_format: str, *values: Any) -> None:
        self.out += struct.pack("<" + struct_format, *values)

    def program_section(self) -> bytes:
        program = self.program
        counts = len(self.grids), len(program.buffers), len(program.instructions)
        self.put("6H", program.in_channels, program.out_channels, program.multiple, *counts)
        if program.hints:
            self.hints(program.hints)
        for grid in self.grids:
            self.grid(grid)
        for buffer in program.buffers:
            self.put("2H", buffer.channels, self.grid_number(buffer.grid))
        for each in program.instructions:
            kind = OPERATIONS.index(type(each.operation))
            self.put("4B", kind, len(each.reads), len(each.steps), len(each.writes))
            for view in each.reads:
                self.view(view)
            self.operation(each.operation)
            for step in each.steps:
                self.step(step)
            for view in each.writes:
                self.view(view)
        return bytes(self.out)

    def hints(self, hints: KernelHints) -> None:
        numbers = range(len(self.program.instructions))
        if not hints.kernels or not set(hints.kernels) <= set(numbers):
            raise ModelFileError("model", "asks for kernels of instructions that are not there", "leave them out")
        names = list(dict.fromkeys(hints.kernels.values()))
        self.name(hints.machine)
        self.put("B", len(names))
        for name in names:
            self.name(name)
        wanted = (hints.kernels.get(number) for number in numbers)
        self.out += bytes(0 if name is None else 1 + names.index(name) for name in wanted)

    def name(self, name: str) -> None:
        if not NAME.fullmatch(name):
            raise ModelFileError("model", f"asks for a kernel {name!r}", "take a name that the library has")
        self.put("B", len(name))
        self.out += name.encode()

    def grid_number(self, grid: Quantization | None) -> int:
        return 0 if grid is None else 1 + self.grids.index(grid)

    def grid(self, grid: Quantization) -> None:
        match grid:
            case Uniform():
                codes = grid.zero_point, grid.lowest, grid.highest
                self.put("B3i2f", UNIFORM, *codes, grid.scale, grid.inverse_scale)
            case PowersOfTwo():
                self.put("3B", POWERS, grid.i, grid.f)
            case BinaryPlanes():
                self.put(f"2B{len(grid.gammas)}f", SIGNS, len(grid.gammas), *grid.gammas)

    def view(self, view: View) -> None:
        self.put("3H", view.buffer, view.first, view.channels)

    def floats(self, values: Array) -> None:
        """Constants (…, channels), in the shortest form that holds them exactly."""
        rows = values.reshape(-1, values.shape[-1])
        halves = [to_halves(row) for row in rows]
        if all(_same_bits(row, np.full_like(row, row[0])) for row in rows):
            self.put("B", ONE)
            self.data.append(rows[:, 0].astype("<f4").tobytes())
        elif all(_same_bits(row, from_halves(*half)) for row, half in zip(rows, halves, strict=True)):
            self.put("B", HALVES)
            self.data += [struct.pack("<h", exponent) + row.astype("<f2").tobytes() for exponent, row in halves]
        else:
            self.put("B", EACH)
            self.data.append(rows.astype("<f4").tobytes())

    def window(self, window: Window) -> None:
        self.put("10B", *window.kernel, *window.stride, *window.dilation, *window.padding)

    def weights(self, weights: Weights) -> None:
        self.put("3B", WEIGHTS.index(weights.kind), weights.bits, weights.planes)
        self.data.append(weights.data)

    def operation(self, operation: Operation) -> None:
        match operation:
            case Convolution() | Transposed():
                self.window(operation.window)
                if isinstance(operation, Transposed):
                    self.put("2B", *operation.output_padding)
                self.put("2H", operation.groups, operation.channels)
                self.weights(operation.weights)
                if isinstance(operation, Convolution) and operation.m is not None:
                    self.floats(operation.m)
                self.floats(operation.b)
            case MaxPool() | AveragePool():
                self.window(operation.window)
            case Nearest():
                self.put("2B", *operation.factor)
            case Bilinear():
                self.put("3B", *operation.factor, operation.align_corners)
            case Pad():
                self.put("4B", *operation.padding)

    def step(self, step: Step) -> None:
        self.put("B", STEPS.index(type(step)))
        match step:
            case Affine():
                self.floats(step.m)
                self.floats(step.b)
            case Clip():
                self.put("2f", step.low, step.high)
            case TernaryTanh():
                self.put("f", step.beta)
            case Add() | Multiply():
                self.view(step.view)
            case Snap():
                self.put("H", self.grid_number(step.grid))


@cache
def _fields(struct_format: str) -> struct.Struct:
    return struct.Struct("<" + struct_format)


class _Reader:
    def __init__(self, section: bytes, data: bytes, where: str, version: int) -> None:
        self.section, self.data, self.where, self.version = section, data, where, version
        self.at = self.data_at = self.in_channels = self.constants = 0
        self.grids: list[Quantization] = []
        self.buffers: tuple[Buffer, ...] = ()

    def wrong(self, what: str) -> ModelFileError:
        return ModelFileError(self.where, f"holds no valid program ({what})", AGAIN)

    def take(self, struct_format: str) -> tuple[Any, ...]:
        fields = _fields(struct_format)
        values = fields.unpack_from(self.section, self.at)
        self.at += fields.size
        return values

    def bytes(self, count: int) -> bytes:
        if count > len(self.data) - self.data_at:
            raise self.wrong("its data end too soon")
        self.data_at += count
        return self.data[self.data_at - count : self.data_at]

    def floats(self, *shape: int) -> Array:
        channels, rows = shape[-1], math.prod(shape[:-1])
        self.constants += channels * rows
        require(rows > 0, "no planes")
        require(self.constants <= MAX_CONSTANTS, f"more than {MAX_CONSTANTS} constants")
        (encoding,) = self.take("B")
        if encoding == EACH:
            values = np.frombuffer(self.bytes(4 * rows * channels), "<f4")
        elif encoding == ONE:
            values = np.repeat(np.frombuffer(self.bytes(4 * rows), "<f4"), channels)
        elif encoding == HALVES:
            values = np.concatenate([self.halves(channels) for _ in range(rows)])
        else:
            raise self.wrong(f"constants of encoding {encoding}")
        if not np.isfinite(values).all():
            raise self.wrong("a constant is nan or inf")
        return values.astype(np.float32).reshape(shape)

    def halves(self, channels: int) -> Array:
        (exponent,) = struct.unpack("<h", self.bytes(2))
        return from_halves(exponent, np.frombuffer(self.bytes(2 * channels), "<f2"))

    def program(self) -> Program:
        self.in_channels, out_channels, multiple, grids, buffers, instructions = self.take("6H")
        hints = self.hints(instructions) if self.version >= ASKING else None
        self.grids = [checked(self.grid()) for _ in range(grids)]
        self.buffers = tuple(self.buffer() for _ in range(buffers))
        done = tuple(self.instruction() for _ in range(instructions))
        if self.at != len(self.section) or self.data_at != len(self.data):
            raise self.wrong("bytes are left over")
        program = Program(self.in_channels, out_channels, multiple, self.buffers, done, hints)
        check(program)
        return program

    def hints(self, instructions: int) -> KernelHints:
        machine, count = self.name(), *self.take("B")
        names = [self.name() for _ in range(count)]
        numbers = self.take(f"{instructions}B")
        if not names:
            raise self.wrong("no kernel is asked for")
        return KernelHints(machine, {place: names[number - 1] for place, number in enumerate(numbers) if number})

    def name(self) -> str:
        (length,) = self.take("B")
        (text,) = self.take(f"{length}s")
        name: str = text.decode("latin-1")
        if not NAME.fullmatch(name):
            raise self.wrong("a name that cannot be read")
        return name

    def grid(self) -> Quantization:
        (kind,) = self.take("B")
        if kind == UNIFORM:
            return Uniform(*self.take("3i2f"))
        if kind == POWERS:
            return PowersOfTwo(*self.take("2B"))
        if kind == SIGNS:
            (planes,) = self.take("B")
            return BinaryPlanes(self.take(f"{planes}f"))
        raise self.wrong(f"grid of kind {kind}")

    def grid_of(self, number: int) -> Quantization | None:
        return None if number == 0 else self.grids[number - 1]

    def buffer(self) -> Buffer:
        channels, number = self.take("2H")
        return Buffer(channels, self.grid_of(number))

    def view(self) -> View:
        view = View(*self.take("3H"))
        if view.buffer >= len(self.buffers) or view.first + view.channels > self.buffers[view.buffer].channels:
            raise self.wrong("a view outside of its buffer")
        return view

    def instruction(self) -> Instruction:
        kind, reads, steps, writes = self.take("4B")
        views = tuple(self.view() for _ in range(reads))
        operation = self.operation(OPERATIONS[kind], views)
        channels = views[0].channels if views else self.in_channels
        if isinstance(operation, Convolution | Transposed):
            channels = operation.channels
        after = tuple(self.step(channels) for _ in range(steps))
        return Instruction(operation, views, after, tuple(self.view() for _ in range(writes)))

    def window(self) -> Window:
        values = self.take("10B")
        return Window(values[:2], values[2:4], values[4:6], values[6:])

    def operation(self, kind: type[Operation], reads: tuple[View, ...]) -> Operation:
        if kind in (Convolution, Transposed):
            return self.convolution(kind, reads[0])
        fields: dict[type[Operation], Callable[[], Operation]] = {
            MaxPool: lambda: MaxPool(self.window()),
            AveragePool: lambda: AveragePool(self.window()),
            Nearest: lambda: Nearest(self.take("2B")),
            Bilinear: lambda: Bilinear(self.take("2B"), self.switch()),
            Pad: lambda: Pad(self.take("4B")),
        }
        return fields.get(kind, kind)()

    def switch(self) -> bool:
        (value,) = self.take("B")
        require(value <= 1, "a switch that is neither on nor off")
        return bool(value)

    def convolution(self, kind: type[Operation], view: View) -> Operation:
        window = self.window()
        output_padding = self.take("2B") if kind is Transposed else (0, 0)
        groups, channels = self.take("2H")
        name, bits, planes = self.take("3B")
        if not groups or view.channels % groups or channels % groups:
            raise self.wrong("groups that divide no channels")
        count = channels * window.kernel[0] * window.kernel[1] * (view.channels // groups)
        size = planes * ((count * bits + 7) // 8)
        weights = Weights(WEIGHTS[name], bits, planes, self.bytes(size))
        if kind is Transposed:
            return Transposed(window, output_padding, groups, channels, weights, self.floats(channels))
        grid = self.buffers[view.buffer].grid
        inputs = len(grid.gammas) if isinstance(grid, BinaryPlanes) else 1
        m = None if weights.kind in ("f32", "bf16") else self.floats(planes, inputs, channels)
        return Convolution(window, groups, channels, weights, m, self.floats(channels))

    def step(self, channels: int) -> Step:
        (number,) = self.take("B")
        if number in PLAIN_STEPS:
            return PLAIN_STEPS[number]
        kind: Any = STEPS[number]
        if kind is Affine:
            return Affine(self.floats(channels), self.floats(channels))
        if kind is Clip:
            return Clip(*self.take("2f"))
        if kind is TernaryTanh:
            return TernaryTanh(*self.take("f"))
        if kind is Add or kind is Multiply:
            return kind(self.view())
        grid = self.grid_of(self.take("H")[0])
        if grid is None:
            raise self.wrong("a step without its grid")
        return Snap(grid)
