"""Integer nets in the form ONNX runtimes know as int8: QuantizeLinear and DequantizeLinear around float operations.

A runtime that sees DequantizeLinear on the input (uint8), the weights (int8) and the bias (int32) of a convolution, and
QuantizeLinear right behind it or behind its ReLU, computes it on integers; one that does not computes the same in f32.
A tensor that goes through operations with which rounding commutes, as `nets.operations` says, into one convolution is
brought to that convolution's grid where it is produced.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from pocketseg.errors import ModelFileError
from pocketseg.grids import BinaryPlanes, PowersOfTwo, Uniform
from pocketseg.nets.operations import known
from pocketseg.quant import Spec
from pocketseg.quant.apply import graph_of
from pocketseg.quant.layers import IntegerConv2d, QuantConv2d

# A pair of products with 8-bit inputs, 2 · 255 · 64, fits int16: there CPUs without VNNI would saturate.
WIDE = 64
# Of a bias in int32; one bit stays for what is added to it.
MAX_BIAS = 2**30


def is_quantized(core: nn.Module) -> bool:
    return any(isinstance(module, IntegerConv2d | QuantConv2d) for module in core.modules())


def with_qdq(core: nn.Module) -> nn.Module:
    """A copy of an integer net whose convolutions stand between DequantizeLinear and QuantizeLinear.

    Raises:
        ModelFileError: its numbers are not 8-bit integers on an even grid.
    """
    core = copy.deepcopy(core)
    modules = dict(core.named_modules())
    graph = graph_of(core)
    moving = _Moving(core, graph)
    for node in list(graph.nodes):
        layer = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, QuantConv2d):
            raise _refused(str(node.target), "weights", "f32 beside a quantized input")
        if not isinstance(layer, IntegerConv2d):
            continue
        grid = uint8_grid(layer, str(node.target))
        core.set_submodule(str(node.target), QdqConv2d(layer, grid))
        if grid is not None:
            node.args = (moving.values(node.args[0], grid),)
    graph.lint()
    return fx.GraphModule(core, graph).eval()


class QuantizeLinear(nn.Module):
    """f32 to codes in uint8. Fewer codes are clipped afterwards, so that it stays right behind a convolution."""

    scale: Tensor
    zero_point: Tensor
    lowest: Tensor
    highest: Tensor

    def __init__(self, grid: Uniform) -> None:
        super().__init__()
        self.clips = (grid.lowest, grid.highest) != (0, 255)
        self.register_buffer("scale", torch.tensor(grid.scale))
        self.register_buffer("zero_point", torch.tensor(grid.zero_point, dtype=torch.uint8))
        if self.clips:
            self.register_buffer("lowest", torch.tensor(grid.lowest, dtype=torch.uint8))
            self.register_buffer("highest", torch.tensor(grid.highest, dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        codes = _onnx("QuantizeLinear", [x, self.scale, self.zero_point], torch.uint8, x.shape)
        return _onnx("Clip", [codes, self.lowest, self.highest], torch.uint8, x.shape) if self.clips else codes


class DequantizeLinear(nn.Module):
    """Codes to what they mean, in f32: (code − zero point) · scale."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, scale: Tensor, zero_point: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", zero_point)

    def forward(self, codes: Tensor) -> Tensor:
        attributes = {"axis": 0} if self.scale.ndim else {}
        inputs = [codes, self.scale, self.zero_point]
        return _onnx("DequantizeLinear", inputs, torch.float32, codes.shape, attributes)


def _onnx(
    name: str, inputs: list[Tensor], dtype: torch.dtype, shape: Any, attributes: dict[str, Any] | None = None
) -> Tensor:
    out: Tensor = torch.onnx.ops.symbolic(name, inputs, attributes or {}, dtype=dtype, shape=shape)
    return out


