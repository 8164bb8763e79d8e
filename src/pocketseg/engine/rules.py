"""What a program keeps to beyond its form, so that no number of a file can lead an engine astray.

docs/format.md states the rules; `native/src/reader.cpp` holds the same files to them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pocketseg.engine.program import (
    Add,
    AveragePool,
    Bilinear,
    Buffer,
    Clip,
    Convolution,
    Copy,
    Input,
    Instruction,
    MaxPool,
    Mean,
    Multiply,
    Nearest,
    Output,
    Pad,
    Program,
    Step,
    TernaryTanh,
    Transposed,
    View,
    Weights,
    Window,
)
from pocketseg.grids import BinaryPlanes, PowersOfTwo, Quantization, Uniform

MAX_WEIGHTS = 2**27
MAX_CONSTANTS = 2**24
MAX_CHANNELS = 2**22
MAX_BUFFERS = 2**14
MAX_PLANES = 8
# Sums stay exact in f64.
MAX_SUM = 2.0**53
# Whole numbers up to here are exact in f32.
MAX_CODE = 2**24
MAX_POWER = 16
# Of a number of each kind of weights.
BITS = {"f32": (32, 32), "bf16": (16, 16), "integers": (2, 24), "powers": (2, 6), "signs": (1, 1)}
ON_CODES = ("integers", "powers", "signs")


class RuleError(ValueError):
    """A rule that a program does not keep to."""


def require(good: bool, what: str) -> None:
    if not good:
        raise RuleError(what)


def check(program: Program) -> None:
    """Hold a program to all rules.

    Args:
        program: as it was read, of checked grids; buffers share them, by identity.

    Raises:
        RuleError: the first rule that it does not keep to.
    """
    sides = program.in_channels, program.out_channels, program.multiple
    require(all(sides), "a net without channels")
    require(len(program.buffers) <= MAX_BUFFERS, f"more than {MAX_BUFFERS} tensors")
    require(all(buffer.channels for buffer in program.buffers), "a tensor without channels")
    require(sum(buffer.channels for buffer in program.buffers) <= MAX_CHANNELS, "too many channels")
    require(bool(program.instructions), "a net without an end")
    checker = _Checker(program)
    for each in program.instructions:
        checker.instruction(each, each is program.instructions[-1])


def checked(grid: Quantization) -> Quantization:
    """The grid itself, where it keeps to its rules.

    Raises:
        RuleError: else.
    """
    match grid:
        case Uniform():
            order = -MAX_CODE <= grid.lowest <= grid.zero_point <= grid.highest <= MAX_CODE
            scales = grid.scale, grid.inverse_scale
            require(order and all(0 < scale < math.inf for scale in scales), "a grid without order")
        case PowersOfTwo():
            require(1 <= grid.i + grid.f <= MAX_POWER, "a grid of too many powers")
        case BinaryPlanes():
            require(1 <= len(grid.gammas) <= MAX_PLANES, "too many planes")
            require(all(0 <= gamma < math.inf for gamma in grid.gammas), "a gamma that is negative or not finite")
    return grid


def largest(grid: Quantization) -> int:
    """The largest |code − zero point|."""
    match grid:
        case Uniform():
            return max(grid.zero_point - grid.lowest, grid.highest - grid.zero_point)
        case PowersOfTwo():
            return 1 << (grid.i + grid.f - 1)
    return 1


class _Spans:
    """Which channels of a tensor are written: spans that neither touch nor overlap, in order."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []

    def have(self, first: int, end: int) -> bool:
        at = bisect_right(self.starts, first) - 1
        return at >= 0 and end <= self.ends[at]

    def add(self, first: int, end: int) -> bool:
        """False where one of them was written before."""
        at = bisect_left(self.starts, first)
        before = at > 0 and self.ends[at - 1] >= first
        after = at < len(self.starts) and self.starts[at] <= end
        if (before and self.ends[at - 1] > first) or (after and self.starts[at] < end):
            return False
        low, high = at - before, at + after
        self.starts[low:high] = [self.starts[low] if before else first]
        self.ends[low:high] = [self.ends[high - 1] if after else end]
        return True


