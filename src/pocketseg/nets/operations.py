"""What is known of each operation of torch: its name and arguments, what it costs, and whether quantizers may pass it.

Costs, the engine's packer and the ONNX exporter all ask here, so that an operation is described once. An operation that
is not here is refused: a cost with a hole in it would not be a cost.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from pocketseg.errors import PocketsegError
from pocketseg.nets.rows import Rows, resized, same, shifted, spread, unknown, whole, window

Shape = tuple[int, ...]
# (shape in, shape out) -> multiply-accumulates.
Macs = Callable[[Shape, Shape], int]


def no_macs(_: Shape, __: Shape) -> int:
    return 0


@dataclass(frozen=True)
class Operation:
    """One node of a traced net.

    Attributes:
        name: what it is; a module and a function that do the same have the same name.
        kind: what a reader calls it, such as `max pool 2×2`.
        rows: of its input that a row of its output needs.
        macs: its multiply-accumulates.
        moves: whether a quantizer of its output may move to its inputs. Rounding and clipping are monotone and work
            number by number: they commute exactly with what only moves or compares numbers, and brings no other than 0.
            What splits or reorders a tensor would too, and is left as it is.
        given: its arguments, by the same names for a module and a function; sides are (height, width).
    """

    name: str
    kind: str
    rows: Rows = same
    macs: Macs = no_macs
    moves: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)


POINTWISE_MODULES: dict[type[nn.Module], str] = {
    nn.BatchNorm2d: "batch norm", nn.Identity: "identity", nn.Dropout: "dropout", nn.Dropout2d: "dropout",
    nn.ReLU: "ReLU", nn.ReLU6: "ReLU6", nn.LeakyReLU: "leaky ReLU", nn.PReLU: "PReLU", nn.ELU: "ELU", nn.SiLU: "SiLU",
    nn.GELU: "GELU", nn.Hardswish: "hard swish", nn.Hardsigmoid: "hard sigmoid", nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh", nn.ChannelShuffle: "channel shuffle",
}  # fmt: skip

POINTWISE_FUNCTIONS: dict[Any, str] = {
    torch.add: "add", operator.add: "add", operator.iadd: "add", torch.mul: "multiply", operator.mul: "multiply",
    operator.imul: "multiply", torch.relu: "ReLU", F.relu: "ReLU", F.relu6: "ReLU6", F.silu: "SiLU", F.gelu: "GELU",
    torch.sigmoid: "sigmoid", F.sigmoid: "sigmoid", torch.tanh: "tanh", F.dropout: "dropout", F.dropout2d: "dropout",
    torch.reshape: "reshape", torch.permute: "permute", torch.transpose: "permute", operator.getitem: "part",
    F.channel_shuffle: "channel shuffle",
}  # fmt: skip

POINTWISE_METHODS = {
    "reshape": "reshape", "view": "reshape", "unflatten": "reshape", "flatten": "reshape", "permute": "permute",
    "transpose": "permute", "contiguous": "contiguous", "relu": "ReLU", "sigmoid": "sigmoid", "add": "add",
    "add_": "add", "mul": "multiply",
}  # fmt: skip

# Names of those above that give what they are given, in evaluation.
IDENTITIES = ("identity", "dropout", "contiguous")


def operation(node: fx.Node, module: nn.Module | None) -> Operation:
    """What a node of a traced net does and costs.

    Args:
        node: of `torch.fx`.
        module: the module that the node calls, if it calls one.

    Raises:
        PocketsegError: nobody has written down here what it costs.
    """
    found = known(node, module)
    if found is None or found.rows is unknown:
        what = type(module).__name__ if module is not None else getattr(node.target, "__name__", str(node.target))
        raise PocketsegError(f"net, {node.name}", f"the cost of {what} is not known", "add it to nets/operations.py")
    return found


def known(node: fx.Node, module: nn.Module | None) -> Operation | None:
    """What a node of a traced net does; None where that is not written down here, as for layers of `quant`."""
    if node.op == "placeholder":
        return Operation("input", "input")
    return _of_module(module) if module is not None else _of_function(node)


def argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    """An argument of a call, given by its position or its name."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _of_module(module: nn.Module) -> Operation | None:
    match module:
        case nn.Conv2d():
            return _conv(module)
        case nn.ConvTranspose2d():
            return _transposed(module)
        case nn.Linear():
            return Operation("linear", "linear", same, lambda _, out: math.prod(out) * module.in_features)
        case nn.MaxPool2d():
            return _max_pool(module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode)
        case nn.AvgPool2d():
            return _average_pool(module.kernel_size, module.stride, module.padding, module.ceil_mode)
        case nn.Upsample():
            return _resize(module.size, module.scale_factor, module.mode, module.align_corners)
        case nn.ZeroPad2d():
            return _pad(module.padding, zeros=True)
        case nn.ReplicationPad2d() | nn.ReflectionPad2d() | nn.ConstantPad2d():
            return _pad(module.padding, zeros=False)
        case nn.AdaptiveAvgPool2d() if pair(module.output_size) == (1, 1):
            return Operation("global average", "global average", whole)
        case nn.Softmax(dim=1) | nn.Softmax2d():
            return Operation("softmax", "softmax")
        case nn.Hardtanh() if not isinstance(module, nn.ReLU6):
            return _hard_tanh(module.min_val, module.max_val)
    return _pointwise(POINTWISE_MODULES.get(type(module)))


