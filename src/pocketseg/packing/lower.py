"""A torch net, float or on integers, as a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from pocketseg.engine import program as p
from pocketseg.errors import ModelFileError
from pocketseg.grids import Quantization
from pocketseg.nets.operations import IDENTITIES, Operation, argument, known, pair
from pocketseg.packing.graph import Concat, Graph, Node, Op, Product, Quantize, Slice, Sum
from pocketseg.packing.weights import float_weights, packed_weights
from pocketseg.quant import Quantizer, Spec, State, TernaryTanhActivation
from pocketseg.quant.apply import graph_of
from pocketseg.quant.layers import Affine, IntegerConv2d, QuantConv2d, factors

# By their names in `nets.operations`.
CHANGES: dict[str, Op] = {"ReLU": p.Relu(), "ReLU6": p.Clip(0.0, 6.0), "sigmoid": p.Sigmoid(), "softmax": p.Softmax()}
# What a node of the traced net gives: a tensor, or the parts of one.
Value = Node | list[Node]


def lowered(core: nn.Module, in_channels: int) -> Graph:
    """The graph of a net in evaluation.

    Args:
        core: a net without its size wrapper; of a quantized model its integer net.
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
                case "call_module" | "call_function" | "call_method":
                    self.values[node] = self.value(node)
                case "output":
                    (x,) = self.tensors(node.args)
                    self.add(p.Output(), (x,), x.channels)
                case _:
                    raise _refused(_place(node), f"reads {node.target}")
        return Graph(tuple(self.nodes), self.in_channels, self.multiple)

    def add(
        self, op: Op, inputs: tuple[Node, ...], channels: int, grid: Quantization | None = None, *, moves: bool = False
    ) -> Node:
        self.nodes.append(Node(op, inputs, channels, grid, moves))
        return self.nodes[-1]

    def one(self, op: Op, x: Node, *, moves: bool = False) -> Node:
        """An operation that keeps the channels."""
        return self.add(op, (x,), x.channels, x.grid, moves=moves)

    def tensors(self, args: Sequence[Any]) -> list[Node]:
        found = [self.values[arg] for arg in args if isinstance(arg, fx.Node)]
        return [value for value in found if isinstance(value, Node)]

    def value(self, node: fx.Node) -> Value:
        layer = self.modules[str(node.target)] if node.op == "call_module" else None
        found = known(node, layer)
        match found:
            case Operation(name="concat"):
                return self.concatenated(node, found)
            case Operation(name="part"):
                return self.part(node)
            case Operation(name="add"):
                return self.of_two(node, Sum())
            case Operation(name="multiply"):
                return self.of_two(node, Product())
        (x,) = self.tensors([argument(node, 0, "input")])
        if found is not None and found.name == "split":
            return self.parts(x, found, _place(node))
        made = None if layer is None else self.layer(layer, x, str(node.target))
        made = made or (None if found is None else self.plain(found, x))
        if made is None and layer is not None:
            raise _refused(str(node.target), f"is a {type(layer).__name__}")
        if made is None:
            raise _refused(_place(node), f"calls {getattr(node.target, '__name__', node.target)}")
        return made

    # --- layers with numbers of their own -----------------------------------------------------------------

    def layer(self, layer: nn.Module, x: Node, name: str) -> Node | None:
        match layer:
            case IntegerConv2d():
                return self.integer_conv(layer, x)
            case QuantConv2d(inputs=Quantizer() as inputs):
                grid = _grid(inputs.spec, inputs.state(layer.weight))
                return self.conv(layer, self.one(p.Snap(grid), x), name)
            case nn.Conv2d():
                return self.conv(layer, x, name)
            case nn.ConvTranspose2d():
                return self.transposed(layer, x)
            case nn.BatchNorm2d():
                return self.one(p.Affine(*(_floats(part) for part in factors(layer))), x)
            case Affine():
                return self.one(p.Affine(_floats(layer.a), _floats(layer.c)), x)
            case TernaryTanhActivation():
                return self.one(p.TernaryTanh(float(layer.beta)), x)
        return None

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
            grid = _grid(layer.input_spec, layer.input_state)
            x = self.add(Quantize(grid), (x,), x.channels, grid)
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
            _window(layer), pair(layer.output_padding), groups, layer.out_channels,
            float_weights(_numbers(kernel.reshape(layer.out_channels, inside, *layer.kernel_size))),
            _floats(torch.zeros(layer.out_channels) if bias is None else bias),
        )  # fmt: skip
        return self.add(op, (x,), layer.out_channels)

    # --- operations without numbers -----------------------------------------------------------------------

    def plain(self, found: Operation, x: Node) -> Node | None:
        """None where the engine has no such operation."""
        given = found.given
        match found.name:
            case name if name in CHANGES:
                return self.one(CHANGES[name], x)
            case name if name in IDENTITIES:
                return x
            case "hard tanh":
                return self.one(p.Clip(given["low"], given["high"]), x)
            case "max pool" | "average pool":
                return self.pooled(found, x)
            case "global average":
                return self.one(p.Mean(), x)
            case "resize" if given["size"] is None:
                return self.resized(found, x)
            case "pad" if given["zeros"]:
                sides = tuple(given[side] for side in ("above", "left", "below", "right"))
                if min(sides) < 0:
                    raise _refused("a padding", "cuts")
                return self.one(p.Pad(sides), x, moves=found.moves)
        return None

    def pooled(self, found: Operation, x: Node) -> Node:
        given = found.given
        height, width = given["padding"]
        window = p.Window(given["kernel"], given["stride"], given["dilation"], (height, width, height, width))
        if found.name == "max pool":
            if given["ceil"]:
                raise _refused("a pooling", "rounds its size up")
            return self.one(p.MaxPool(window), x, moves=found.moves)
        if given["ceil"] or (height, width) != (0, 0):
            raise _refused("an average pooling", "pads, or rounds its size up")
        return self.one(p.AveragePool(window), x)

    def resized(self, found: Operation, x: Node) -> Node:
        factor, mode, align_corners = (found.given[name] for name in ("factor", "mode", "align_corners"))
        factors = factor if isinstance(factor, tuple) else (factor, factor)
        if factor is None or any(not float(each).is_integer() or each < 1 for each in factors):
            raise _refused("a resize", f"is by a factor of {factor}, no whole number")
        height, width = (int(each) for each in factors)
        match mode:
            case "nearest":
                return self.one(p.Nearest((height, width)), x, moves=found.moves)
            case "bilinear":
                return self.one(p.Bilinear((height, width), align_corners), x)
        raise _refused("a resize", f"is {mode}")

    # --- more or less than one tensor ---------------------------------------------------------------------

    def concatenated(self, node: fx.Node, found: Operation) -> Node:
        if found.given["axis"] not in (1, -3):
            raise _refused(_place(node), "joins other axes than channels")
        parts = self.tensors(argument(node, 0, "tensors"))
        return self.add(Concat(), tuple(parts), sum(part.channels for part in parts), moves=found.moves)

    def part(self, node: fx.Node) -> Node:
        found, index = self.values[node.args[0]], node.args[1]  # type: ignore[index]
        if not isinstance(found, list) or not isinstance(index, int):
            raise _refused(_place(node), "indexes a tensor")
        return found[index]

    def of_two(self, node: fx.Node, op: Op) -> Node:
        both = self.tensors(node.args)
        if len(both) != 2:
            raise _refused(_place(node), "takes a number")
        a, b = both
        if a.channels != b.channels:
            raise _refused(_place(node), f"brings {a.channels} and {b.channels} channels together")
        return self.add(op, (a, b), a.channels)

    def parts(self, x: Node, found: Operation, name: str) -> list[Node]:
        chunks, size = found.given.get("chunks"), found.given.get("size")
        size = size if chunks is None else -(-x.channels // chunks)
        if found.given["axis"] not in (1, -3) or not isinstance(size, int):
            raise _refused(name, "does not split channels evenly")
        return [
            self.add(Slice(first), (x,), min(size, x.channels - first), x.grid) for first in range(0, x.channels, size)
        ]


def _grid(spec: Spec, state: State) -> Quantization:
    grid = spec.grid(state)
    if grid is None:
        raise _refused("an input", f"is quantized as {spec}")
    return grid


def _window(layer: Any) -> p.Window:
    kernel, stride, dilation = (pair(each) for each in (_kernel_size(layer), layer.stride, layer.dilation))
    if layer.padding == "same":
        spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        padding = (spans[0] // 2, spans[1] // 2, spans[0] - spans[0] // 2, spans[1] - spans[1] // 2)
    else:
        height, width = (0, 0) if layer.padding == "valid" else pair(layer.padding)
        padding = (height, width, height, width)
    return p.Window(kernel, stride, dilation, padding)


def _kernel_size(layer: Any) -> Any:
    return layer.codes.shape[3:] if isinstance(layer, IntegerConv2d) else layer.kernel_size


def _floats(values: Tensor) -> NDArray[np.float32]:
    return values.detach().float().cpu().numpy().astype(np.float32)


def _numbers(kernel: Tensor) -> NDArray[np.float32]:
    """(o, i, h, w) to (o, h, w, i)."""
    return np.ascontiguousarray(_floats(kernel).transpose(0, 2, 3, 1))


def _refused(where: str, what: str) -> ModelFileError:
    return ModelFileError(
        where,
        f"{what}, which the engine has no operation for",
        "export it with --to onnx, if quantized --to onnx-floats",
    )


def _place(node: fx.Node) -> str:
    """Where an operation is called: the module of the net whose forward does so, and the operation's name."""
    modules = list(node.meta.get("nn_module_stack", {}))
    return f"{modules[-1]}: {node.name}" if modules and modules[-1] else node.name
