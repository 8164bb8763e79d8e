"""A segmentation net in an ONNX file as a torch module, of the operations that such nets are made of.

https://onnx.ai/onnx/operators says what each operation computes. What is not here is refused by its name and place; the
caller compares the module with a runtime of ONNX, since files differ in how exporters write the same layer.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from pocketseg.errors import ModelFileError
from pocketseg.text import counted

Array = NDArray[np.generic]


def module_of(model: Any, where: str) -> nn.Module:
    """The net of an ONNX model.

    Args:
        model: an `onnx.ModelProto` of one input (n, c, h, w) and one output, with its weights inside.
        where: the file, for messages.

    Raises:
        ModelFileError: an operation, or a use of one, that is not known here; it is named.
    """
    return _Reader(model, where).module()


class _Reader:
    def __init__(self, model: Any, where: str) -> None:
        from onnx import numpy_helper

        self.model_graph, self.where = model.graph, where
        self.constants: dict[str, Array] = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.values: dict[str, fx.Node] = {}

    def module(self) -> nn.Module:
        inputs = [each.name for each in self.model_graph.input if each.name not in self.constants]
        outputs = [each.name for each in self.model_graph.output]
        if (len(inputs), len(outputs)) != (1, 1):
            found = f"{counted(len(inputs), 'input')} and {counted(len(outputs), 'output')}"
            what = f"has {found}; a net of one image has one each"
            raise ModelFileError(self.where, what, "export the net alone")
        self.values[inputs[0]] = self.graph.placeholder("image")
        for number, node in enumerate(self.model_graph.node):
            self.read(node, f"{node.op_type.lower()}_{number}")
        if outputs[0] not in self.values:
            raise ModelFileError(self.where, "its output does not depend on the image", "export it again")
        self.graph.output(self.values[outputs[0]])
        return fx.GraphModule(self.root, self.graph).eval()

    def read(self, node: Any, name: str) -> None:
        from onnx import helper, numpy_helper

        given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type == "Constant":
            value = given.get("value")
            self.constants[node.output[0]] = (
                numpy_helper.to_array(value) if value is not None else np.asarray(next(iter(given.values())))
            )
            return
        if node.op_type == "Identity" and node.input[0] in self.constants:
            self.constants[node.output[0]] = self.constants[node.input[0]]
            return
        make = OPERATIONS.get(node.op_type)
        if make is None:
            raise self.refused(node, "is not an operation that can be packed")
        made = make(self, node, given)
        if isinstance(made, nn.Module):
            self.root.add_module(name, made)
            made = self.graph.call_module(name, (self.tensor(node, 0),))
        self.values[node.output[0]] = made

    def tensor(self, node: Any, position: int) -> fx.Node:
        found = self.values.get(node.input[position])
        if found is None:
            raise self.refused(node, f"takes a constant as its input {position}")
        return found

    def constant(self, node: Any, position: int, default: Array | None = None) -> Array:
        """An input that is a weight or a setting."""
        if position >= len(node.input) or not node.input[position]:
            if default is None:
                raise self.refused(node, f"has no input {position}")
            return default
        found = self.constants.get(node.input[position])
        if found is None:
            raise self.refused(node, f"computes its input {position}, which should be a constant")
        return found

    def refused(self, node: Any, what: str) -> ModelFileError:
        name = f" {node.name!r}" if node.name else f" (that makes {node.output[0]!r})"
        return ModelFileError(self.where, f"its {node.op_type}{name} {what}", "use it as ONNX, which needs no packing")


Made = nn.Module | fx.Node
Given = Mapping[str, Any]


def _weights(values: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32).copy())


def _padding(reader: _Reader, node: Any, given: Given, kernel: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, right, top, bottom)."""
    mode = given.get("auto_pad", b"NOTSET").decode()
    if mode in ("NOTSET", ""):
        top, left, bottom, right = given.get("pads", [0, 0, 0, 0])
        return left, right, top, bottom
    if mode == "VALID":
        return 0, 0, 0, 0
    extents = [(size - 1) * step for size, step in zip(kernel, given.get("dilations", [1, 1]), strict=True)]
    if list(given.get("strides", [1, 1])) != [1, 1]:
        raise reader.refused(node, f"pads by {mode} with a stride, which depends on the image's size")
    small, large = [each // 2 for each in extents], [each - each // 2 for each in extents]
    first, last = (small, large) if mode == "SAME_UPPER" else (large, small)
    return first[1], last[1], first[0], last[0]


def _padded(layer: nn.Module, pads: tuple[int, int, int, int]) -> nn.Module:
    return layer if not any(pads) else nn.Sequential(nn.ZeroPad2d(pads), layer)


def _convolution(reader: _Reader, node: Any, given: Given) -> Made:
    weight = reader.constant(node, 1)
    if weight.ndim != 4:
        raise reader.refused(node, f"has weights of {weight.ndim} dimensions; only images are convolved")
    kernel, groups = (weight.shape[2], weight.shape[3]), given.get("group", 1)
    left, right, top, bottom = _padding(reader, node, given, kernel)
    even = (left, top) == (right, bottom)
    bias = reader.constant(node, 2, np.zeros(0))
    layer = nn.Conv2d(
        weight.shape[1] * groups, weight.shape[0], kernel, tuple(given.get("strides", (1, 1))),
        (top, left) if even else 0, tuple(given.get("dilations", (1, 1))), groups, bias=bias.size > 0,
    )  # fmt: skip
    _fill(layer, weight=weight, **({"bias": bias} if bias.size else {}))
    return _padded(layer, (0, 0, 0, 0) if even else (left, right, top, bottom))


def _transposed(reader: _Reader, node: Any, given: Given) -> Made:
    weight = reader.constant(node, 1)
    kernel, groups = (weight.shape[2], weight.shape[3]), given.get("group", 1)
    left, right, top, bottom = _padding(reader, node, given, kernel)
    if (left, top) != (right, bottom) or "output_shape" in given:
        raise reader.refused(node, "pads its sides unequally")
    bias = reader.constant(node, 2, np.zeros(0))
    layer = nn.ConvTranspose2d(
        weight.shape[0], weight.shape[1] * groups, kernel, tuple(given.get("strides", (1, 1))), (top, left),
        tuple(given.get("output_padding", (0, 0))), groups, bias.size > 0, tuple(given.get("dilations", (1, 1))),
    )  # fmt: skip
    _fill(layer, weight=weight, **({"bias": bias} if bias.size else {}))
    return layer


def _norm(reader: _Reader, node: Any, given: Given) -> Made:
    scale, shift, mean, variance = (reader.constant(node, position) for position in range(1, 5))
    layer = nn.BatchNorm2d(len(scale), eps=given.get("epsilon", 1e-5))
    _fill(layer, weight=scale, bias=shift, running_mean=mean, running_var=variance)
    return layer


@torch.no_grad()
def _fill(layer: nn.Module, **values: Array) -> None:
    for name, value in values.items():
        getattr(layer, name).copy_(_weights(value))


def _clip(reader: _Reader, node: Any, given: Given) -> Made:
    low = float(reader.constant(node, 1, np.asarray(given.get("min", -np.inf), np.float32)))
    high = float(reader.constant(node, 2, np.asarray(given.get("max", np.inf), np.float32)))
    if (low, high) == (0.0, np.inf):
        return nn.ReLU()
    return nn.ReLU6() if (low, high) == (0.0, 6.0) else nn.Hardtanh(low, high)


def _softmax(reader: _Reader, node: Any, given: Given) -> Made:
    if given.get("axis", -1) not in (1, -3):
        raise reader.refused(node, "runs along another axis than the channels")
    return nn.Softmax(dim=1)


def _max_pool(reader: _Reader, node: Any, given: Given) -> Made:
    kernel = tuple(given["kernel_shape"])
    left, right, top, bottom = _padding(reader, node, given, kernel)
    if (left, top) != (right, bottom):
        raise reader.refused(node, "pads its sides unequally")
    stride, dilations = tuple(given.get("strides", (1, 1))), tuple(given.get("dilations", (1, 1)))
    return nn.MaxPool2d(kernel, stride, (top, left), dilations, ceil_mode=bool(given.get("ceil_mode", 0)))


def _average_pool(reader: _Reader, node: Any, given: Given) -> Made:
    kernel = tuple(given["kernel_shape"])
    pads = _padding(reader, node, given, kernel)
    if any(pads):
        raise reader.refused(node, "pads")
    return nn.AvgPool2d(kernel, tuple(given.get("strides", (1, 1))), ceil_mode=bool(given.get("ceil_mode", 0)))


def _resize(reader: _Reader, node: Any, given: Given) -> Made:
    scales = reader.constant(node, 1 if node.op_type == "Upsample" else 2, np.zeros(0))
    if scales.size != 4 or scales[0] != 1 or scales[1] != 1:
        raise reader.refused(node, "does not scale height and width by constants")
    factor = (float(scales[2]), float(scales[3]))
    mode = given.get("mode", b"nearest").decode()
    coordinates = given.get("coordinate_transformation_mode", b"half_pixel").decode()
    if node.op_type == "Upsample":
        coordinates = "asymmetric"
    if mode == "nearest" and all(each == int(each) for each in factor):
        rounding = given.get("nearest_mode", b"round_prefer_floor").decode()
        if (coordinates, rounding) in NEAREST or node.op_type == "Upsample":
            return nn.Upsample(scale_factor=factor, mode="nearest")
    if mode == "linear" and coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        return nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=coordinates == "align_corners")
    raise reader.refused(node, f"resizes by {mode} with {coordinates}")


