"""How a net runs on one image in little memory: row by row, from the mask backwards.

A row of the result asks for the rows that it is computed from, and these for theirs. So a tensor keeps only the rows
that something will still read, and no row is computed twice. What is written at one instruction and one view is one
tensor here; concatenations are lists of pieces, and copies of what is there already are the same pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pocketseg.engine.program import (
    Add,
    AveragePool,
    Bilinear,
    Convolution,
    Copy,
    Instruction,
    MaxPool,
    Mean,
    Multiply,
    Nearest,
    Operation,
    Pad,
    Program,
    Transposed,
    View,
)
from pocketseg.engine.rules import largest
from pocketseg.grids import BinaryPlanes, PowersOfTwo, Quantization, Uniform

ALIGNMENT = 4
Shape = tuple[int, int]


@dataclass(eq=False)
class Tensor:
    """What one layer writes on one grid.

    Attributes:
        number: of the tensor.
        writer: number of its layer.
        shape: (height, width) of the whole.
        rows: how many are kept.
        offset: in the arena, in bytes.
        life: first and last moment at which it is used.
    """

    number: int
    writer: int
    channels: int
    grid: Quantization | None
    shape: Shape
    rows: int = 1
    offset: int = 0
    life: tuple[int, int] = (0, 0)

    @property
    def kind(self) -> str:
        """How a number is stored: f32, u8, s8, s32, or signs, of which eight are a byte."""
        return kind_of(self.grid)

    @property
    def plane(self) -> int:
        """Bytes of a plane of signs of a pixel."""
        return (self.channels + 7) // 8

    @property
    def pixel(self) -> int:
        """Numbers of a pixel in f32, else its bytes."""
        if isinstance(self.grid, BinaryPlanes):
            return self.plane * len(self.grid.gammas)
        return self.channels * (4 if self.kind == "s32" else 1)

    @property
    def bytes(self) -> int:
        size = self.rows * self.shape[1] * self.pixel * (4 if self.kind == "f32" else 1)
        return -(-size // ALIGNMENT) * ALIGNMENT


def kind_of(grid: Quantization | None) -> str:
    """How numbers on a grid are stored."""
    match grid:
        case None:
            return "f32"
        case BinaryPlanes():
            return "signs"
        case PowersOfTwo():
            low, high = -largest(grid), largest(grid)
        case Uniform():
            low, high = grid.lowest, grid.highest
    if low >= 0 and high <= 255:
        return "u8"
    return "s8" if low >= -128 and high <= 127 else "s32"


@dataclass(frozen=True)
class Piece:
    """Channels of a tensor."""

    tensor: Tensor
    first: int
    channels: int


@dataclass(eq=False)
class Layer:
    """An instruction with what it reads and writes; operands are those of its steps, channels those of the result."""

    number: int
    it: Instruction
    shape: Shape
    reads: list[Piece]
    operands: list[list[Piece]]
    channels: int
    writes: list[Tensor] = field(default_factory=list)

    def sources(self, y: int) -> Iterator[tuple[Tensor, int, int]]:
        """Each tensor that row y is computed from, with the rows of it."""
        for piece in self.reads:
            yield piece.tensor, *rows_read(self.it.operation, y, piece.tensor.shape[0])
        for pieces in self.operands:
            for piece in pieces:
                first = y if piece.tensor.shape[0] > 1 else 0
                yield piece.tensor, first, first + 1


@dataclass(frozen=True)
class Plan:
    """A net on one image.

    Attributes:
        layers: those that compute something, in order; the last gives the logits.
        tensors: all that are kept.
        arena_bytes: memory for the tensors.
    """

    layers: list[Layer]
    tensors: list[Tensor]
    arena_bytes: int


def plan_of(program: Program, size: Shape) -> Plan:
    """The plan for an image of (height, width), multiples of the net's stride."""
    layers, tensors = _resolved(program, size)
    _simulated(layers, tensors)
    return Plan(layers, tensors, _placed(tensors))


