"""A torch net, float or on integers, as a graph."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional as F

from pocketseg.engine import program as p
from pocketseg.errors import ModelFileError
from pocketseg.packing.graph import Concat, Graph, Node, Op, Product, Quantize, Slice, Sum
from pocketseg.packing.weights import float_weights, packed_weights
from pocketseg.quant import Binary, Fixed, Int, PowerOfTwo, ResidualBinary, Spec, TernaryTanh
from pocketseg.quant.apply import graph_of
from pocketseg.quant.layers import Affine, IntegerConv2d, QuantConv2d, factors

SUMS = (torch.add, operator.add, operator.iadd, "add", "add_")
PRODUCTS = (torch.mul, operator.mul, operator.imul, "mul")
CHANGES: dict[Any, Op] = {
    torch.relu: p.Relu(), F.relu: p.Relu(), "relu": p.Relu(), F.relu6: p.Clip(0.0, 6.0),
    torch.sigmoid: p.Sigmoid(), F.sigmoid: p.Sigmoid(), "sigmoid": p.Sigmoid(),
}  # fmt: skip
# What a node of the traced net gives: a tensor, or the parts of one.
Value = Node | list[Node]


def lowered(core: nn.Module, in_channels: int) -> Graph:
    """The graph of a net in evaluation.

    Args:
        core: a net without its size wrapper; of a quantised model its integer net.
        in_channels: of the image.

    Raises:
        ModelFileError: it does something that the engine has no operation for.
    """
    return _Lowering(core, in_channels).graph()


class _Lowering:
    def __init__(self, core: nn.Module, in_channels: int) -> None:
        self.modules = dict(core.named_modules())
        self.traced = graph_of(core)
        self.in_channels = in_channels
        self.multiple = int(getattr(core, "stride", 1))
        self.nodes: list[Node] = []
        self.values: dict[fx.Node, Value] = {}

    def graph(self) -> Graph:
        for node in self.traced.nodes:
            match node.op:
                case "placeholder":
                    self.values[node] = self.add(p.Input(), (), self.in_channels)
                case "call_module":
                    layer = self.modules[str(node.target)]
                    (x,) = self.tensors(node.args)
                    self.values[node] = self.module(layer, x, str(node.target))
                case "call_function" | "call_method":
                    self.values[node] = self.function(node)
                case "output":
                    (x,) = self.tensors(node.args)
                    self.add(p.Output(), (x,), x.channels)
                case _:
                    raise _refused(_place(node), f"reads {node.target}")
        return Graph(tuple(self.nodes), self.in_channels, self.multiple)

    def add(self, op: Op, inputs: tuple[Node, ...], channels: int, grid: p.Grid | None = None) -> Node:
        self.nodes.append(Node(op, inputs, channels, grid))
        return self.nodes[-1]

    def one(self, op: Op, x: Node) -> Node:
        """An operation that keeps the channels."""
        return self.add(op, (x,), x.channels, x.grid)

    def tensors(self, args: Sequence[Any]) -> list[Node]:
        found = [self.values[arg] for arg in args if isinstance(arg, fx.Node)]
        return [value for value in found if isinstance(value, Node)]

    def quantized(self, x: Node, grid: p.Grid) -> Node:
        return self.add(Quantize(grid), (x,), x.channels, grid)

    # --- modules ------------------------------------------------------------------------------------------

    def module(self, layer: nn.Module, x: Node, name: str) -> Node:
        match layer:
            case IntegerConv2d():
                return self.integer_conv(layer, x)
            case QuantConv2d():
                grid = None if layer.inputs is None else grid_of(layer.inputs.spec, layer.inputs.state(layer.weight))
                return self.conv(layer, x if grid is None else self.one(p.Snap(grid), x), name)
            case nn.Conv2d():
                return self.conv(layer, x, name)
            case nn.ConvTranspose2d():
                return self.transposed(layer, x)
            case nn.BatchNorm2d():
                return self.one(p.Affine(*(_floats(part) for part in factors(layer))), x)
            case Affine():
                return self.one(p.Affine(_floats(layer.a), _floats(layer.c)), x)
            case nn.ReLU6():
                return self.one(p.Clip(0.0, 6.0), x)
            case nn.ReLU():
                return self.one(p.Relu(), x)
            case nn.Hardtanh():
                return self.one(p.Clip(float(layer.min_val), float(layer.max_val)), x)
            case nn.Sigmoid():
                return self.one(p.Sigmoid(), x)
            case nn.Softmax(dim=1) | nn.Softmax2d():
                return self.one(p.Softmax(), x)
            case TernaryTanh():
                return self.one(p.TernaryTanh(float(layer.beta)), x)
            case nn.Identity() | nn.Dropout() | nn.Dropout2d():
                return x
            case nn.MaxPool2d():
                return self.max_pool(x, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode)
            case nn.AvgPool2d():
                return self.average_pool(x, layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode)
            case nn.AdaptiveAvgPool2d() if _pair(layer.output_size) == (1, 1):
                return self.one(p.Mean(), x)
            case nn.Upsample(size=None):
                return self.resized(x, layer.scale_factor, layer.mode, bool(layer.align_corners))
            case nn.ZeroPad2d():
                return self.padded(x, layer.padding)
        raise _refused(name, f"is a {type(layer).__name__}")

    def conv(self, layer: nn.Conv2d, x: Node, name: str) -> Node:
        if layer.padding_mode != "zeros":
            raise _refused(name, f"pads with {layer.padding_mode}")
        bias = torch.zeros(layer.out_channels) if layer.bias is None else layer.bias
        op = p.Convolution(
            _window(layer), layer.groups, layer.out_channels, float_weights(_numbers(layer.weight)), None, _floats(bias)
        )
        return self.add(op, (x,), layer.out_channels)

    def integer_conv(self, layer: IntegerConv2d, x: Node) -> Node:
        if layer.input_spec is not None:
            x = self.quantized(x, grid_of(layer.input_spec, layer))
        weights = packed_weights(layer.weight_spec, layer.codes)
        channels = layer.codes.shape[1]
        op = p.Convolution(_window(layer), layer.groups, channels, weights, _floats(layer.m), _floats(layer.b))
        return self.add(op, (x,), channels)

    def transposed(self, layer: nn.ConvTranspose2d, x: Node) -> Node:
        groups, bias = layer.groups, layer.bias
        # torch has (in, out of a group, h, w).
        inside, outside = layer.in_channels // groups, layer.out_channels // groups
        kernel = layer.weight.detach().reshape(groups, inside, outside, *layer.kernel_size).transpose(1, 2)
        op = p.Transposed(
            _window(layer), _pair(layer.output_padding), groups, layer.out_channels,
            float_weights(_numbers(kernel.reshape(layer.out_channels, inside, *layer.kernel_size))),
            _floats(torch.zeros(layer.out_channels) if bias is None else bias),
        )  # fmt: skip
        return self.add(op, (x,), layer.out_channels)

    def max_pool(
        self, x: Node, kernel: Any, stride: Any, padding: Any = 0, dilation: Any = 1, ceil: bool = False
    ) -> Node:
        if ceil:
            raise _refused("a pooling", "rounds its size up")
        return self.one(p.MaxPool(_pool_window(kernel, stride, padding, dilation)), x)

    def average_pool(self, x: Node, kernel: Any, stride: Any, padding: Any = 0, ceil: bool = False) -> Node:
        if ceil or _pair(padding) != (0, 0):
            raise _refused("an average pooling", "pads, or rounds its size up")
        return self.one(p.AveragePool(_pool_window(kernel, stride, padding, 1)), x)

    def resized(self, x: Node, factor: Any, mode: str, corners: bool) -> Node:
        factors = factor if isinstance(factor, tuple) else (factor, factor)
        if factor is None or any(not float(each).is_integer() or each < 1 for each in factors):
            raise _refused("a resize", f"is by a factor of {factor}, no whole number")
        height, width = (int(each) for each in factors)
        match mode:
            case "nearest":
                return self.one(p.Nearest((height, width)), x)
            case "bilinear":
                return self.one(p.Bilinear((height, width), corners), x)
        raise _refused("a resize", f"is {mode}")

    def padded(self, x: Node, padding: Sequence[int]) -> Node:
        left, right, above, below = padding
        if min(padding) < 0:
            raise _refused("a padding", "cuts")
        return self.one(p.Pad((above, left, below, right)), x)

    # --- functions ----------------------------------------------------------------------------------------

    def function(self, node: fx.Node) -> Value:
        target, given = node.target, partial(_given, node)
        if target is torch.cat:
            if given(1, "dim", 0) not in (1, -3):
                raise _refused(_place(node), "joins other axes than channels")
            parts = self.tensors(given(0, "tensors"))
            return self.add(Concat(), tuple(parts), sum(part.channels for part in parts))
        if target is operator.getitem:
            found, index = self.values[node.args[0]], node.args[1]  # type: ignore[index]
            if not isinstance(found, list) or not isinstance(index, int):
                raise _refused(_place(node), "indexes a tensor")
            return found[index]
        if target in SUMS:
            return self.of_two(node, Sum())
        if target in PRODUCTS:
            return self.of_two(node, Product())
        (x,) = self.tensors([given(0, "input")])
        if target in (torch.chunk, "chunk"):
            return self.parts(x, -(-x.channels // given(1, "chunks")), given(2, "dim", 0), _place(node))
        if target in (torch.split, "split"):
            return self.parts(x, given(1, "split_size"), given(2, "dim", 0), _place(node))
        return self.function_of_one(node, x)

    def function_of_one(self, node: fx.Node, x: Node) -> Node:
        target: Any = node.target
        given = partial(_given, node)
        if target in CHANGES:
            return self.one(CHANGES[target], x)
        if target in (F.dropout, F.dropout2d, "contiguous"):
            return x
        if target is F.max_pool2d:
            padding, dilation = given(3, "padding", 0), given(4, "dilation", 1)
            return self.max_pool(
                x, given(1, "kernel_size"), given(2, "stride"), padding, dilation, given(5, "ceil_mode")
            )
        if target is F.avg_pool2d:
            around, ceil = given(3, "padding", 0), given(4, "ceil_mode")
            return self.average_pool(x, given(1, "kernel_size"), given(2, "stride"), around, ceil)
        if target is F.interpolate and given(1, "size") is None:
            mode, corners = given(3, "mode", "nearest"), bool(given(4, "align_corners"))
            return self.resized(x, given(2, "scale_factor"), mode, corners)
        if target is F.pad and given(2, "mode", "constant") == "constant" and not given(3, "value"):
            return self.padded(x, (*given(1, "pad"), 0, 0)[:4])
        if target is F.adaptive_avg_pool2d and _pair(given(1, "output_size")) == (1, 1):
            return self.one(p.Mean(), x)
        raise _refused(_place(node), f"calls {getattr(target, '__name__', target)}")

    def of_two(self, node: fx.Node, op: Op) -> Node:
        both = self.tensors(node.args)
        if len(both) != 2:
            raise _refused(_place(node), "takes a number")
        a, b = both
        if a.channels != b.channels:
            raise _refused(_place(node), f"brings {a.channels} and {b.channels} channels together")
        return self.add(op, (a, b), a.channels)

    def parts(self, x: Node, size: Any, axis: int, name: str) -> list[Node]:
        if axis not in (1, -3) or not isinstance(size, int):
            raise _refused(name, "does not split channels evenly")
        return [
            self.add(Slice(first), (x,), min(size, x.channels - first), x.grid) for first in range(0, x.channels, size)
        ]


def grid_of(spec: Spec, state: Any) -> p.Grid:
    """The engine's grid of a quantised input; `state` has the scale (gammas) and the zero point."""
    match spec:
        case Int():
            scale = state.scale.detach().float()
            zero = 0 if state.zero_point is None else int(state.zero_point)
            return p.Uniform(zero, spec.lowest, spec.highest, float(scale), float(1.0 / scale))
        case Fixed():
            return p.Uniform(0, -spec.highest, spec.highest, 2.0**-spec.f, 2.0**spec.f)
        case PowerOfTwo():
            return p.Powers(spec.i, spec.f)
        case Binary(scale="none"):
            return p.Signs((1.0,))
        case ResidualBinary(axis=None):
            return p.Signs(tuple(float(gamma) for gamma in state.scale))
    raise _refused("an input", f"is quantised as {spec}")


