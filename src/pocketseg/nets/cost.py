"""What a net costs at an input size: parameters, multiply-accumulates, memory, receptive field, layer by layer.

Everything is read from the traced net on torch's meta device: no weight is drawn and nothing is multiplied.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from pocketseg.errors import PocketsegError, RecipeError
from pocketseg.nets.encoder_base import Encoder
from pocketseg.nets.encoders import Foreign
from pocketseg.nets.operations import Operation, no_macs, operation
from pocketseg.nets.rows import Array, same

FLOAT_BYTES = 4
# Layers that lead from one part of a net to the next, and belong to neither.
BETWEEN = (nn.MaxPool2d, nn.AvgPool2d, nn.Upsample)


@dataclass(frozen=True)
class Layer:
    """One tensor of the net and what made it.

    Attributes:
        name: path of the module, or of the module that called the function, with the function's name.
        kind: what a reader calls it, such as `depthwise 3×3` or `concat`.
        stage: the part of the net that a figure shows as one box, such as `encoder.0`; empty between the parts.
        shape: of the output, (c, h, w).
        inputs: names of the layers whose output it takes.
        parameters: trainable numbers.
        buffers: running statistics of norms.
        macs: multiply-accumulates of one image.
        bits: of a weight; 0 where there are none.
        bytes: of parameters and buffers.
    """

    name: str
    kind: str
    stage: str
    shape: tuple[int, ...]
    inputs: tuple[str, ...]
    parameters: int
    buffers: int
    macs: int
    bits: int
    bytes: int


@dataclass(frozen=True)
class Cost:
    """What one image of a given size costs, in f32.

    Attributes:
        layers: in the order in which they run; the first is the image.
        input_shape: (c, h, w).
        parameters: trainable numbers.
        buffers: numbers that are kept but not trained; a norm's counter of batches is not among them.
        macs: multiply-accumulates of convolutions, transposed convolutions and linear layers. Norms, ReLU, pooling,
            resizing and biases are not counted. A transposed convolution is counted from its input.
        largest_activation_bytes: the largest tensor that a layer makes.
        peak_bytes: the most that is held at once, layer after layer in the order in which they run: the inputs of the
            layer, its output, and everything that is still needed later, the image too. A tensor goes right after its
            last use. What works in place and what only looks at its input (dropout in inference, reshape) adds nothing.
            Weights and the workspace of the kernels are not in it.
        receptive_field: rows of the image that one row of logits can depend on, at most, as if the image had no
            border; counted from the first such row to the last. None is the whole image.
        bytes: parameters and buffers.
    """

    layers: tuple[Layer, ...]
    input_shape: tuple[int, int, int]
    parameters: int
    buffers: int
    macs: int
    largest_activation_bytes: int
    peak_bytes: int
    receptive_field: int | None
    bytes: int


def cost(core: nn.Module, input_shape: tuple[int, int, int]) -> Cost:
    """What a net costs in inference.

    Args:
        core: a net without its size wrapper, on any device; it is not changed.
        input_shape: (c, h, w) of the image; h and w are multiples of the net's stride.

    Raises:
        RecipeError: h or w is not such a multiple.
        PocketsegError: the net has an operation whose cost is not known.
    """
    stride = int(getattr(core, "stride", 1))
    if any(side < 1 or side % stride for side in input_shape[1:]):
        near = "×".join(str(max(1, -(-side // stride)) * stride) for side in input_shape[1:])
        raise RecipeError(
            f"size {input_shape[1]}×{input_shape[2]}", f"this net needs multiples of {stride}", f"take {near}"
        )
    core = _on_meta(core).eval()
    traced = fx.symbolic_trace(core)
    run = _Run(traced)
    run.run(torch.zeros(1, *input_shape, device="meta", dtype=torch.float32))
    layers = tuple(_layers(core, traced, run.shapes))
    return Cost(
        layers=layers,
        input_shape=input_shape,
        parameters=sum(layer.parameters for layer in layers),
        buffers=sum(layer.buffers for layer in layers),
        macs=sum(layer.macs for layer in layers),
        largest_activation_bytes=max(FLOAT_BYTES * math.prod(layer.shape) for layer in layers[1:]),
        peak_bytes=run.peak_bytes,
        receptive_field=_receptive_field(traced, run.shapes),
        bytes=sum(layer.bytes for layer in layers),
    )


def _on_meta(core: nn.Module) -> nn.Module:
    """A copy without weights. They are never copied, which is what takes time and memory in large nets."""
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
        for parameter in core.parameters()
    }
    memo |= {id(buffer): torch.empty_like(buffer, device="meta") for buffer in core.buffers()}
    return copy.deepcopy(core, memo)


class _Run(fx.Interpreter):
    """Runs the graph and notes the shape of every tensor, and the most bytes that were held at once."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced, garbage_collect_values=True)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.peak_bytes = 0

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and n.op != "output":
            self.shapes[n] = tuple(value.shape[1:])
        # The inputs of this node are still held; they go after it.
        held = _tensors([*self.env.values(), value])
        storages = {storage._cdata: storage.nbytes() for storage in (tensor.untyped_storage() for tensor in held)}
        self.peak_bytes = max(self.peak_bytes, sum(storages.values()))
        return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _operations(traced: fx.GraphModule) -> dict[fx.Node, tuple[Operation, nn.Module | None]]:
    called = {node: traced.get_submodule(str(node.target)) for node in traced.graph.nodes if node.op == "call_module"}
    return {
        node: (operation(node, called.get(node)), called.get(node))
        for node in traced.graph.nodes
        if node.op != "output" and not _asks_for_a_size(node)
    }


