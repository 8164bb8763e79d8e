"""What is known of operations of torch: modules and functions alike, and what quantizers may pass."""

from __future__ import annotations

import operator

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from pocketseg.nets.operations import known, pair

MODULES = {
    "max pool": nn.MaxPool2d(2), "max pool that overlaps": nn.MaxPool2d(3, 2, 1), "average pool": nn.AvgPool2d(2),
    "nearest": nn.Upsample(scale_factor=2), "bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
    "aligned": nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), "zeros": nn.ZeroPad2d((1, 2, 0, 3)),
    "mean": nn.AdaptiveAvgPool2d(1), "ReLU": nn.ReLU(), "ReLU6": nn.ReLU6(), "sigmoid": nn.Sigmoid(),
    "hard tanh": nn.Hardtanh(-2.0, 0.5), "dropout": nn.Dropout(),
}  # fmt: skip
FUNCTIONS = {
    "max pool": lambda x: F.max_pool2d(x, 2), "max pool that overlaps": lambda x: F.max_pool2d(x, 3, 2, padding=1),
    "average pool": lambda x: F.avg_pool2d(x, kernel_size=2), "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "aligned": lambda x: F.interpolate(x, None, 2, "bilinear", True), "zeros": lambda x: F.pad(x, (1, 2, 0, 3)),
    "mean": lambda x: F.adaptive_avg_pool2d(x, 1), "ReLU": lambda x: x.relu(), "ReLU6": F.relu6,
    "sigmoid": torch.sigmoid, "hard tanh": lambda x: F.hardtanh(x, -2.0, 0.5),
    "dropout": lambda x: F.dropout(x, training=False),
}  # fmt: skip


class Calls(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, x):
        return self.call(x)


def described(call):
    """What is known of the one operation of a net."""
    net = call if isinstance(call, nn.Module) else Calls(call)
    traced = fx.symbolic_trace(nn.Sequential(net))
    (found,) = (
        known(node, traced.get_submodule(str(node.target)) if node.op == "call_module" else None)
        for node in traced.graph.nodes
        if node.op.startswith("call")
    )
    return found


@pytest.mark.parametrize("name", MODULES)
def test_a_module_and_its_function_are_described_alike(name):
    module, function = described(MODULES[name]), described(FUNCTIONS[name])
    for field in ("name", "kind", "macs", "moves"):
        assert getattr(module, field) == getattr(function, field)
    for key in module.given:
        # torch keeps a factor as it was given.
        a, b = module.given[key], function.given[key]
        assert a == b or pair(int(a)) == pair(int(b))


OTHERS = {
    "replicate": nn.ReplicationPad2d(1), "ones": nn.ConstantPad2d(1, 1.0),
    "minus": lambda x: F.pad(x, (1, 1, 1, 1), value=-1.0), "softmax": nn.Softmax(1), "tanh": torch.tanh,
    "norm": nn.BatchNorm2d(4), "identity": nn.Identity(), "GELU": nn.GELU(),
}  # fmt: skip


MOVING = ("max pool", "max pool that overlaps", "nearest", "zeros", "dropout", "identity")


@pytest.mark.parametrize("name", [*MODULES, *OTHERS])
def test_what_quantizers_may_pass_commutes_with_them(name):
    """A step function that is monotone, keeps 0 and is no straight line tells who commutes."""
    call = MODULES.get(name) or OTHERS[name]
    x = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(1))
    run = (call if isinstance(call, nn.Module) else Calls(call)).eval()

    def steps(values):
        return torch.round(values * 3).clamp(-2, 5).pow(3)

    with torch.no_grad():
        commutes = torch.equal(steps(run(x)), run(steps(x)))
    assert described(call).moves == (name in MOVING)
    assert commutes or name not in MOVING


def test_every_part_of_a_concatenation_may_be_quantized():
    traced = fx.symbolic_trace(Calls(lambda x: torch.cat([x, -x], 1)))
    found = {node.name: known(node, None) for node in traced.graph.nodes if node.target in (torch.cat, operator.neg)}
    assert found["cat"].moves and found["cat"].given == {"axis": 1} and found["neg"] is None
