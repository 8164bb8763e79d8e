"""The recipes that promise a size keep it, whatever numbers a training finds."""

import numpy as np
import pytest
import torch
from torch import nn

import pocketseg
from pocketseg.engine.session import Session
from pocketseg.experiments.plan import pipeline_of
from pocketseg.pipeline import Normalization, TrainedOn
from pocketseg.recipes import load_recipe
from pocketseg.training.model import Model


@pytest.mark.parametrize(("name", "limit"), [("tiny-40k", 40_000), ("tiny-16k", 16_000)])
def test_the_file_is_as_small_as_it_is_called(name, limit, tmp_path):
    """Norms and biases are drawn: those of a fresh net are all alike, and would be stored as one."""
    recipe = load_recipe(name)
    stage = recipe.stages[-1]
    pipeline = pipeline_of(recipe)
    learned = Normalization("train-mean-std", mean=(1 / 3,), std=(1 / 7,))
    model = Model.fresh({"arch": stage.net.arch, **stage.net.options}, pipeline, recipe.seed)
    model.pipeline = type(pipeline)(
        **model.pipeline.__dict__ | {"normalization": learned, "trained_on": TrainedOn("uint8")}
    )
    generator = torch.Generator().manual_seed(1)
    for module in model.net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                values.data.copy_(torch.rand(values.shape, generator=generator) / 4 + 0.75)
        elif isinstance(module, nn.Conv2d) and module.bias is not None:
            module.bias.data.copy_(torch.rand(module.bias.shape, generator=generator) - 0.5)
    images = torch.rand(2, 1, 64, 64, generator=generator)
    model.quantize(stage.quant.model_dump(), [images])
    model.save(tmp_path / "best.safetensors", {"stage": stage.name, "epoch": 1, "best_by": "dice"})
    packed = pocketseg.pack(tmp_path / "best.safetensors", tmp_path / "model.pseg")
    assert limit - 3000 < packed.size_bytes <= limit
    # Constants in 16 bits are the model's own: torch, on integers, says the same to the bit.
    logits = Session((tmp_path / "model.pseg").read_bytes(), "here")(images.numpy())
    with torch.no_grad():
        assert np.array_equal(logits, model.integer_core()(images).numpy())


def test_the_size_is_not_that_of_constants_in_32_bits(tmp_path):
    recipe = load_recipe("tiny-40k", ["stages.ternary.quant.constants=f32"])
    assert recipe.stages[-1].quant.constants == "f32" and load_recipe("tiny-40k").stages[-1].quant.constants == "f16"