class QdqConv2d(nn.Module):
    """A convolution of dequantized weights, with a dequantized bias where the input has a grid.

    Runtimes add the bias as an integer, in units of scale of input · scale of weights. Weights of few bits would make
    this unit coarse; their codes are spread over int8 and their scale divided, which means the same. A channel whose
    unit is too small for its bias (a norm's factor of 0, say) gets a larger one, and its weights are rounded to it.
    """

    codes: Tensor
    bias: Tensor

    def __init__(self, layer: IntegerConv2d, grid: Uniform | None) -> None:
        super().__init__()
        self.geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)
        unit, bias = layer.m[0, 0].double(), layer.b.double()
        # Without a grid m is the scale of the weights, and the bias stays in f32.
        input_scale = 1.0 if grid is None else grid.scale
        spread = max(1, WIDE // max(1, int(layer.codes.abs().max())))
        codes = layer.codes[0].double() * (unit.sign() * spread)[:, None, None, None]
        wanted = unit.abs() / spread
        unit = torch.maximum(wanted, bias.abs() / MAX_BIAS)
        unit = torch.where(unit > 0, unit, 1.0)
        codes = torch.round(codes * (wanted / unit)[:, None, None, None])
        scale = (unit / input_scale).float()
        self.register_buffer("codes", codes.to(torch.int8))
        self.weights = DequantizeLinear(scale, torch.zeros_like(scale, dtype=torch.int8))
        self.biases = None
        if grid is None:
            self.register_buffer("bias", layer.b)
            return
        bias_scale = scale * torch.tensor(input_scale)
        self.register_buffer("bias", torch.round(bias / bias_scale.double()).to(torch.int32))
        self.biases = DequantizeLinear(bias_scale, torch.zeros_like(self.bias))

    def forward(self, x: Tensor) -> Tensor:
        bias = self.bias if self.biases is None else self.biases(self.bias)
        stride, padding, dilation, groups = self.geometry
        return F.conv2d(x, self.weights(self.codes), bias, stride, padding, dilation, groups)


class _Moving:
    """Puts quantizers into a graph, as near to the producers of their tensors as rounding commutes."""

    def __init__(self, core: nn.Module, graph: fx.Graph) -> None:
        self.core, self.graph = core, graph
        self.modules = dict(core.named_modules())
        self.made: dict[tuple[fx.Node, Uniform], fx.Node] = {}

    def values(self, node: fx.Node, grid: Uniform) -> fx.Node:
        """What `node` means on the grid."""
        if (node, grid) in self.made:
            return self.made[node, grid]
        layer = self.modules.get(str(node.target)) if node.op == "call_module" else None
        passed = known(node, layer)
        if len(node.users) == 1 and passed is not None and passed.moves:
            node.args = fx.map_arg(node.args, lambda before: self.values(before, grid))
        place = f"grid_{len(self.made)}"
        scale, zero_point = torch.tensor(grid.scale), torch.tensor(grid.zero_point, dtype=torch.uint8)
        pair = nn.Sequential(QuantizeLinear(grid), DequantizeLinear(scale, zero_point))
        self.core.add_module(place, pair)
        with self.graph.inserting_after(node):
            self.made[node, grid] = self.graph.call_module(place, (node,))
        return self.made[node, grid]


def uint8_grid(layer: IntegerConv2d, name: str) -> Uniform | None:
    """The grid of a layer's input in uint8; None where it is f32.

    Raises:
        ModelFileError: its input or its weights have no even grid of 8 bits.
    """
    if len(layer.codes) > 1 or int(layer.codes.abs().max()) > 127:
        raise _refused(name, "weights", layer.weight_spec)
    if layer.input_spec is None:
        return None
    match grid := layer.input_spec.grid(layer.input_state):
        case Uniform(lowest=lowest, highest=highest) if lowest >= 0 and highest <= 255:
            return grid
        case Uniform(lowest=lowest, highest=highest) if lowest >= -128 and highest <= 127:
            # With its zero in the middle: x86 kernels multiply unsigned by signed.
            zero_point, lowest, highest = (each + 128 for each in (grid.zero_point, lowest, highest))
            return Uniform(zero_point, lowest, highest, grid.scale, grid.inverse_scale)
        case Uniform() | PowersOfTwo() | BinaryPlanes() | None:
            raise _refused(name, "input", layer.input_spec)


def _refused(name: str, what: str, spec: Spec | str) -> ModelFileError:
    return ModelFileError(
        f"export to onnx, layer {name}",
        f"ONNX has no integer convolution for its {what}: {spec}",
        "--to onnx-floats writes it as a graph of floats; or use the run's packed.safetensors, or a scheme with 8-bit "
        "activations such as w8a8, w4a8 or w2a8",
    )
