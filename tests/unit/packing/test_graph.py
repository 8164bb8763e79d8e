"""Graphs, each pass by itself, and how a graph becomes instructions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pocketseg.engine import program as p
from pocketseg.errors import ModelFileError
from pocketseg.grids import BinaryPlanes, Uniform
from pocketseg.packing import passes
from pocketseg.packing.graph import Concat, Graph, Node, Quantize, rebuilt, same
from pocketseg.packing.lower import lowered
from pocketseg.packing.schedule import scheduled

BYTES = Uniform(0, 0, 255, 0.5, 2.0)
OTHER = Uniform(3, 0, 255, 0.25, 4.0)
TWO_PLANES = BinaryPlanes((0.5, 0.25))
ONE_PLANE = BinaryPlanes((1.0,))
WINDOW = p.Window((2, 2), (2, 2))


# As `nets.operations` says of the operations of torch that they are made of.
MOVING = (p.MaxPool, p.Nearest, p.Pad, Concat)


def node(op, *inputs, channels=8, grid=None):
    return Node(op, inputs, channels, grid, isinstance(op, MOVING))


def quantized(x, grid):
    return node(Quantize(grid), x, channels=x.channels, grid=grid)


def graph_of(*nodes):
    return Graph(nodes, 8, 1)


def names(graph):
    return [type(each.op).__name__ for each in graph.nodes]


def test_what_nobody_takes_is_gone():
    image = node(p.Input())
    unused, relu = node(p.Relu(), image), node(p.Relu(), image)
    out = node(p.Output(), relu)
    assert rebuilt(graph_of(image, unused, relu, out), same).nodes == (image, relu, out)


@pytest.mark.parametrize("op", [p.MaxPool(WINDOW), p.Nearest((2, 2)), p.Pad((0, 0, 1, 1))], ids=str)
def test_quantizers_move_before_what_commutes(op):
    image = node(p.Input())
    moved = node(op, image)
    codes = quantized(moved, BYTES)
    found = passes.quantize_early(graph_of(image, moved, codes, node(p.Copy(), codes)))
    assert names(found) == ["Input", "Quantize", type(op).__name__, "Copy"]
    assert [each.grid for each in found.nodes] == [None, BYTES, BYTES, None]


@pytest.mark.parametrize(
    ("layer", "moves"),
    [
        (nn.MaxPool2d(2), True), (nn.Upsample(scale_factor=2), True), (nn.ZeroPad2d(1), True),
        (nn.AvgPool2d(2), False), (nn.Upsample(scale_factor=2, mode="bilinear"), False), (nn.ReLU(), False),
        (nn.Hardtanh(), False), (nn.AdaptiveAvgPool2d(1), False), (nn.Conv2d(1, 1, 1), False),
    ],
    ids=str,
)  # fmt: skip
def test_what_commutes_is_reported_by_the_operation_of_torch(layer, moves):
    before_output = lowered(nn.Sequential(layer), 1).nodes[-2]
    assert before_output.moves == moves == isinstance(before_output.op, MOVING)


def test_quantizers_move_to_every_part():
    image = node(p.Input())
    first, second = node(p.Relu(), image), node(p.Sigmoid(), image)
    both = node(Concat(), first, second, channels=16)
    codes = quantized(both, BYTES)
    found = passes.quantize_early(graph_of(image, first, second, both, codes, node(p.Copy(), codes)))
    assert names(found) == ["Input", "Relu", "Sigmoid", "Quantize", "Quantize", "Concat", "Copy"]


@pytest.mark.parametrize(
    ("op", "grid", "channels"),
    [
        (p.Bilinear((2, 2), False), BYTES, 8), (p.AveragePool(WINDOW), BYTES, 8), (p.Relu(), BYTES, 8),
        (p.MaxPool(WINDOW), TWO_PLANES, 8), (Concat(), ONE_PLANE, 12),
    ],
    ids=str,
)  # fmt: skip
def test_quantizers_stay_behind_what_does_not(op, grid, channels):
    image = node(p.Input(), channels=channels)
    other = node(p.Relu(), image, channels=channels)
    moved = (
        node(op, image, other, channels=2 * channels) if isinstance(op, Concat) else node(op, other, channels=channels)
    )
    codes = quantized(moved, grid)
    before = graph_of(image, other, moved, codes, node(p.Copy(), codes))
    assert passes.quantize_early(before).nodes == before.nodes


def test_quantizers_stay_where_f32_is_needed_too():
    image = node(p.Input())
    pooled = node(p.MaxPool(WINDOW), image)
    codes = quantized(pooled, BYTES)
    before = graph_of(image, pooled, codes, node(p.Copy(), codes), node(p.Relu(), pooled))
    before = Graph((*before.nodes, node(Concat(), before.nodes[3], before.nodes[4])), 8, 1)
    assert passes.quantize_early(before).nodes == before.nodes


def test_equal_quantizers_become_one():
    image = node(p.Input())
    same_grid = [quantized(image, BYTES), quantized(image, Uniform(0, 0, 255, 0.5, 2.0)), quantized(image, OTHER)]
    found = passes.merge_quantizers(graph_of(image, *same_grid, node(Concat(), *same_grid)))
    assert names(found) == ["Input", "Quantize", "Quantize", "Concat"]
    assert found.nodes[-1].inputs == (found.nodes[1], found.nodes[1], found.nodes[2])


def test_a_norm_whose_input_is_needed_elsewhere_stays():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)

        def forward(self, x):
            y = self.conv(x)
            return y + self.norm(y)

    graph = lowered(Both().eval(), 1)
    assert names(passes.fold_norms(graph)) == names(graph)
    alone = lowered(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).eval(), 1)
    assert names(passes.fold_norms(alone)) == ["Input", "Convolution", "Output"]


def test_one_instruction_writes_f32_and_two_kinds_of_codes():
    image = node(p.Input())
    relu = node(p.Relu(), image)
    codes, others = quantized(relu, BYTES), quantized(relu, OTHER)
    ends = [node(p.Copy(), codes, grid=BYTES), node(p.Copy(), others, grid=OTHER), node(p.Copy(), relu)]
    out = node(p.Output(), ends[2])
    program = scheduled(Graph((image, relu, codes, others, *ends, out), 8, 1))
    first = program.instructions[0]
    assert isinstance(first.operation, p.Input) and first.steps == (p.Relu(),)
    assert [program.buffers[view.buffer].grid for view in first.writes] == [None, BYTES, OTHER]


def test_concatenations_of_concatenations_are_one_storage():
    image = node(p.Input())
    parts = [node(p.Relu(), image), node(p.Clip(0, 1), image), node(p.Sigmoid(), image)]
    inner = node(Concat(), *parts[:2], channels=16)
    outer = node(Concat(), inner, parts[2], channels=24)
    out = node(p.Output(), outer, channels=24)
    nodes = (image, *parts[:2], inner, parts[2], outer, out)
    program = scheduled(Graph(nodes, 8, 1))
    assert [buffer.channels for buffer in program.buffers] == [24, 8]
    written = [each.writes[0] for each in program.instructions[1:4]]
    assert [(view.buffer, view.first) for view in written] == [(0, 0), (0, 8), (0, 16)]
    plain = scheduled(Graph(nodes, 8, 1), fuse=False)
    assert len(plain.instructions) == len(program.instructions) + 4


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        (nn.GELU(), "is a GELU"), (nn.Upsample(scale_factor=1.5), "factor of 1.5"),
        (nn.Upsample(scale_factor=2, mode="bicubic"), "is bicubic"), (nn.MaxPool2d(2, ceil_mode=True), "up"),
        (nn.AvgPool2d(3, padding=1), "pads"), (nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), "reflect"),
        (nn.ZeroPad2d((-1, 0, 0, 0)), "cuts"), (nn.AdaptiveAvgPool2d(2), "AdaptiveAvgPool2d"),
    ],
    ids=str,
)  # fmt: skip
def test_what_the_engine_cannot_do_is_refused(layer, what):
    with pytest.raises(ModelFileError, match=f"{what}.*which the engine has no operation for"):
        lowered(nn.Sequential(layer), 1)


class Calls(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, x):
        return self.call(x)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x + 1, lambda x: torch.cat([x, x], 2), lambda x: torch.tanh(x), lambda x: x[:, 0:1],
        lambda x: x.split([1, 1], 1)[0], lambda x: x.mean((2, 3), keepdim=True),
        lambda x: nn.functional.interpolate(x, size=(8, 8)), lambda x: x.transpose(2, 3),
    ],
)  # fmt: skip
def test_calls_the_engine_cannot_do_are_refused(call):
    with pytest.raises(ModelFileError, match="export it with --to onnx"):
        lowered(Calls(call), 2)


def test_a_stored_number_that_is_equal_in_a_row_is_stored_once():
    from pocketseg.engine.codec import decode, encode

    def data(values):
        image = node(p.Input(), channels=64)
        rows = np.array(values, np.float32)
        norm = node(p.Affine(rows, rows), image, channels=64)
        program = scheduled(Graph((image, norm, node(p.Output(), norm, channels=64)), 64, 1))
        section, found = encode(program)
        (again,) = decode(section, found, "here").instructions[0].steps
        assert again.m.tobytes() == rows.tobytes() and again.b.dtype == np.float32
        return len(found) // 2

    assert data([0.1] * 64) == 4
    assert data([0.0] * 63 + [-0.0]) == 2 + 2 * 64
    assert data([1e-9 * 2.0**-k for k in range(64)]) == 4 * 64
    assert data([2.0**-k for k in range(-5, 35)] + [1.5] * 24) == 4 * 64
    assert data([2.0**-k for k in range(-5, 15)] + [1.5] * 44) == 2 + 2 * 64
