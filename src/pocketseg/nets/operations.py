"""What each node of a traced net is called, what it multiplies, and which rows of its input a row of its output needs.

A net that does something else is refused: a cost with a hole in it would be no cost.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn
from torch.nn import functional as F

from pocketseg.errors import PocketsegError

Array = NDArray[np.float64]
Shape = tuple[int, ...]
# (first rows, last rows, height in, height out) of the output -> (first rows, last rows) of the input. Rows are counted
# as if the image had no border.
Rows = Callable[[Array, Array, int, int], tuple[Array, Array]]
# (shape in, shape out) -> multiply-accumulates.
Macs = Callable[[Shape, Shape], int]


def same(first: Array, last: Array, _: int, __: int) -> tuple[Array, Array]:
    return first, last


def whole(first: Array, last: Array, _: int, __: int) -> tuple[Array, Array]:
    return np.full_like(first, -np.inf), np.full_like(last, np.inf)


def window(kernel: int, stride: int, padding: int, dilation: int = 1) -> Rows:
    """Convolution and pooling."""

    def rows(first: Array, last: Array, _: int, __: int) -> tuple[Array, Array]:
        return first * stride - padding, last * stride - padding + dilation * (kernel - 1)

    return rows


def spread(kernel: int, stride: int, padding: int, dilation: int) -> Rows:
    """Transposed convolution: input row i reaches output rows i·stride − padding + t·dilation, t < kernel."""
    reached = [t * dilation - padding for t in range(kernel)]

    def sources(row: Array) -> Array:
        """Input rows that reach this output row, nan where a tap hits none: (kernel, rows)."""
        found = np.stack([(row - offset) / stride for offset in reached])
        return np.where(found == np.floor(found), found, np.nan)

    def rows(first: Array, last: Array, _: int, __: int) -> tuple[Array, Array]:
        # With a stride beyond the kernel an end row may have no source; the next rows inside the interval have.
        steps = [np.minimum(first + step, last) for step in range(stride)]
        ends = [np.maximum(last - step, first) for step in range(stride)]
        low = np.fmin.reduce(np.concatenate([sources(row) for row in steps]))
        high = np.fmax.reduce(np.concatenate([sources(row) for row in ends]))
        return low, high

    return rows


def resized(mode: str, corners: bool) -> Rows:
    """`F.interpolate`. With aligned corners the rows drift along the image, so their number depends on the height."""

    def source(row: Array, height_in: int, height_out: int) -> Array:
        if mode == "nearest":
            return np.floor(row * height_in / height_out)
        if corners:
            return row * (height_in - 1) / max(height_out - 1, 1)
        return (row + 0.5) * height_in / height_out - 0.5

    def rows(first: Array, last: Array, height_in: int, height_out: int) -> tuple[Array, Array]:
        return np.floor(source(first, height_in, height_out)), np.ceil(source(last, height_in, height_out))

    return rows


def shifted(above: int) -> Rows:
    """Padding and cropping."""

    def rows(first: Array, last: Array, _: int, __: int) -> tuple[Array, Array]:
        return first - above, last - above

    return rows


def no_macs(_: Shape, __: Shape) -> int:
    return 0


@dataclass(frozen=True)
class Operation:
    """One node: what a reader calls it, the rows it needs, its multiply-accumulates."""

    kind: str
    rows: Rows = same
    macs: Macs = no_macs


POINTWISE_MODULES: dict[type[nn.Module], str] = {
    nn.BatchNorm2d: "batch norm", nn.Identity: "identity", nn.Dropout: "dropout", nn.Dropout2d: "dropout",
    nn.ReLU: "ReLU", nn.ReLU6: "ReLU6", nn.LeakyReLU: "leaky ReLU", nn.PReLU: "PReLU", nn.ELU: "ELU", nn.SiLU: "SiLU",
    nn.GELU: "GELU", nn.Hardswish: "hard swish", nn.Hardsigmoid: "hard sigmoid", nn.Hardtanh: "hard tanh",
    nn.Sigmoid: "sigmoid", nn.Tanh: "tanh", nn.ChannelShuffle: "channel shuffle",
}  # fmt: skip

POINTWISE_FUNCTIONS: dict[Any, str] = {
    torch.cat: "concat", torch.add: "add", operator.add: "add", operator.iadd: "add", torch.mul: "multiply",
    operator.mul: "multiply", operator.imul: "multiply", torch.relu: "ReLU", F.relu: "ReLU", F.relu6: "ReLU6",
    F.silu: "SiLU", F.gelu: "GELU", F.hardtanh: "hard tanh", torch.sigmoid: "sigmoid", F.sigmoid: "sigmoid",
    torch.tanh: "tanh", F.dropout: "dropout", F.dropout2d: "dropout", torch.reshape: "reshape",
    torch.permute: "permute", torch.transpose: "permute", torch.chunk: "split", torch.split: "split",
    operator.getitem: "part", F.channel_shuffle: "channel shuffle",
}  # fmt: skip

POINTWISE_METHODS = {
    "reshape": "reshape", "view": "reshape", "unflatten": "reshape", "flatten": "reshape", "permute": "permute",
    "transpose": "permute", "contiguous": "contiguous", "chunk": "split", "split": "split", "relu": "ReLU",
    "sigmoid": "sigmoid", "add": "add", "add_": "add", "mul": "multiply",
}  # fmt: skip


def operation(node: fx.Node, module: nn.Module | None) -> Operation:
    """What a node of a traced net does.

    Args:
        node: of `torch.fx`.
        module: the module that the node calls, if it calls one.

    Raises:
        PocketsegError: nobody has written down here what it costs.
    """
    if node.op == "placeholder":
        return Operation("input")
    found = _of_module(module) if module is not None else _of_function(node)
    if found is None:
        what = type(module).__name__ if module is not None else getattr(node.target, "__name__", str(node.target))
        raise PocketsegError(f"net, {node.name}", f"the cost of {what} is not known", "add it to nets/operations.py")
    return found


def _of_module(module: nn.Module) -> Operation | None:
    match module:
        case nn.Conv2d():
            return _conv(module)
        case nn.ConvTranspose2d():
            return _transposed(module)
        case nn.Linear():
            return Operation("linear", same, lambda _, out: math.prod(out) * module.in_features)
        case nn.MaxPool2d():
            return _pool("max", module.kernel_size, module.stride, module.padding, module.dilation)
        case nn.AvgPool2d():
            return _pool("average", module.kernel_size, module.stride, module.padding)
        case nn.Upsample():
            return _resize(module.mode, bool(module.align_corners))
        case nn.ZeroPad2d() | nn.ReplicationPad2d() | nn.ReflectionPad2d() | nn.ConstantPad2d():
            return Operation("pad", shifted(module.padding[2]))
        case nn.AdaptiveAvgPool2d() if _pair(module.output_size) == (1, 1):
            return Operation("global average", whole)
    kind = POINTWISE_MODULES.get(type(module))
    return None if kind is None else Operation(kind)


def _of_function(node: fx.Node) -> Operation | None:
    target: Any = node.target

    def given(position: int, name: str, default: Any = None) -> Any:
        return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)

    if target is F.max_pool2d:
        return _pool(
            "max", given(1, "kernel_size"), given(2, "stride"), given(3, "padding", 0), given(4, "dilation", 1)
        )
    if target is F.avg_pool2d:
        return _pool("average", given(1, "kernel_size"), given(2, "stride"), given(3, "padding", 0))
    if target is F.interpolate:
        return _resize(given(3, "mode", "nearest"), bool(given(4, "align_corners")))
    if target is F.pad:
        padding = given(1, "pad")
        return Operation("pad", shifted(padding[2] if len(padding) > 2 else 0))
    if target is F.adaptive_avg_pool2d and _pair(given(1, "output_size")) == (1, 1):
        return Operation("global average", whole)
    if (target is torch.mean or target == "mean") and {axis % 4 for axis in given(1, "dim", (0,))} == {2, 3}:
        return Operation("global average", whole)
    kind = POINTWISE_METHODS.get(target) if node.op == "call_method" else POINTWISE_FUNCTIONS.get(target)
    return None if kind is None else Operation(kind)


def _conv(module: nn.Conv2d) -> Operation:
    kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
    span = dilation[0] * (kernel[0] - 1)
    padding = {"same": span // 2, "valid": 0}[module.padding] if isinstance(module.padding, str) else module.padding[0]
    inside = module.in_channels // module.groups
    depthwise = module.groups == module.in_channels > 1
    name = "depthwise" if depthwise else "grouped conv" if module.groups > 1 else "conv"
    notes = [f"/{stride[0]}"] * (stride[0] > 1) + [f"dilation {dilation[0]}"] * (dilation[0] > 1)
    return Operation(
        " ".join([name, _times(kernel), *notes]),
        window(kernel[0], stride[0], padding, dilation[0]),
        lambda _, out: math.prod(out) * inside * math.prod(kernel),
    )


def _transposed(module: nn.ConvTranspose2d) -> Operation:
    kernel, per_channel = module.kernel_size, module.out_channels // module.groups
    padding = module.padding
    assert not isinstance(padding, str)
    return Operation(
        f"transposed {_times(kernel)} ×{module.stride[0]}",
        spread(kernel[0], module.stride[0], padding[0], module.dilation[0]),
        lambda source, _: math.prod(source) * per_channel * math.prod(kernel),
    )


def _pool(name: str, kernel: Any, stride: Any, padding: Any, dilation: Any = 1) -> Operation:
    side, step = _pair(kernel), _pair(kernel if stride is None else stride)
    notes = "" if step == side else f" /{step[0]}"
    rows = window(side[0], step[0], _pair(padding)[0], _pair(dilation)[0])
    return Operation(f"{name} pool {_times(side)}{notes}", rows)


def _resize(mode: str, corners: bool) -> Operation | None:
    if mode not in ("nearest", "bilinear"):
        return None
    return Operation(f"{mode}{' (corners)' if corners else ''} resize", resized(mode, corners))


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _times(kernel: tuple[int, ...]) -> str:
    return "×".join(map(str, kernel))
