"""What the engine runs, as data: instructions over buffers. docs/format.md has the bytes, docs/decisions/0009 the why.

A buffer is one tensor in memory, height × width × channels with the channels of a pixel side by side, f32 or codes of
one grid. Instructions read and write views of buffers, which are ranges of channels: a concatenation is a buffer that
several instructions write a part of. Each channel is written once, before anything reads it.

An instruction computes f32 values, pixel by pixel, sends them through its steps, and stores the result in everything it
writes, as f32 or as codes of that buffer's grid. `Copy`, `MaxPool`, `Nearest` and `Pad` also move codes as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg.grids import Quantization

Array = NDArray[np.float32]

# --- tensors ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Buffer:
    """One tensor; f32 where it has no grid."""

    channels: int
    grid: Quantization | None = None


@dataclass(frozen=True)
class View:
    """A range of channels of a buffer."""

    buffer: int
    first: int
    channels: int


# --- operations -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """Where a kernel looks; padding is above, left, below, right."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True, eq=False)
class Weights:
    """Numbers of a convolution in C order (planes, out channels, height, width, channels of a group), packed.

    Attributes:
        kind: `f32`, `bf16`, `integers` and `powers` (see `quant.packing`, signed; a power ±2^k is stored as ±(k + 1)),
            or `signs` (1 is +1; each plane begins at a byte).
        bits: of a number of one plane.
        planes: 1 unless signs.
        data: the bytes.
    """

    kind: str
    bits: int
    planes: int
    data: bytes


@dataclass(frozen=True, eq=False)
class Convolution:
    """For weight plane p and input plane q in turn y += acc_pq · m_pq, then y + b; f32 weights have no m, y = acc + b.

    Where the input is f32, acc is summed tap by tap, row by row, and channel by channel within a tap, each product and
    each sum rounded; taps outside of the image are left out. Padding of codes is the code of 0.

    Attributes:
        m: f32 (weight planes, input planes, out channels), or None.
        b: f32 (out channels,).
    """

    window: Window
    groups: int
    channels: int
    weights: Weights
    m: Array | None
    b: Array


@dataclass(frozen=True, eq=False)
class Transposed:
    """Transposed convolution in f32; `output_padding` rows and columns are added at the end (torch's output_padding).

    A sum goes through the taps that reach the pixel, row by row, and through the channels within a tap; then + b.
    """

    window: Window
    output_padding: tuple[int, int]
    groups: int
    channels: int
    weights: Weights
    b: Array


@dataclass(frozen=True)
class Input:
    """The image, f32 planes that the caller gives."""


@dataclass(frozen=True)
class Output:
    """The logits, f32 planes that the caller gets."""


@dataclass(frozen=True)
class Copy:
    """Values as they are; with steps, what stands behind no other operation."""


@dataclass(frozen=True)
class MaxPool:
    """Padding never wins."""

    window: Window


@dataclass(frozen=True)
class AveragePool:
    """The sum, row by row, divided by the size of the kernel; no padding."""

    window: Window


@dataclass(frozen=True)
class Nearest:
    """Every pixel repeated, `factor` rows and columns."""

    factor: tuple[int, int]


@dataclass(frozen=True)
class Bilinear:
    """In f32: left · (1 − u) + right · u for the upper row and the lower, then upper · (1 − v) + lower · v."""

    factor: tuple[int, int]
    align_corners: bool


@dataclass(frozen=True)
class Pad:
    """Zeros above, left, below, right; of codes, the code of 0."""

    padding: tuple[int, int, int, int]


@dataclass(frozen=True)
class Mean:
    """The mean of each channel over the image, 1 × 1; summed in f64, row by row."""


Operation = Input | Output | Copy | Convolution | Transposed | MaxPool | AveragePool | Nearest | Bilinear | Pad | Mean

# --- steps ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Affine:
    """y · m + b, two roundings."""

    m: Array
    b: Array


@dataclass(frozen=True)
class Relu:
    """max(y, 0)."""


@dataclass(frozen=True)
class Clip:
    """min(max(y, low), high)."""

    low: float
    high: float


@dataclass(frozen=True)
class Sigmoid:
    """1 / (1 + exp(−y))."""


@dataclass(frozen=True)
class TernaryTanh:
    """½ · [tanh(β(2y − 1)) + tanh(β(2y + 1))]."""

    beta: float


@dataclass(frozen=True)
class Add:
    """y + another tensor of the same size, or of 1 × 1."""

    view: View


@dataclass(frozen=True)
class Multiply:
    """y · another tensor of the same size, or of 1 × 1."""

    view: View


@dataclass(frozen=True)
class Snap:
    """The value that stands for y on a grid, in f32."""

    grid: Quantization


@dataclass(frozen=True)
class Softmax:
    """Over the channels."""


Step = Affine | Relu | Clip | Sigmoid | TernaryTanh | Add | Multiply | Snap | Softmax


@dataclass(frozen=True)
class Instruction:
    """One operation, what it reads, the steps after it, and everything its result is written to."""

    operation: Operation
    reads: tuple[View, ...]
    steps: tuple[Step, ...]
    writes: tuple[View, ...]


@dataclass(frozen=True)
class KernelHints:
    """Kernels that instructions are to be run with; they change the time only.

    Attributes:
        machine: the ISA of the machine that they were timed on; others do as if nothing was asked for.
        kernels: names by the instructions' numbers; the library chooses for those that are not here.
    """

    machine: str
    kernels: Mapping[int, str]


@dataclass(frozen=True)
class Program:
    """A net.

    Attributes:
        in_channels: of the image.
        out_channels: of the logits.
        multiple: height and width of the image are multiples of it.
        buffers: tensors.
        instructions: in the order in which they run.
        hints: kernels that were found to be the fastest, see `engine.tuning`.
    """

    in_channels: int
    out_channels: int
    multiple: int
    buffers: tuple[Buffer, ...]
    instructions: tuple[Instruction, ...]
    hints: KernelHints | None = None

    @property
    def exact(self) -> bool:
        """Whether every engine gives the same bytes: it computes on codes, and no function differs among libraries."""
        differs = any(
            isinstance(part, Sigmoid | TernaryTanh | Softmax)
            for each in self.instructions
            for part in (each.operation, *each.steps)
        )
        return not differs and any(buffer.grid is not None for buffer in self.buffers)


def name_of(part: Any) -> str:
    """How tables call an operation or a step."""
    return type(part).__name__.lower()


def operation_text(operation: Operation) -> str:
    """An operation with what is read of its window, such as `convolution 3×3 /2`."""
    window = getattr(operation, "window", None)
    if not isinstance(window, Window):
        return name_of(operation)
    groups = getattr(operation, "groups", 1)
    notes = [f"/{window.stride[0]}"] * (window.stride[0] > 1) + [f"{groups} groups"] * (groups > 1)
    return " ".join([name_of(operation), "×".join(map(str, window.kernel)), *notes])
