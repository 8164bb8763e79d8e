"""What makes a graph faster and leaves its results as they are: to the bit, except where a norm enters f32 weights."""

from __future__ import annotations

import dataclasses
from functools import reduce

import numpy as np

from pocketseg.engine import program as p
from pocketseg.grids import BinaryPlanes, Quantization
from pocketseg.packing.graph import Concat, Graph, Node, Quantize, rebuilt, same
from pocketseg.packing.weights import float_numbers, float_weights


def fold_norms(graph: Graph) -> Graph:
    """A norm right behind an f32 convolution enters its weights and bias: computed in f64, rounded once."""
    users = graph.users()
    folded: dict[Node, p.Affine] = {}
    for node in graph.nodes:
        if isinstance(node.op, p.Affine) and len(users[node.inputs[0]]) == 1 and _is_float(node.inputs[0].op):
            folded[node.inputs[0]] = node.op

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        if node in folded:
            assert isinstance(node.op, p.Convolution | p.Transposed)
            return Node(_scaled(node.op, folded[node]), inputs, node.channels)
        if node.inputs and node.inputs[0] in folded and isinstance(node.op, p.Affine):
            return inputs[0]
        return same(node, inputs)

    return rebuilt(graph, change)


def _is_float(op: object) -> bool:
    return isinstance(op, p.Convolution | p.Transposed) and op.weights.kind == "f32"


def _scaled(op: p.Convolution | p.Transposed, norm: p.Affine) -> p.Convolution | p.Transposed:
    m, b = norm.m.astype(np.float64), norm.b.astype(np.float64)
    kernel = float_numbers(op.weights, op.channels).astype(np.float64) * m[:, None]
    bias = (op.b.astype(np.float64) * m + b).astype(np.float32)
    return dataclasses.replace(op, weights=float_weights(kernel.astype(np.float32)), b=bias)


def quantize_early(graph: Graph) -> Graph:
    """Quantizers move before what only moves or compares numbers, so that codes are moved and f32 is not stored.

    `nets.operations` says what that is. Planes of signs keep no order, so maxima of them stay f32; and a part of a
    concatenation of bits begins at a byte.
    """
    users = graph.users()

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        if isinstance(node.op, Quantize) and len(users[node.inputs[0]]) == 1 and _commutes(inputs[0], node.op.grid):
            grid, moving = node.op.grid, inputs[0]
            sources = tuple(Node(Quantize(grid), (source,), source.channels, grid) for source in moving.inputs)
            return dataclasses.replace(moving, inputs=sources, grid=grid)
        return same(node, inputs)

    # Each turn brings quantizers one operation further up.
    before, after = graph, rebuilt(graph, change)
    while after.nodes != before.nodes:
        users, before = after.users(), after
        after = rebuilt(after, change)
    return after


def _commutes(node: Node, grid: Quantization) -> bool:
    if not node.moves or not isinstance(grid, BinaryPlanes):
        return node.moves
    match node.op:
        case p.MaxPool():
            return len(grid.gammas) == 1
        case Concat():
            return all(part.channels % 8 == 0 for part in node.inputs[:-1])
    return True


def merge_quantizers(graph: Graph) -> Graph:
    """One tensor that is quantized twice on one grid is quantized once."""
    made: dict[tuple[Node, Quantization], Node] = {}

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        if not isinstance(node.op, Quantize):
            return same(node, inputs)
        return made.setdefault((inputs[0], node.op.grid), same(node, inputs))

    return rebuilt(graph, change)


def pad_in_convolutions(graph: Graph) -> Graph:
    """A convolution pads by itself what a padding before it did."""

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        if isinstance(node.op, p.Convolution) and isinstance(inputs[0].op, p.Pad):
            window, before = node.op.window, inputs[0].op.padding
            above, left, below, right = (a + b for a, b in zip(window.padding, before, strict=True))
            op = dataclasses.replace(node.op, window=dataclasses.replace(window, padding=(above, left, below, right)))
            return Node(op, inputs[0].inputs, node.channels, node.grid)
        return same(node, inputs)

    return rebuilt(graph, change)


PASSES = (fold_norms, quantize_early, merge_quantizers, pad_in_convolutions)


def optimized(graph: Graph) -> Graph:
    """All passes in their order."""
    return reduce(lambda now, step: step(now), PASSES, graph)