def _place(node: fx.Node) -> str:
    """Where an operation is called: the module of the net whose forward does so, and the operation's name."""
    modules = list(node.meta.get("nn_module_stack", {}))
    return f"{modules[-1]}: {node.name}" if modules and modules[-1] else node.name


def _given(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    """An argument of a call."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _window(layer: Any) -> p.Window:
    kernel, stride, dilation = (_pair(each) for each in (_kernel_size(layer), layer.stride, layer.dilation))
    if layer.padding == "same":
        spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        padding = (spans[0] // 2, spans[1] // 2, spans[0] - spans[0] // 2, spans[1] - spans[1] // 2)
    else:
        height, width = (0, 0) if layer.padding == "valid" else _pair(layer.padding)
        padding = (height, width, height, width)
    return p.Window(kernel, stride, dilation, padding)


def _kernel_size(layer: Any) -> Any:
    return layer.codes.shape[3:] if isinstance(layer, IntegerConv2d) else layer.kernel_size


def _pool_window(kernel: Any, stride: Any, padding: Any, dilation: Any) -> p.Window:
    height, width = _pair(padding)
    return p.Window(
        _pair(kernel),
        _pair(kernel if stride in (None, ()) else stride),
        _pair(dilation),
        (height, width, height, width),
    )


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


def _floats(values: Tensor) -> NDArray[np.float32]:
    return values.detach().float().cpu().numpy().astype(np.float32)


def _numbers(kernel: Tensor) -> NDArray[np.float32]:
    """(o, i, h, w) to (o, h, w, i)."""
    return np.ascontiguousarray(_floats(kernel).transpose(0, 2, 3, 1))


def _refused(where: str, what: str) -> ModelFileError:
    return ModelFileError(where, f"{what}, which the engine has no operation for", "export it with --to onnx")