def _of_function(node: fx.Node) -> Operation | None:
    target: Any = node.target

    def given(position: int, name: str, default: Any = None) -> Any:
        return argument(node, position, name, default)

    if target is torch.cat:
        return Operation("concat", "concat", moves=True, given={"axis": given(1, "dim", 0)})
    if target in (torch.chunk, "chunk"):
        return Operation("split", "split", given={"chunks": given(1, "chunks"), "axis": given(2, "dim", 0)})
    if target in (torch.split, "split"):
        return Operation("split", "split", given={"size": given(1, "split_size"), "axis": given(2, "dim", 0)})
    if target is F.max_pool2d:
        padding, dilation = given(3, "padding", 0), given(4, "dilation", 1)
        return _max_pool(given(1, "kernel_size"), given(2, "stride"), padding, dilation, given(5, "ceil_mode"))
    if target is F.avg_pool2d:
        around, ceil = given(3, "padding", 0), given(4, "ceil_mode")
        return _average_pool(given(1, "kernel_size"), given(2, "stride"), around, ceil)
    if target is F.interpolate:
        mode, align_corners = given(3, "mode", "nearest"), given(4, "align_corners")
        return _resize(given(1, "size"), given(2, "scale_factor"), mode, align_corners)
    if target is F.pad:
        zeros = given(2, "mode", "constant") == "constant" and not given(3, "value")
        return _pad(given(1, "pad"), zeros=zeros)
    if target is F.hardtanh:
        return _hard_tanh(given(1, "min_val", -1.0), given(2, "max_val", 1.0))
    if target is F.adaptive_avg_pool2d and pair(given(1, "output_size")) == (1, 1):
        return Operation("global average", "global average", whole)
    if (target is torch.mean or target == "mean") and {axis % 4 for axis in given(1, "dim", (0,))} == {2, 3}:
        return Operation("mean", "global average", whole)
    return _pointwise(POINTWISE_METHODS.get(target) if node.op == "call_method" else POINTWISE_FUNCTIONS.get(target))


def _pointwise(name: str | None) -> Operation | None:
    return None if name is None else Operation(name, name, moves=name in IDENTITIES)


def _hard_tanh(low: float, high: float) -> Operation:
    return Operation("hard tanh", "hard tanh", given={"low": float(low), "high": float(high)})


def _conv(module: nn.Conv2d) -> Operation:
    kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
    span = dilation[0] * (kernel[0] - 1)
    padding = {"same": span // 2, "valid": 0}[module.padding] if isinstance(module.padding, str) else module.padding[0]
    inside = module.in_channels // module.groups
    depthwise = module.groups == module.in_channels > 1
    name = "depthwise" if depthwise else "grouped conv" if module.groups > 1 else "conv"
    notes = [f"/{stride[0]}"] * (stride[0] > 1) + [f"dilation {dilation[0]}"] * (dilation[0] > 1)
    return Operation(
        "conv",
        " ".join([name, _times(kernel), *notes]),
        window(kernel[0], stride[0], padding, dilation[0]),
        lambda _, out: math.prod(out) * inside * math.prod(kernel),
    )


def _transposed(module: nn.ConvTranspose2d) -> Operation:
    kernel, per_channel = module.kernel_size, module.out_channels // module.groups
    padding = module.padding
    assert not isinstance(padding, str)
    return Operation(
        "transposed conv",
        f"transposed {_times(kernel)} ×{module.stride[0]}",
        spread(kernel[0], module.stride[0], padding[0], module.dilation[0]),
        lambda source, _: math.prod(source) * per_channel * math.prod(kernel),
    )


def _max_pool(kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: Any) -> Operation:
    return _pool("max pool", kernel, stride, padding, dilation, ceil, moves=True)


def _average_pool(kernel: Any, stride: Any, padding: Any, ceil: Any) -> Operation:
    return _pool("average pool", kernel, stride, padding, 1, ceil, moves=False)


def _pool(name: str, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: Any, *, moves: bool) -> Operation:
    side, step = pair(kernel), pair(kernel if stride in (None, ()) else stride)
    around, apart = pair(padding), pair(dilation)
    given = {"kernel": side, "stride": step, "padding": around, "dilation": apart, "ceil": bool(ceil)}
    notes = "" if step == side else f" /{step[0]}"
    rows = window(side[0], step[0], around[0], apart[0])
    return Operation(name, f"{name} {_times(side)}{notes}", rows, moves=moves, given=given)


def _resize(size: Any, factor: Any, mode: str, align_corners: Any) -> Operation:
    rows = resized(mode, bool(align_corners)) if mode in ("nearest", "bilinear") else unknown
    given = {"size": size, "factor": factor, "mode": mode, "align_corners": bool(align_corners)}
    kind = f"{mode}{' (corners)' if align_corners else ''} resize"
    return Operation("resize", kind, rows, moves=mode == "nearest", given=given)


def _pad(padding: Any, *, zeros: bool) -> Operation:
    left, right, above, below = (*padding, 0, 0)[:4]
    given = {"above": above, "left": left, "below": below, "right": right, "zeros": zeros}
    return Operation("pad", "pad", shifted(above), moves=zeros, given=given)


def pair(value: Any) -> tuple[int, int]:
    """(height, width) of what is one number for both, or two.

    Example:
        >>> pair(3), pair((1, 2))
        ((3, 3), (1, 2))
    """
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


def _times(kernel: tuple[int, ...]) -> str:
    return "×".join(map(str, kernel))