class _Checker:
    """Goes through instructions, in order: what is written so far decides what may be read."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.written = [_Spans() for _ in program.buffers]
        self.weights = 0

    def instruction(self, it: Instruction, last: bool) -> None:
        require(len(it.reads) == (0 if isinstance(it.operation, Input) else 1), "an operation of other inputs")
        for view in it.reads:
            self.read(view)
        grid = self.buffer(it.reads[0]).grid if it.reads else None
        moves = isinstance(it.operation, Copy | MaxPool | Nearest | Pad) and grid is not None
        channels = self.operation(it, grid)
        require(not (moves and it.steps), "a step on codes")
        for step in it.steps:
            self.step(step, channels)
        for view in it.writes:
            require(view.channels == channels, "a result in a tensor of other channels")
            self.write(view)
            require(not moves or self.buffer(view).grid is grid, "codes of two grids")
        ends = isinstance(it.operation, Output)
        require(ends == last, "an end in the middle, or none")
        require(ends != bool(it.writes), "a result that goes nowhere")
        require(not ends or channels == self.program.out_channels, "logits of other channels")

    def buffer(self, view: View) -> Buffer:
        return self.program.buffers[view.buffer]

    def view(self, view: View) -> tuple[int, int]:
        whole, end = self.buffer(view), view.first + view.channels
        require(view.channels > 0 and end <= whole.channels, "channels that are not there")
        if isinstance(whole.grid, BinaryPlanes):
            require(view.first % 8 == 0 and (end % 8 == 0 or end == whole.channels), "bits within a byte")
        return view.first, end

    def read(self, view: View) -> None:
        require(self.written[view.buffer].have(*self.view(view)), "a tensor is read before it is written")

    def write(self, view: View) -> None:
        require(self.written[view.buffer].add(*self.view(view)), "a tensor is written twice")

    def operation(self, it: Instruction, grid: Quantization | None) -> int:
        """How many channels the result has."""
        operation = it.operation
        channels = it.reads[0].channels if it.reads else self.program.in_channels
        match operation:
            case Convolution() | Transposed():
                self.convolution(operation, channels, grid)
                return operation.channels
            case MaxPool(window):
                check_window(window)
                for side in (0, 1):
                    reach = window.dilation[side] * (window.kernel[side] - 1) + 1
                    require(max(window.padding[side::2]) < reach, "a pooling of padding only")
                require(not isinstance(grid, BinaryPlanes) or len(grid.gammas) == 1, "a pooling of planes")
            case AveragePool(window):
                check_window(window)
                require(not any(window.padding), "an average of padding")
                require(window.dilation == (1, 1), "a spread average")
            case Nearest() | Bilinear():
                require(all(operation.factor), "a resize by 0")
        if isinstance(operation, AveragePool | Bilinear | Mean | Output):
            require(grid is None, "an operation on codes")
        return channels

    def convolution(self, it: Convolution | Transposed, inside: int, grid: Quantization | None) -> None:
        check_window(it.window)
        require(bool(it.groups and it.channels), "groups that divide no channels")
        require(not inside % it.groups and not it.channels % it.groups, "groups that divide no channels")
        codes = it.weights.kind in ON_CODES
        require(codes or grid is None, "f32 weights over codes")
        require(isinstance(it, Convolution) or (grid is None and not codes), "a transposed convolution of codes")
        of_channel = math.prod(it.window.kernel) * (inside // it.groups)
        self.weights += of_channel * it.channels * it.weights.planes
        require(self.weights <= MAX_WEIGHTS, f"more than {MAX_WEIGHTS} weights")
        check_weights(it.weights, of_channel, it.channels, largest(grid) if grid is not None else None)

    def step(self, step: Step, channels: int) -> None:
        match step:
            case Clip():
                require(-math.inf < step.low <= step.high < math.inf, "a clip without order")
            case TernaryTanh():
                require(math.isfinite(step.beta), "a constant is nan or inf")
            case Add() | Multiply():
                self.read(step.view)
                fits = step.view.channels == channels and self.buffer(step.view).grid is None
                require(fits, "two tensors that do not fit")


def check_window(window: Window) -> None:
    require(all((*window.kernel, *window.stride, *window.dilation)), "a window of size 0")


def check_weights(weights: Weights, of_channel: int, channels: int, codes: int | None) -> None:
    """Hold numbers to their rules.

    Args:
        weights: packed.
        of_channel: how many numbers an output channel has, in each plane.
        channels: of the output.
        codes: the largest |code − zero point| of the input; None for f32.
    """
    least, most = BITS[weights.kind]
    require(least <= weights.bits <= most, "weights of too many bits")
    require(1 <= weights.planes <= (MAX_PLANES if weights.kind == "signs" else 1), "too many planes")
    if weights.kind == "f32":
        require(bool(np.isfinite(np.frombuffer(weights.data, "<f4")).all()), "a weight is nan or inf")
        return
    if weights.kind == "bf16":
        exponents = np.frombuffer(weights.data, "<u2") & 0x7F80
        require(not (exponents == 0x7F80).any(), "a weight is nan or inf")
        return
    padding = -of_channel * channels * weights.bits % 8
    plane = len(weights.data) // weights.planes
    ends = weights.data[plane - 1 :: plane]
    require(all(end >> (8 - padding) == 0 for end in ends), "padding bits are set")
    highest = {"integers": 2 ** (weights.bits - 1), "powers": 2 ** (MAX_POWER - 1), "signs": 1}[weights.kind]
    may_overflow = codes is not None and float(highest * of_channel) * float(codes) > MAX_SUM
    if may_overflow or (weights.kind == "powers" and 2 ** (weights.bits - 1) > MAX_POWER):
        for numbers in _numbers(weights, of_channel, channels):
            require(bool((numbers <= highest).all()), "a power that is too large")
            total = float(numbers.sum(1).max())
            require(codes is None or total * float(codes) <= MAX_SUM, "sums that do not fit 53 bits")


def _numbers(weights: Weights, of_channel: int, channels: int) -> Iterator[NDArray[np.float64]]:
    """|w| as (output channels, numbers of one), some channels at a time; of more planes than one all are ±1."""
    packed, places = np.frombuffer(weights.data, np.uint8), 1 << np.arange(weights.bits)
    # Eight channels end at a byte.
    step = 8 * max(1, 2**13 // of_channel)
    for channel in range(0, channels, step):
        shape = min(step, channels - channel), of_channel, weights.bits
        first, count = channel * of_channel * weights.bits // 8, math.prod(shape)
        bits = np.unpackbits(packed[first : first - (-count // 8)], count=count, bitorder="little")
        codes = bits.reshape(shape) @ places
        signed = np.abs(codes - ((codes >> (weights.bits - 1)) << weights.bits))
        yield np.where(signed == 0, 0.0, 2.0 ** (signed - 1)) if weights.kind == "powers" else signed.astype(np.float64)
