"""What a shape costs is known before it is trained, whatever its training will learn."""

from __future__ import annotations

import pytest
import torch

from pocketseg.pipeline import Pipeline
from pocketseg.search import costs as counting
from pocketseg.search.shapes import Shape

PIPELINE = Pipeline(classes=("a", "b"), channels=1, size=(16, 16))


def learned_size(shape: Shape, seed: int) -> int:
    """Bytes of a net whose weights, norms and ranges are of many magnitudes, as no training would leave them."""
    torch.manual_seed(seed)
    model = counting._model(shape, PIPELINE)
    for name, values in model.net.state_dict().items():
        if values.is_floating_point():
            drawn = torch.randn_like(values) * 10 ** torch.empty_like(values).uniform_(-3, 2)
            values.copy_(drawn.abs() if name.endswith("running_var") else drawn)
    model.quantize(shape.quant_of(shape.bits), [torch.randn(3, 1, 32, 32) for _ in range(2)])
    return len(counting._file(model))


@pytest.mark.parametrize("bits", ["int8", "int4", "ternary"])
@pytest.mark.parametrize("conv", ["plain", "separable"])
def test_what_a_net_learns_adds_no_byte(conv, bits):
    shape = Shape(8, 2, conv, bits)
    ((_, cost),) = counting.costs([shape], PIPELINE)
    assert [learned_size(shape, seed) for seed in range(2)] == [cost.size_bytes] * 2


def test_counting_leaves_the_threads_as_they_were():
    threads = torch.get_num_threads()
    for _ in counting.costs([Shape(8, 1, "plain", "ternary")], PIPELINE):
        assert torch.get_num_threads() == threads
