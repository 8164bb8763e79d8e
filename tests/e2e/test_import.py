"""Weights of other programs become models: imported, predicted with, packed, quantized, trained on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import pocketseg
from helpers.commands import read_csv, read_json, run_cli
from helpers.foreign_nets import DoubleConvUNet, trained
from pocketseg.data.readers import read_image
from pocketseg.errors import DataError, ModelFileError, RecipeError, RunError

NET = ("--net", "light_unet_baseline", "--set", "net.width=4")
SIZE = ("--size", 32, 32)


@pytest.fixture(scope="session")
def foreign(tmp_path_factory):
    """A net of another project, and the file of it that its script saved."""
    folder = tmp_path_factory.mktemp("foreign")
    net = trained(DoubleConvUNet(1, 1))
    torch.save({**net.state_dict(), "mask_values": [0, 255]}, folder / "theirs.pth")
    return net, folder / "theirs.pth"


@pytest.fixture(scope="session")
def imported(foreign, tmp_path_factory):
    """A run folder of it, made without any data."""
    out = tmp_path_factory.mktemp("imported") / "run"
    done = run_cli("import", foreign[1], *NET, *SIZE, "--class", "lesion", "--threshold", 0.4, "-o", out)
    assert done.returncode == 0, done.stderr
    # What nobody said is told.
    for words in ("images of 1 channel, as its first layer takes", "then unit-range (the default)"):
        assert words in done.stderr, done.stderr
    assert "lesion, as its last layer" not in done.stderr and "18 of 19" not in done.stderr
    return out


def probabilities(net, image: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return net(torch.from_numpy(image.astype(np.float32) / 255)[None, None]).sigmoid()[0, 0].numpy()


def test_it_finds_what_the_net_found_where_it_was_trained(foreign, imported):
    image = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    wanted = probabilities(foreign[0], image)
    assert wanted.std() > 0.02
    for backend in ("torch", "pseg"):
        model = pocketseg.load(imported, backend=backend)
        np.testing.assert_allclose(model.predict(image)[:, :, 0], wanted, atol=1e-4)
        assert np.mean(model.mask(image) == (wanted >= 0.4)) > 0.99
    assert model.pipeline.classes == ("lesion",) and model.pipeline.size == (32, 32)


def test_the_folder_is_a_run_that_says_what_it_is(imported):
    manifest = read_json(imported / "manifest.json")
    assert manifest["imported"]["file"].endswith("theirs.pth") and manifest["imported"]["taken"] == 92
    assert not (imported / "split.json").exists() and (imported / "fold-0/model.pseg").is_file()
    log = (imported / "log.txt").read_text(encoding="utf-8")
    assert "0, as the file has none: 'encoder.0.0.bias'" in log


def test_every_verb_takes_it(imported, phantom_data, tmp_path):
    assert pocketseg.evaluate(imported, phantom_data, out=tmp_path / "scores").rows
    assert pocketseg.pack(imported, tmp_path / "half.pseg", constants="f16").size_bytes > 0
    assert pocketseg.export(imported, out=tmp_path / "net.onnx").parity.holds
    assert pocketseg.export(imported, out=tmp_path / "net.onnx", data=phantom_data).parity.images > 2
    assert pocketseg.inspect(imported).totals["parameters"] > 0
    with pytest.raises(RunError, match="has not been evaluated → import it with --data"):
        pocketseg.report(imported)


def test_a_stage_starts_from_it_and_quantizes_it(imported, phantom_data, tmp_path, caplog):
    values = (
        f"stages.0.init={{run: {imported}}}", "stages.0.net={arch: light_unet_baseline, width: 4}", "data.size=[32,32]",
        "stages.0.quant={scheme: w8a8}", "stages.0.epochs=0", "split.kind=kfold", "split.folds=2",
        "normalize.kind=unit-range",
    )  # fmt: skip
    result = pocketseg.train("demo", phantom_data, tmp_path / "run", overrides=values, device="cpu", report=False)
    assert set(result.summaries) == {0, 1}  # every fold from the only one that was imported
    assert "nobody knows which images the weights" in caplog.text
    image = read_image(sorted((phantom_data / "images").iterdir())[0])
    first, second = (pocketseg.load(run).predict(image) for run in (imported, tmp_path / "run"))
    assert 0 < np.abs(first - second).max() < 0.1 < first.std()


def test_with_data_it_is_evaluated_and_has_a_report(foreign, phantom_data, tmp_path):
    done = run_cli(
        "import", foreign[1], *NET, *SIZE, "--normalize", "train-mean-std", "--data", phantom_data,
        "-o", tmp_path / "run", "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Dice of foreground" in done.stdout and (tmp_path / "run/report.html").is_file()
    assert read_csv(tmp_path / "run/fold-0/cases-test.csv")
    (history,) = (tmp_path / "run").glob("fold-0/*/history.csv")
    assert [row["epoch"] for row in read_csv(history)] == ["0"]
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "no epoch was trained" in page


def test_a_recipe_says_net_and_pipeline(tmp_path):
    torch.save(trained(DoubleConvUNet(3, 3)), tmp_path / "whole_module")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "data: {size: [32, 64], classes: [liver, tumor], fit: letterbox}\n"
        "normalize: {kind: z-score, clip: 3}\npostprocess: {min_pixels: auto}\n"
        "stages: [{name: a, net: {arch: light_unet_baseline, width: 4}, loss: {ce: 1}}]\n"
    )
    found = pocketseg.import_weights(tmp_path / "whole_module", tmp_path / "run", recipe=recipe)
    pipeline = pocketseg.load(found.run).pipeline
    assert (pipeline.size, pipeline.channels, pipeline.classes) == ((32, 64), 3, ("liver", "tumor"))
    assert (pipeline.fit, pipeline.normalization.clip) == ("letterbox", 3) and found.parameters > 1000


def test_weights_of_ours_are_matched_by_name(imported, tmp_path):
    weights = imported / "fold-0/imported/best.safetensors"
    overrides = ("net.width=4", "data.size=[32,32]")
    again = pocketseg.import_weights(weights, tmp_path / "run", net="light_unet_baseline", overrides=overrides)
    image = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    assert np.array_equal(pocketseg.load(again.run).predict(image), pocketseg.load(imported).predict(image))


def test_mean_and_std_may_be_given(foreign, imported, tmp_path):
    options = {"net": "light_unet_baseline", "overrides": ("net.width=4", "data.size=[32,32]")}
    mean = {"mean": [0.2], "std": [0.5]}
    with pytest.raises(RecipeError, match="are for normalize"):
        pocketseg.import_weights(foreign[1], tmp_path / "run", **options, **mean)
    options["overrides"] += ("normalize.kind=train-mean-std",)
    with pytest.raises(RecipeError, match="needs mean and std of the images"):
        pocketseg.import_weights(foreign[1], tmp_path / "run", **options)
    found = pocketseg.import_weights(foreign[1], tmp_path / "run", **options, **mean)
    pipeline = pocketseg.load(found.run).pipeline
    assert (pipeline.normalization.mean, pipeline.normalization.std) == ((0.2,), (0.5,))


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({}, RecipeError, "--net: is missing"),
        ({"net": "unett"}, RecipeError, "there is no net 'unett'"),
        ({"net": "light_unet_baseline"}, ModelFileError, "weight is 4×1×3×3"),
        ({"net": "light_unet", "overrides": ("net.width=4",)}, ModelFileError, "19 convolutions, the net has 28"),
        ({"net": "light_unet_baseline", "overrides": ("net.width=4", "data.channels=3")}, ModelFileError, "4×1×3×3"),
        ({"net": "light_unet_baseline", "overrides": ("data.color=1",)}, RecipeError, "data.color"),
        ({"net": "light_unet_baseline", "overrides": ("net.width=4",), "data": "nowhere"}, DataError, "nowhere"),
    ],
)
def test_what_cannot_be_leaves_no_folder(foreign, tmp_path, options, kind, words):
    with pytest.raises(kind, match=words):
        pocketseg.import_weights(foreign[1], tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_training_by_order_from_a_recipe(foreign, phantom_data, tmp_path):
    values = (
        f"stages.0.init={{weights: {foreign[1]}, match: order}}", "stages.0.epochs=1", "stages.0.optimizer.lr=1e-9",
        "stages.0.net={arch: light_unet_baseline, width: 4}", "data.size=[32,32]", "data.channels=1",
    )  # fmt: skip
    pocketseg.train("demo", phantom_data, tmp_path / "run", overrides=values, device="cpu", report=False)
    from pocketseg.weights import read_weights

    (best,) = (tmp_path / "run").glob("fold-0/*/best.safetensors")
    found = read_weights(best)["head.weight"]
    assert torch.allclose(found, foreign[0].state_dict()["outc.conv.weight"], atol=1e-6)


def test_images_in_color_for_a_gray_net_are_told(imported, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    (tmp_path / "images").mkdir()
    Image.fromarray(image).save(tmp_path / "images/a.png")
    done = run_cli("predict", imported, tmp_path / "images", "--out", tmp_path / "masks")
    assert done.returncode == 0 and "color" in done.stderr
