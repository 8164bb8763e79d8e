"""A graph as a program: what follows an operation pixel by pixel is done with it; concatenations are written in place.

The order is that of the graph. Memory is planned by the engine, where the size of the image is known.
"""

from __future__ import annotations

from typing import get_args

from pocketseg.engine import program as p
from pocketseg.packing.graph import ChangeOfOne, Concat, Graph, Node, Product, Quantize, Slice, Sum

CHANGES = get_args(ChangeOfOne)
NO_INSTRUCTION = (Concat, Slice)


def scheduled(graph: Graph, *, fuse: bool = True) -> p.Program:
    """The program of a graph.

    Args:
        graph: with whatever passes it went through.
        fuse: False gives every operation an instruction of its own, and copies concatenations: slower, with the same
            results to the bit, which is what tests compare.
    """
    return _Schedule(graph, fuse).program()


class _Schedule:
    def __init__(self, graph: Graph, fuse: bool) -> None:
        self.graph, self.fuse = graph, fuse
        self.users = graph.users()
        self.position = {node: index for index, node in enumerate(graph.nodes)}
        # Tensors of one pixel, which meet larger ones as if they were repeated.
        self.pixels: set[Node] = set()
        # First node of a chain of operations that are one instruction -> all of them in order.
        self.chains: dict[Node, list[Node]] = {}
        self.absorbed: set[Node] = set()
        self.buffers: list[p.Buffer] = []
        self.views: dict[Node, p.View] = {}
        self.copied: dict[Node, list[tuple[Node, p.View]]] = {}

    def program(self) -> p.Program:
        self.find_chains()
        self.place_concatenations()
        instructions = [each for node in self.graph.nodes for each in self.instructions(node)]
        (image,) = (node for node in self.graph.nodes if isinstance(node.op, p.Input))
        return p.Program(
            image.channels,
            self.graph.nodes[-1].channels,
            self.graph.multiple,
            tuple(self.buffers),
            tuple(instructions),
        )

    # --- what is one instruction --------------------------------------------------------------------------

    def find_chains(self) -> None:
        for node in self.graph.nodes:
            if isinstance(node.op, p.Mean) or (node.inputs and self.pixels.issuperset(node.inputs)):
                self.pixels.add(node)
        for node in self.graph.nodes:
            if node in self.absorbed or isinstance(node.op, NO_INSTRUCTION):
                continue
            chain = [node]
            # A quantizer is the end of a chain: its codes are written, nothing is computed on them.
            while self.fuse and not isinstance(node.op, Quantize) and (user := self.next(chain)):
                chain.append(user)
            self.chains[node] = chain
            self.absorbed.update(chain[1:])
            if self.fuse and node.grid is None:
                self.absorbed.update(self.quantizers(chain[-1]))

    def next(self, chain: list[Node]) -> Node | None:
        """The node that can follow in the same instruction."""
        last = chain[-1]
        if len(self.users[last]) != 1 or last.grid is not None:
            return None
        (user,) = self.users[last]
        if isinstance(user.op, CHANGES):
            return user
        if isinstance(user.op, Sum | Product):
            (other,) = (source for source in user.inputs if source is not last)
            # The other tensor must be there before this instruction begins, and be no larger.
            smaller = last in self.pixels and other not in self.pixels
            return user if self.position[other] < self.position[chain[0]] and not smaller else None
        return None

    def quantizers(self, node: Node) -> list[Node]:
        return [user for user in self.users[node] if isinstance(user.op, Quantize)]

    # --- where tensors lie --------------------------------------------------------------------------------

    def place_concatenations(self) -> None:
        """From the last one up, so that a concatenation of concatenations is one buffer.

        What meets an upsampled tensor is copied beside it: the engine brings both together row by row, and the
        concatenation need not be there as a whole from the time the first of its parts is.
        """
        for node in reversed(self.graph.nodes):
            if not isinstance(node.op, Concat):
                continue
            upsampled = any(isinstance(part.op, p.Nearest) for part in node.inputs)
            whole, first = self.view(node), 0
            for part in node.inputs:
                place = p.View(whole.buffer, whole.first + first, part.channels)
                first += part.channels
                once = node.inputs.count(part) == 1
                late = upsampled and not isinstance(part.op, p.Nearest)
                if self.fuse and once and not late and part not in self.views and not isinstance(part.op, Slice):
                    self.views[part] = place
                else:
                    self.copied.setdefault(node, []).append((part, place))

    def view(self, node: Node) -> p.View:
        """Where a tensor lies; a place is made for one that has none."""
        if node not in self.views:
            if isinstance(node.op, Slice):
                source = self.view(node.inputs[0])
                self.views[node] = p.View(source.buffer, source.first + node.op.first, node.channels)
            else:
                self.buffers.append(p.Buffer(node.channels, node.grid))
                self.views[node] = p.View(len(self.buffers) - 1, 0, node.channels)
        return self.views[node]

    # --- instructions -------------------------------------------------------------------------------------

    def instructions(self, node: Node) -> list[p.Instruction]:
        if isinstance(node.op, Concat):
            copies = self.copied.get(node, [])
            return [p.Instruction(p.Copy(), (self.view(part),), (), (place,)) for part, place in copies]
        if node not in self.chains:
            return []
        chain = self.chains[node]
        if isinstance(node.op, p.Operation):
            operation: p.Operation = node.op
            last, steps = node, chain[1:]
        else:
            # A sum that stands alone is a copy of one tensor, and a step that adds the other one.
            last = min(node.inputs, key=self.pixels.__contains__)
            operation, steps = p.Copy(), chain
        reads = (self.view(last),) if steps is chain else tuple(self.view(source) for source in node.inputs)
        done: list[p.Step] = []
        for each in steps:
            done += self.steps(each, last)
            last = each
        return [p.Instruction(operation, reads, tuple(done), self.writes(chain[-1]))]

    def steps(self, node: Node, last: Node) -> list[p.Step]:
        """What a node does to the values of the one before it."""
        match node.op:
            case Sum() | Product():
                a, b = node.inputs
                other = self.view(b if a is last else a)
                return [p.Add(other) if isinstance(node.op, Sum) else p.Multiply(other)]
            case Quantize():
                return []
        assert isinstance(node.op, p.Step)
        return [node.op]

    def writes(self, last: Node) -> tuple[p.View, ...]:
        if isinstance(last.op, p.Output):
            return ()
        codes = self.quantizers(last) if self.fuse and last.grid is None else []
        values = [last] if len(codes) < len(self.users[last]) else []
        return tuple(self.view(node) for node in (*values, *codes))