def _asks_for_a_size(node: fx.Node) -> bool:
    """`x.shape`, `x.size(0)`, and arithmetic with them: numbers, which cost nothing."""
    if node.target is getattr or node.target == "size":
        return True
    return (
        node.op == "call_function" and bool(node.all_input_nodes) and all(map(_asks_for_a_size, node.all_input_nodes))
    )


def _layers(core: nn.Module, traced: fx.GraphModule, shapes: Mapping[fx.Node, tuple[int, ...]]) -> Iterator[Layer]:
    names: dict[fx.Node, tuple[str, ...]] = {}
    stages: dict[fx.Node, str] = {}
    seen: dict[str, int] = {}
    counted: set[int] = set()
    for node, (found, module) in _operations(traced).items():
        sources = tuple(dict.fromkeys(name for one in node.all_input_nodes for name in names.get(one, ())))
        if node not in shapes:
            names[node] = sources  # a parameter, or a tuple of tensors whose parts come next
            continue
        name = _name(node)
        seen[name] = seen.get(name, 0) + 1
        name = name if seen[name] == 1 else f"{name} ({seen[name]})"
        names[node] = (name,)
        # A module that runs twice has its weights once.
        tensors = [] if module is None or id(module) in counted else [*module.parameters(), *module.buffers()]
        counted.add(id(module))
        numbers = [tensor for tensor in tensors if tensor.is_floating_point()]
        parameters = sum(tensor.numel() for tensor in numbers if tensor.requires_grad)
        before = next((stages[one] for one in node.all_input_nodes if one in stages), "")
        stages[node] = _stage(core, node, module, found.macs is not no_macs, before)
        source = next((shapes[one] for one in node.all_input_nodes if one in shapes), ())
        yield Layer(
            name=name,
            kind=_with_factor(found.kind, source, shapes[node]),
            stage=stages[node],
            shape=shapes[node],
            inputs=sources,
            parameters=parameters,
            buffers=sum(tensor.numel() for tensor in numbers) - parameters,
            macs=found.macs(source, shapes[node]),
            bits=max((8 * tensor.itemsize for tensor in numbers), default=0),
            bytes=sum(tensor.numel() * tensor.itemsize for tensor in numbers),
        )


