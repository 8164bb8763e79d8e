"""A net between torch and bytes: one node an operation, no torch in it.

Passes are functions from graph to graph; nodes never change, so a pass makes new ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pocketseg.engine import program as p
from pocketseg.grids import Quantization


@dataclass(frozen=True)
class Concat:
    """Channels side by side."""


@dataclass(frozen=True)
class Slice:
    """Some channels, from `first` on."""

    first: int


@dataclass(frozen=True)
class Quantize:
    """f32 to codes."""

    grid: Quantization


@dataclass(frozen=True)
class Sum:
    """Two tensors added."""


@dataclass(frozen=True)
class Product:
    """Two tensors multiplied."""


ChangeOfOne = p.Affine | p.Relu | p.Clip | p.Sigmoid | p.TernaryTanh | p.Snap | p.Softmax
Op = p.Operation | ChangeOfOne | Concat | Slice | Quantize | Sum | Product


@dataclass(frozen=True, eq=False)
class Node:
    """An operation and the tensor it makes.

    Attributes:
        op: what is done.
        inputs: whose tensors are taken.
        channels: of the tensor.
        grid: of the tensor; None is f32.
        moves: whether a quantizer of the tensor may move to before the operation, as `nets.operations` says.
    """

    op: Op
    inputs: tuple[Node, ...]
    channels: int
    grid: Quantization | None = None
    moves: bool = False


@dataclass(frozen=True)
class Graph:
    """Nodes in the order in which they run; the last one is the output.

    Attributes:
        nodes: each after its inputs.
        in_channels: of the image.
        multiple: height and width of the image are multiples of it.
    """

    nodes: tuple[Node, ...]
    in_channels: int
    multiple: int

    def users(self) -> dict[Node, list[Node]]:
        """Who takes each tensor, once for every time it is taken."""
        found: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for node in self.nodes:
            for source in node.inputs:
                found[source].append(node)
        return found


Change = Callable[[Node, tuple[Node, ...]], Node]


def same(node: Node, inputs: tuple[Node, ...]) -> Node:
    """The node with other inputs."""
    unchanged = len(inputs) == len(node.inputs) and all(a is b for a, b in zip(inputs, node.inputs, strict=True))
    return node if unchanged else dataclasses.replace(node, inputs=inputs)


def rebuilt(graph: Graph, change: Change) -> Graph:
    """The graph with every node replaced by what `change` makes of it and its new inputs; what nobody takes is gone."""
    new: dict[Node, Node] = {}
    for node in graph.nodes:
        new[node] = change(node, tuple(new[source] for source in node.inputs))
    ordered = _with_sources(new.values())
    needed = {new[graph.nodes[-1]]}
    for node in reversed(ordered):
        if node in needed:
            needed.update(node.inputs)
    return Graph(tuple(node for node in ordered if node in needed), graph.in_channels, graph.multiple)


def _with_sources(nodes: Iterable[Node]) -> list[Node]:
    """The nodes, each once and right after those of its sources that were not there yet."""
    ordered: dict[Node, None] = {}
    for node in nodes:
        waiting = [node]
        while waiting:
            missing = [source for source in waiting[-1].inputs if source not in ordered]
            if missing:
                waiting += reversed(missing)
            else:
                ordered.setdefault(waiting.pop())
    return list(ordered)
