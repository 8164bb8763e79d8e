"""What a shape costs is known before it is trained, whatever its training will learn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pocketseg.pipeline import Pipeline
from pocketseg.recipes import load_recipe
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


def test_a_step_takes_what_its_batch_does():
    """On the recipe that is trained by; a step of 64 images takes longer than one of a single image."""
    shape = Shape(8, 2, "plain", "int8")
    values = {
        "data": {"classes": ["a", "b"]},
        "stages": [{"name": "one", "net": shape.net, "epochs": 1, "loss": {"ce": 1}}],
    }
    one, many = (load_recipe(values, [f"stages.0.batch={batch}"]) for batch in (1, 64))
    large = replace(PIPELINE, size=(64, 64))  # so that the work is more than what a step costs anyway
    assert 0 < counting.step_seconds(shape, large, one, "cpu") < counting.step_seconds(shape, large, many, "cpu")
