"""`inspect --weights`: the drawing of a trained net's weights, and the numbers behind it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image

import pocketseg
from helpers.commands import run_cli
from pocketseg.data.readers import read_image
from pocketseg.flows.draw_weights import draw_weights, image_list, weight_pages
from pocketseg.quant import integer_net, storage
from pocketseg.training.model import Model

NET = "net: {arch: thin_unet, width: 8, blocks: 3}"
RECIPE = f"""
data: {{size: [32, 32], group_csv: patients.csv, group_column: patient}}
split: {{test: 0.25, validation: 0.2}}
stages:
  - {{name: float, {NET}, epochs: 1, batch: 8}}
  - {{name: bits, {NET}, init: {{stage: float}}, quant: {{scheme: residual w2a2}}, epochs: 0, batch: 8}}
  - {{name: w2, {NET}, init: {{stage: float}}, quant: {{scheme: w2a8, keep: [head]}}, epochs: 0, batch: 8}}
  - {{name: w4, {NET}, init: {{stage: float}}, quant: {{scheme: w4a8}}, epochs: 0, batch: 8}}
"""
STAGES = ("bits", "w2", "w4")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    (folder / "recipe.yaml").write_text(RECIPE)
    data = pocketseg.phantom(folder / "data", cases=24, size=48)
    pocketseg.train(folder / "recipe.yaml", data, folder / "run", device="cpu", report=False)
    return folder


def model(folder, stage) -> Model:
    return Model.load(folder / "run/fold-0" / stage / "best.safetensors")


@pytest.mark.slow("a large page; the next has one without images")
def test_the_command_writes_a_pdf_with_all_layers(trained, tmp_path):
    arguments = ("inspect", trained / "run", "--weights", tmp_path / "w.pdf", "--images", trained / "data/images")
    done = run_cli(*arguments)
    assert done.returncode == 0, done.stderr
    assert "encoder.0.0" in done.stdout and "w.pdf" in done.stdout.replace("\n", "")
    written = (tmp_path / "w.pdf").read_bytes()
    # A list, 15 layers, and what enters them.
    assert written.startswith(b"%PDF") and len(re.findall(rb"/Type /Page\b", written)) == 1 + 2 + 2
    again = draw_weights(trained / "run", tmp_path / "again.pdf", images=[trained / "data/images"])
    assert again.read_bytes() == written


def test_png_without_images(trained, tmp_path):
    best = trained / "run/fold-0/float/best.safetensors"
    with Image.open(draw_weights(best, tmp_path / "w.PNG")) as picture:
        assert picture.format == "PNG" and picture.height > 2 * picture.width
    assert [path.name for path in tmp_path.iterdir()] == ["w.PNG"]


@pytest.mark.parametrize("stage", STAGES)
def test_levels_are_those_that_are_stored(trained, stage):
    found = model(trained, stage)
    panels = {panel.name: panel for panel in weight_pages(found).weights}
    layers = dict(found.net.core.named_modules())
    rows = storage(integer_net(found.net.core))
    assert len(panels) == 15 and len(rows) == (14 if stage == "w2" else 15)
    for row in rows:
        panel, weight = panels[row.name], layers[row.name].weight
        counts = dict(panel.levels)
        assert sum(counts.values()) == sum(panel.counts) == weight.numel()
        assert counts.get(0.0, 0) / weight.numel() == pytest.approx(row.zeros, abs=1e-6)
        codes = layers[row.name].weights.quantize(weight)
        if codes.axis is None:
            assert len(counts) == row.levels
            values = {value: int((codes.values() == value).sum()) for value in counts}
        else:
            assert len(counts) >= row.levels and panel.label == "weight ÷ scale of its channel"
            values = {value: int((codes.codes == value).sum()) for value in counts}
        assert values == counts
        assert panel.facts.startswith(f"{row.bits} bits · {row.levels} levels")


def test_a_layer_that_stays_float_has_its_histogram_only(trained):
    found = model(trained, "w2")
    head = weight_pages(found).weights[-1]
    weight = found.net.core.get_submodule("head").weight.detach().numpy()
    assert head.name == "head" and head.levels == [] and head.label == "weight"
    assert head.edges[0] == pytest.approx(weight.min()) and head.edges[-1] == pytest.approx(weight.max())
    assert head.counts == np.histogram(weight, head.edges)[0].tolist()


@pytest.mark.parametrize("stage", STAGES)
def test_activations_are_what_the_convolutions_quantize(trained, stage):
    found = model(trained, stage)
    files = image_list([trained / "data/images"])[:3]
    pages = weight_pages(found, files)
    assert pages.images == 3 and len(pages.activations) == len(pages.weights)
    layer = found.net.core.get_submodule("decoder.0.0")
    seen = []
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    with torch.no_grad():
        for file in files:
            found.net.eval()(torch.from_numpy(found.pipeline.prepare(read_image(file)))[None])
    values = torch.cat([layer.inputs.quantize(x).values().flatten() for x in seen])
    (panel,) = [panel for panel in pages.activations if panel.name == "decoder.0.0"]
    expected = dict(zip(*(t.tolist() for t in values.unique(return_counts=True)), strict=True))
    # The layers before may round an f32 sum in another order of memory.
    found_counts = dict(panel.levels)
    assert sum(found_counts.values()) == sum(panel.counts) == len(values)
    moved = sum(abs(expected.get(v, 0) - found_counts.get(v, 0)) for v in {*expected, *found_counts})
    assert moved <= 0.001 * len(values)
    assert panel.edges[0] == pytest.approx(min(float(x.min()) for x in seen), abs=1e-5)


def test_a_hook_is_left_nowhere(trained):
    found = model(trained, "w4")
    weight_pages(found, image_list([trained / "data/images"])[:1])
    assert not any(module._forward_pre_hooks for module in found.net.modules())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("unet", "--weights", "w.pdf"), "net of the catalog"),
        (("run", "--weights", "w.svg"), "neither in .pdf nor in .png"),
        (("run", "--images", "data/images"), "add --weights"),
        (("run", "--weights", "w.pdf", "--images", "nowhere.png"), "nowhere.png: the file does not exist"),
        (("run", "--weights", "w.pdf", "--images", "run"), "no images were found"),
        (("run/fold-0/w4/packed.safetensors", "--weights", "w.pdf"), "give best.safetensors"),
    ],
)
def test_what_cannot_be_drawn(trained, arguments, told):
    (trained / "run/empty").mkdir(exist_ok=True)
    arguments = tuple("run/empty" if one == "run" and n == 4 else one for n, one in enumerate(arguments))
    done = run_cli("inspect", *arguments, cwd=trained)
    assert done.returncode == 2 and told in done.stderr and "→" in done.stderr, done.stderr
    assert not list(trained.glob("w.*"))


def test_all_unreadable_images_are_named(trained, tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no image")
    Image.new("L", (40, 40)).save(tmp_path / "c.png")
    with pytest.raises(pocketseg.errors.DataError) as error:
        draw_weights(trained / "run", tmp_path / "w.pdf", images=[tmp_path])
    assert [problem.where.rsplit("/", 1)[-1] for problem in error.value.problems] == ["a.png", "b.png"]
    assert not (tmp_path / "w.pdf").exists()


def test_weights_that_are_not_finite(trained):
    found = model(trained, "float")
    with torch.no_grad():
        found.net.core.get_submodule("deepest.0").weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(pocketseg.errors.ModelFileError, match=r"layer deepest\.0: 1 of 576 numbers are nan or inf"):
        weight_pages(found)
