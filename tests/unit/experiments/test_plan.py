"""The plan of a run: everything is decided and every fault found, with nothing written and no net in memory."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pocketseg
from helpers.pictures import save
from pocketseg.errors import DataError, ModelFileError, PocketsegError, RecipeError
from pocketseg.experiments.distillation import ModelTeacher
from pocketseg.experiments.initialization import EarlierStage, WeightFile
from pocketseg.experiments.plan import open_data, plan_run
from pocketseg.nets import build
from pocketseg.recipes import Recipe
from pocketseg.runs.folder import RunFolder
from pocketseg.weights import KerasLayer, read_weights

NET = {"arch": "thin_unet", "width": 4, "blocks": 2}
MOBILE = {"arch": "mobilenet_v1_025_unet", "width": 4}
PAD = {"data": {"size": [32, 32], "fit": "pad"}}
FLOAT = {"name": "float", "net": NET, "epochs": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pocketseg.phantom(tmp_path_factory.mktemp("plan") / "data", cases=12, size=32, seed=5)


@pytest.fixture
def plan(data, tmp_path):
    """Plan stages; other sections are given by name."""

    def made(*stages, fold=None, **sections):
        recipe = Recipe.model_validate({"data": {"size": [32, 32]}, **sections, "stages": list(stages)})
        return plan_run(recipe, open_data(data, recipe.data), RunFolder(tmp_path / "run"), fold=fold)

    return made


@pytest.fixture
def no_nets(monkeypatch):
    """Nets may be described, not built."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a net was built")

    monkeypatch.setattr("pocketseg.nets.catalog.AnySize", refuse)


def test_every_fold_and_stage_is_decided(plan, no_nets, tmp_path):
    quantized = {**FLOAT, "name": "small", "init": {"stage": "float"}, "quant": {"scheme": "w8a8"}}
    found = plan(FLOAT, quantized, split={"kind": "kfold", "folds": 3})
    assert [fold.number for fold in found.folds] == [0, 1, 2]
    for fold in found.folds:
        first, second = fold.stages
        assert first.net == NET and first.initialization is None and first.distillation is None
        assert isinstance(second.initialization, EarlierStage)
        assert second.initialization.file == RunFolder(tmp_path / "run").stage(fold.number, "float").best
    assert not (tmp_path / "run").exists()


def test_one_fold_of_several(plan):
    found = plan(FLOAT, split={"kind": "kfold", "folds": 3}, fold=1)
    assert [fold.number for fold in found.folds] == [1] and len(found.split.folds) == 3


def test_a_plan_does_not_change(plan):
    found = plan(FLOAT)
    for part in (found, found.folds[0], found.folds[0].stages[0], found.data):
        with pytest.raises(dataclasses.FrozenInstanceError):
            part.folds = ()


def test_a_weight_file_is_read_once(plan, tmp_path, monkeypatch):
    weights = build("thin_unet", 1, 1, width=4, blocks=2).core.state_dict()
    torch.save(weights, tmp_path / "start.pth")
    read = []
    monkeypatch.setattr("pocketseg.weights.read_weights", lambda path: read.append(path) or read_weights(path))
    (stage,) = plan({**FLOAT, "init": {"weights": str(tmp_path / "start.pth")}}).folds[0].stages
    assert isinstance(stage.initialization, WeightFile) and len(read) == 1
    core = build("thin_unet", 1, 1, seed=9, width=4, blocks=2).core
    start = stage.initialization.fill(core)
    assert len(read) == 1 and len(start.identity) == 1
    assert all(torch.equal(tensor, weights[name]) for name, tensor in core.state_dict().items())


@pytest.mark.parametrize("match", ["strict", "order", "name"])
def test_an_encoder_starts_from_a_classifiers_file(plan, tmp_path, monkeypatch, match):
    """Its layers have no names of ours, and find their places in any case."""
    layers = read_keras_layers()
    monkeypatch.setattr("pocketseg.weights.read_keras", lambda path: layers)
    (tmp_path / "mobilenet.h5").write_bytes(b"read by another test")
    stage = {
        **FLOAT,
        "net": {**MOBILE, "relu6": False},
        "init": {"weights": str(tmp_path / "mobilenet.h5"), "match": match},
    }
    (found,) = plan(stage).folds[0].stages
    core = build("mobilenet_v1_025_unet", 1, 1, width=4, relu6=False).core
    head = core.head.weight.clone()
    taken = found.initialization.fill(core).taken
    assert len(taken.names) == 90 and taken.complete and torch.equal(core.head.weight, head)
    assert torch.equal(core.encoder.bn0.bias, torch.full((8,), 0.5))