def rows_read(operation: Operation, y: int, height: int) -> tuple[int, int]:
    """First and last (exclusive) row of an input of a height that row y of the result is computed from."""
    match operation:
        case Convolution(window=window) | MaxPool(window) | AveragePool(window):
            first = y * window.stride[0] - window.padding[0]
            last = first + (window.kernel[0] - 1) * window.dilation[0] + 1
        case Transposed(window=window):
            reach = (window.kernel[0] - 1) * window.dilation[0]
            first = -(-(y + window.padding[0] - reach) // window.stride[0])
            last = (y + window.padding[0]) // window.stride[0] + 1
        case Nearest(factor):
            first, last = y // factor[0], y // factor[0] + 1
        case Bilinear(factor):
            # Its place lies less than one row before y / factor, and less than half of one behind it.
            first, last = y // factor[0] - 1, y // factor[0] + 2
        case Pad(padding):
            first, last = y - padding[0], y - padding[0] + 1
        case Mean():
            first, last = 0, height
        case _:
            first, last = y, y + 1
    return min(max(first, 0), height), min(max(last, 0), height)


def _side(operation: Operation, size: int, side: int) -> int:
    """Rows (0) or columns (1) of a result."""
    match operation:
        case Convolution(window=window) | MaxPool(window) | AveragePool(window):
            reach = window.dilation[side] * (window.kernel[side] - 1) + 1
            return (size + window.padding[side] + window.padding[side + 2] - reach) // window.stride[side] + 1
        case Transposed(window=window, output_padding=more):
            reach = window.dilation[side] * (window.kernel[side] - 1) + 1
            padding = window.padding[side] + window.padding[side + 2]
            return (size - 1) * window.stride[side] + reach - padding + more[side]
        case Nearest(factor) | Bilinear(factor):
            return size * factor[side]
        case Pad(padding):
            return size + padding[side] + padding[side + 2]
        case Mean():
            return 1
    return size


def _resolved(program: Program, size: Shape) -> tuple[list[Layer], list[Tensor]]:
    """Layers without copies that only give a tensor another name, and all tensors."""
    written: list[dict[int, Piece]] = [{} for _ in program.buffers]  # first channel in the buffer -> piece
    layers: list[Layer] = []
    tensors: list[Tensor] = []

    def pieces(view: View) -> list[Piece]:
        found, end = [], view.first + view.channels
        for first, piece in sorted(written[view.buffer].items()):
            low, high = max(first, view.first), min(first + piece.channels, end)
            if low < high:
                found.append(Piece(piece.tensor, piece.first + low - first, high - low))
        return found

    for it in program.instructions:
        reads = [piece for view in it.reads for piece in pieces(view)]
        into = reads[0].tensor.shape if reads else size
        shape = _side(it.operation, into[0], 0), _side(it.operation, into[1], 1)
        operands = [pieces(step.view) for step in it.steps if isinstance(step, Add | Multiply)]
        channels = it.reads[0].channels if it.reads else program.in_channels
        if isinstance(it.operation, Convolution | Transposed):
            channels = it.operation.channels
        layer = Layer(len(layers), it, shape, reads, operands, channels)
        writes = []
        for view in it.writes:
            grid = program.buffers[view.buffer].grid
            same = bool(it.reads) and grid == program.buffers[it.reads[0].buffer].grid
            if isinstance(it.operation, Copy) and not it.steps and same:
                at = view.first
                for piece in reads:
                    written[view.buffer][at] = piece
                    at += piece.channels
                continue
            tensor = Tensor(len(tensors), layer.number, view.channels, grid, shape)
            tensors.append(tensor)
            writes.append(tensor)
            written[view.buffer][view.first] = Piece(tensor, 0, view.channels)
        layer.writes = writes
        if writes or not it.writes:
            layers.append(layer)
    return layers, tensors


def _simulated(layers: list[Layer], tensors: list[Tensor]) -> None:
    """Goes through all rows as the C code will: how many rows each tensor keeps, and when it lives."""
    done = [0] * len(layers)
    readers: list[list[Layer]] = [[] for _ in tensors]
    for layer in layers:
        for tensor in {tensor.number: tensor for tensor, _, _ in layer.sources(0)}.values():
            readers[tensor.number].append(layer)
    moment = 0

    def first_needed(tensor: Tensor) -> int:
        """The first row that something will still read."""
        low = tensor.shape[0]
        for layer in readers[tensor.number]:
            y = done[layer.number]
            if y < layer.shape[0]:
                low = min([low, *(first for of, first, _ in layer.sources(y) if of is tensor)])
        return low

    def make(layer: Layer, rows: int) -> None:
        nonlocal moment
        while done[layer.number] < rows:
            y = done[layer.number]
            for tensor, _, last in layer.sources(y):
                make(layers[tensor.writer], last)
            moment += 1
            for tensor, _, _ in layer.sources(y):
                tensor.life = tensor.life[0], moment
            for tensor in layer.writes:
                tensor.life = tensor.life[0] or moment, max(tensor.life[1], moment)
                tensor.rows = max(tensor.rows, y + 1 - first_needed(tensor))
            done[layer.number] += 1

    for y in range(layers[-1].shape[0]):
        make(layers[-1], y + 1)


def _placed(tensors: list[Tensor]) -> int:
    """Gives each tensor a place that is free for as long as it lives, the largest first; the bytes of all."""
    end = 0
    placed: list[Tensor] = []
    for tensor in sorted(tensors, key=lambda each: -each.bytes):
        tensor.offset = 0
        for other in sorted(placed, key=lambda each: each.offset):
            if other.life[1] < tensor.life[0] or tensor.life[1] < other.life[0]:
                continue
            if tensor.offset + tensor.bytes <= other.offset:
                break
            tensor.offset = max(tensor.offset, other.offset + other.bytes)
        placed.append(tensor)
        end = max(end, tensor.offset + tensor.bytes)
    return end