def _with_factor(kind: str, source: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """`nearest resize` as `nearest ×2`."""
    if not kind.endswith(" resize"):
        return kind
    return f"{kind.removesuffix(' resize')} ×{shape[-1] / source[-1]:g}"


def _callers(node: fx.Node) -> list[str]:
    """Paths of the modules around a node, from the outside in."""
    return [path for path in node.meta.get("nn_module_stack", {}) if path]


def _name(node: fx.Node) -> str:
    if node.op == "placeholder":
        return "image"
    if node.op == "call_module":
        return str(node.target)
    function = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.name)
    return ".".join([*_callers(node)[-1:], function])


def _stage(core: nn.Module, node: fx.Node, module: nn.Module | None, multiplies: bool, before: str) -> str:
    """The part of the net in which a node lies.

    `encoder.1.0.bias` is of `encoder.1`, since `encoder` only holds parts; `deepest.0` is of `deepest`. A layer that
    stands beside parts is one itself if it multiplies; else it is of the part that it follows. Pooling and resizing
    between parts are of none.
    """
    path = str(node.target) if module is not None else "".join(_callers(node)[-1:])
    names = path.split(".") if path else []
    depth = next((n for n in range(1, len(names) + 1) if not _holds_parts(core, names[:n])), 0)
    # `encoder.features.transition1` is encoder.transition1 to a reader.
    part = ".".join(names[:1] + names[max(1, depth - 1) : depth]) if depth else ""
    if module is None or depth < len(names) or multiplies or isinstance(module, nn.Identity):
        return part
    return "" if isinstance(module, BETWEEN) else before


def _holds_parts(core: nn.Module, names: list[str]) -> bool:
    """Whether the module at this path is not part of the net but a holder of parts. A list inside of a part is none."""
    module = core.get_submodule(".".join(names))
    if len(names) == 1:
        return isinstance(module, nn.ModuleList | Encoder)
    holder = core.get_submodule(names[0])
    inside = isinstance(holder, Foreign) or (isinstance(holder, Encoder) and isinstance(module, nn.ModuleDict))
    return len(names) == 2 and inside


def _receptive_field(traced: fx.GraphModule, shapes: Mapping[fx.Node, tuple[int, ...]]) -> int | None:
    """Intervals of rows, carried from every row of the logits back to the image.

    An interval's ends are rows that the logits do depend on, and every operation carries ends to ends, so that the
    result is exact although rows inside of an interval may be unused.
    """
    operations = _operations(traced)
    nodes = list(traced.graph.nodes)
    (logits,) = nodes[-1].all_input_nodes
    every = np.arange(shapes[logits][-2], dtype=np.float64)
    needed: dict[fx.Node, tuple[Array, Array]] = {logits: (every, every)}
    for node in reversed(nodes[:-1]):
        if node not in needed or node not in operations:
            continue
        first, last = needed[node]
        if node.op == "placeholder":
            extent = float(np.nanmax(last - first + 1))
            return int(extent) if math.isfinite(extent) else None
        for source in node.all_input_nodes:
            if source not in operations:
                continue
            rows = _rows_of(operations[node][0], first, last, shapes.get(source), shapes.get(node))
            before = needed.get(source, rows)
            needed[source] = np.fmin(before[0], rows[0]), np.fmax(before[1], rows[1])
    raise AssertionError("the logits do not depend on the image")


def _rows_of(
    found: Operation, first: Array, last: Array, source: tuple[int, ...] | None, shape: tuple[int, ...] | None
) -> tuple[Array, Array]:
    if source is None or shape is None:
        return first, last  # a tuple of tensors, which only its parts leave
    height_in, height_out = source[-2:][0], shape[-2:][0]
    if found.rows is same and height_in not in (1, height_out):
        raise PocketsegError(
            f"net, {found.kind}",
            f"turns {height_in} rows into {height_out} in an unknown way",
            "fix nets/operations.py",
        )
    return found.rows(first, last, height_in, height_out)