def read_keras_layers() -> list[KerasLayer]:
    """A quarter of MobileNetV1, all of whose numbers are a half."""
    widths, shapes = [8, 16, 32, 32, 64, 64, *[128] * 6, 256, 256], [(3, 3, 3, 8)]
    for before, after in pairwise(widths):
        shapes += [(3, 3, before, 1), (1, 1, before, after)]
    found = []
    for index, shape in enumerate(shapes):
        role, out = ("depthwise_kernel", shape[2]) if index % 2 else ("kernel", shape[3])
        half = np.full(out, 0.5, np.float32)
        found.append(KerasLayer(f"conv{index}", {role: np.full(shape, 0.5, np.float32)}))
        found.append(
            KerasLayer(f"norm{index}", dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), half))
        )
    return [KerasLayer("first", found[0].weights), *found[1:]]


def test_an_earlier_stage_teaches_by_its_file(plan, tmp_path, no_nets):
    student = {**FLOAT, "name": "student", "teacher": {"stage": "float"}, "distil": {}}
    teacher = plan(FLOAT, student).folds[0].stages[1].distillation.source
    assert isinstance(teacher, ModelTeacher) and not teacher.external
    assert teacher.files == [RunFolder(tmp_path / "run").stage(0, "float").best]


@pytest.mark.parametrize(
    ("stage", "sections", "kind", "words"),
    [
        ({"init": {"weights": "gone.pth"}}, {}, ModelFileError, "gone.pth.*does not exist"),
        ({"init": {"run": "gone"}}, {}, PocketsegError, "gone.*run folder"),
        ({"init": {"weights": "imagenet"}}, {}, RecipeError, "no published encoder"),
        ({"init": {"weights": "x.tflite"}}, {}, RecipeError, "read for encoders of MobileNetV1"),
        ({"init": {"weights": "x.tflite"}, "net": MOBILE}, {}, ModelFileError, "x.tflite: does not exist"),
        ({"init": {"weights": "imagenet"}, "net": MOBILE}, {}, RecipeError, "no published encoder.* give a file"),
        ({"teacher": {"run": "gone"}, "distil": {}}, {}, PocketsegError, "gone.*run folder"),
        ({"teacher": {"onnx": "gone.onnx"}, "distil": {}}, {}, ModelFileError, "gone.onnx"),
        ({"teacher": {"maps": "gone"}, "distil": {}}, {}, DataError, "gone"),
        ({"teacher": {"maps": "gone"}, "distil": {}}, PAD, RecipeError, "does not keep"),
        ({"batch": 1, "net": {**NET, "blocks": 5}}, {}, RecipeError, "a batch of 1 whose"),
        ({"loss": {"bce": 1, "pixel_weights": "files"}}, {}, DataError, "weight"),
        ({"init": {"stage": "float"}, "name": "second", "net": {**NET, "width": 8}}, {}, ModelFileError, "in the net"),
    ],
)  # fmt: skip
def test_every_fault_is_found_before_training(plan, tmp_path, stage, sections, kind, words):
    with pytest.raises(kind, match=words):
        plan(FLOAT, {**FLOAT, "name": "next", **stage}, **sections)
    assert not (tmp_path / "run").exists()


def test_images_that_cannot_be_padded_are_refused_before_a_folder_is_made(plan, data, tmp_path):
    """What one training was refused for does not stand in the way of the next into the same folder."""
    with pytest.raises(DataError, match="32×32 pixels, more than the 16×16 it is padded to") as caught:
        plan(FLOAT, data={"size": [16, 16], "fit": "pad"})
    assert len(caught.value.problems) == 12
    recipe = {"data": {"size": [16, 16], "fit": "pad"}, "stages": [FLOAT]}
    with pytest.raises(DataError, match="padded to"):
        pocketseg.train(recipe, data, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
    assert plan(FLOAT, data={"size": [32, 32], "fit": "pad"}).pipeline.fit == "pad"


@pytest.mark.parametrize("drop", [None, "train"])
def test_masks_without_foreground_teach_nothing(drop, data, plan, tmp_path):
    blank = tmp_path / "blank"
    for file in sorted((data / "images").iterdir()):
        save(blank / "images" / file.name, np.asarray(Image.open(file)))
        save(blank / "masks" / file.name, np.zeros((32, 32), np.uint8))
    recipe = Recipe.model_validate({"data": {"size": [32, 32], "drop_empty": drop}, "stages": [FLOAT]})
    with pytest.raises(DataError, match="are empty: there is nothing to learn → look at them"):
        plan_run(recipe, open_data(blank, recipe.data), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