# Ways of naming the source pixel that agree for whole factors.
NEAREST = {("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("half_pixel", "round_prefer_ceil")}


def _concat(reader: _Reader, node: Any, given: Given) -> Made:
    if given.get("axis") not in (1, -3):
        raise reader.refused(node, "joins along another axis than the channels")
    parts = [reader.tensor(node, position) for position in range(len(node.input))]
    return reader.graph.call_function(torch.cat, (parts, 1))


def _pad(reader: _Reader, node: Any, given: Given) -> Made:
    pads = reader.constant(node, 1, np.asarray(given.get("pads", [])))
    value = float(reader.constant(node, 2, np.asarray(given.get("value", 0), np.float32)).item())
    mode = given.get("mode", b"constant").decode()
    if mode != "constant" or value != 0 or pads.size != 8 or any(pads[[0, 1, 4, 5]]):
        raise reader.refused(node, "pads with something else than zeros around the image")
    top, left, bottom, right = (int(pads[at]) for at in (2, 3, 6, 7))
    return nn.ZeroPad2d((left, right, top, bottom))


def _of_two(function: Callable[..., Any]) -> Callable[[_Reader, Any, Given], Made]:
    def make(reader: _Reader, node: Any, given: Given) -> Made:
        return reader.graph.call_function(function, (reader.tensor(node, 0), reader.tensor(node, 1)))

    return make


def _global_mean(reader: _Reader, node: Any, given: Given) -> Made:
    return nn.AdaptiveAvgPool2d(1)


OPERATIONS: dict[str, Callable[[_Reader, Any, Given], Made]] = {
    "Add": _of_two(operator.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _norm,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Dropout": lambda *_: nn.Identity(),
    "GlobalAveragePool": _global_mean,
    "Identity": lambda *_: nn.Identity(),
    "MaxPool": _max_pool,
    "Mul": _of_two(operator.mul),
    "Pad": _pad,
    "Relu": lambda *_: nn.ReLU(),
    "Resize": _resize,
    "Sigmoid": lambda *_: nn.Sigmoid(),
    "Softmax": _softmax,
    "Upsample": _resize,
}
