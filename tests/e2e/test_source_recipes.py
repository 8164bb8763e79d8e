"""The recipes of published projects train on real images: small ones and few, but with the projects' own settings."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import pocketseg
from helpers.commands import read_csv, read_json
from pocketseg.errors import DataError
from pocketseg.nets import build
from pocketseg.recipes import load_recipe
from pocketseg.training.model import logit_count

pytestmark = pytest.mark.real_data

CLUSTERS = ("data.group_csv=near_duplicate_clusters.csv", "data.group_column=cluster")
SMALL = ("stages.0.epochs=2", "stages.0.precision=f32", "split.validation=0.2", "evaluate.parts=[validation]")


@pytest.fixture(scope="module")
def breast(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 ultrasound images, 6 of them without a nodule, and the table of near-duplicates."""
    whole, part = real_data / "busi_gray256", tmp_path_factory.mktemp("breast")
    for label, count in (("benign", 16), ("malignant", 8), ("normal", 6)):
        folder = part / "Dataset_BUSI_with_GT" / label
        folder.mkdir(parents=True)
        images = sorted(path for path in (whole / "Dataset_BUSI_with_GT" / label).iterdir() if "_mask" not in path.name)
        for image in images[:count]:
            for file in image.parent.glob(f"{image.stem}*"):
                (folder / file.name).write_bytes(file.read_bytes())
    names = {path.stem for path in part.rglob("*.png")}
    table = (whole / "near_duplicate_clusters.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    rows = [line for line in table[1:] if line.split(",")[0] in names]
    (part / "near_duplicate_clusters.csv").write_text("".join([table[0], *rows]), encoding="utf-8")
    return part


@pytest.fixture(scope="module")
def membranes(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corner of the first 10 slices of the volume."""
    whole, part = real_data / "isbi2012_membrane/data/membrane/train", tmp_path_factory.mktemp("membranes")
    for kind in ("image", "label"):
        (part / "train" / kind).mkdir(parents=True)
        for number in range(10):
            with Image.open(whole / kind / f"{number}.png") as slice_:
                slice_.crop((0, 0, 112, 112)).save(part / "train" / kind / f"{number}.png")
    return part


def trained(name: str, data: Path, out: Path, *overrides: str):
    """Trains, and returns the recipe of the run, its history in numbers, and the sides of the split.

    What holds for every training: losses are finite, the loss falls, and the weights of the last state moved away from
    those that the seed gives.
    """
    pocketseg.train(name, data, out, overrides=(*SMALL, *overrides), device="cpu", report=False)
    recipe = load_recipe(out / "recipe.yaml")
    folder = out / "fold-0" / recipe.stages[0].name
    history = [{key: float(value) for key, value in row.items()} for row in read_csv(folder / "history.csv")]
    assert len(history) == recipe.stages[0].epochs
    assert all(math.isfinite(value) for row in history for value in row.values())
    assert history[-1]["loss"] < history[0]["loss"]
    net = recipe.stages[0].net
    logits = logit_count(len(recipe.data.classes))
    before = build(net.arch, recipe.data.channels, logits, seed=recipe.seed, **net.options).core.state_dict()
    after = {key.removeprefix("net."): value for key, value in load_file(folder / "last.safetensors").items()}
    still = [key for key, value in before.items() if value.ndim > 1 and torch.equal(value, after[key])]
    assert not still
    return recipe, history


def sides(out: Path) -> list[set[str]]:
    """The groups of train, validation and test."""
    split = read_json(out / "split.json")
    return [{split["groups"][name] for name in split["folds"][0][part]} for part in ("train", "validation", "test")]


def assert_apart(out: Path) -> None:
    train, validation, test = sides(out)
    assert train and validation and test
    assert not (train & validation or train & test or validation & test)


def test_vaze2020_teacher(breast, tmp_path):
    recipe, history = trained(
        "vaze2020:teacher", breast, tmp_path / "run", *CLUSTERS, "data.size=[64, 64]", "stages.0.batch=8"
    )
    assert [row["lr"] for row in history] == pytest.approx([0.1, 0.1])
    assert set(history[0]) == {"epoch", "lr", "loss", "batch_dice", "val_loss", "val_dice", "val_iou"}
    assert recipe.stages[0].optimizer.l2_kernel == 5e-4
    # Divided by the deviation, not by the mean: stored in the model as learned from the training part.
    normalization = pocketseg.load(tmp_path / "run").pipeline.normalization
    assert 0 < normalization.std[0] != pytest.approx(normalization.mean[0], rel=0.02)
    assert_apart(tmp_path / "run")


def test_vaze2020_teacher_with_its_boundary_regularizer(breast, tmp_path):
    _, history = trained(
        "vaze2020:teacher", breast, tmp_path / "run", *CLUSTERS,
        "data.size=[64, 64]", "stages.0.batch=8", "stages.0.loss.boundary=1e-3", "stages.0.net.blocks=4",
    )  # fmt: skip
    for row in history:
        assert row["loss"] == pytest.approx(row["batch_dice"] + 1e-3 * row["boundary"])
        assert -1 < row["boundary"] != 0


@pytest.mark.parametrize(
    "overrides",
    [(), pytest.param(("stages.0.loss={bce: 0.995, tv: 0.005}",), marks=pytest.mark.slow("a training more"))],
)
def test_light_unet(breast, tmp_path, overrides):
    recipe, history = trained(
        "light-unet-table",
        breast,
        tmp_path / "run",
        *CLUSTERS,
        "sweep=null",
        "data.size=[32, 32]",
        "stages.0.batch=4",
        *overrides,
    )
    assert [row["lr"] for row in history] == [1e-4] * 2
    if overrides:
        assert all(row["loss"] == pytest.approx(0.995 * row["bce"] + 0.005 * row["tv"]) for row in history)
    else:
        assert recipe.stages[0].loss.dice_smoothing == 1e-4
    assert recipe.data.channels == 3 and recipe.augment.affine.per_axis
    assert_apart(tmp_path / "run")


@pytest.mark.slow("a training more")
def test_lighter_unet(breast, tmp_path):
    recipe, history = trained(
        "light-unet-table", breast, tmp_path / "run", *CLUSTERS, "sweep=null", "data.size=[32, 32]", "stages.0.batch=4",
        "stages.0.net.arch=lighter_unet_128", "stages.0.optimizer.weight_decay=1e-4",
    )  # fmt: skip
    assert [row["lr"] for row in history] == [1e-4] * 2
    assert recipe.stages[0].optimizer.weight_decay == 1e-4 and recipe.postprocess.fill_holes
    assert_apart(tmp_path / "run")


@pytest.mark.slow("a training more")
def test_resnet18_unet(breast, tmp_path):
    recipe, history = trained(
        "resnet18-unet-encoders", breast, tmp_path / "run", *CLUSTERS, "sweep=null", "data.size=[64, 64]",
        "stages.0.init=null",
    )  # fmt: skip
    assert [row["lr"] for row in history] == [1e-3] * 2
    assert recipe.stages[0].best_by == "loss" and recipe.normalize.clip == 1
    assert_apart(tmp_path / "run")


def test_three_classes_by_folder(breast, tmp_path):
    recipe, history = trained(
        "resnet18-unet-encoders:classes", breast, tmp_path / "run", *CLUSTERS, "data.size=[32, 32]",
        "stages.0.net={arch: thin_unet, blocks: 3}", "stages.0.init=null",
    )  # fmt: skip
    assert recipe.data.classes == ["benign", "malignant"] and "ce" in history[0]
    summaries = read_json(tmp_path / "run/fold-0/summary.json")
    assert {row["class_name"] for row in summaries} == {"benign", "malignant"}
    assert all(row["positive"] > 0 and row["negative"] > 0 for row in summaries)


def test_blu_net_with_pixel_weights(membranes, tmp_path):
    """The separable net from scratch; gaps between cells weigh more, so its loss is not that without weights."""
    overrides = [
        "split.kind=holdout", "data.size=[32, 32]", "data.classes=[membrane]", "stages.*.net.width=4",
        "stages.*.epochs=1", "stages.binary=null",
    ]  # fmt: skip
    losses = {}
    for weights in ("borders", "null"):
        given = [*overrides, f"stages.*.loss.pixel_weights={weights}"]
        pocketseg.train("blu-net:scratch", membranes, tmp_path / weights, overrides=given, device="cpu", report=False)
        losses[weights] = float(read_csv(tmp_path / weights / "fold-0/separable/history.csv")[0]["bce"])
    assert 0 < losses["borders"] < losses["null"]
    with pytest.raises(DataError, match="has no pixel weights"):
        pocketseg.train(
            "blu-net:scratch", membranes, tmp_path / "files", device="cpu",
            overrides=[*overrides, "stages.*.loss.pixel_weights=files"], report=False,
        )  # fmt: skip


@pytest.mark.slow("a training more")
def test_fixed_point_em_float(membranes, tmp_path):
    quantized = [stage.name for stage in load_recipe("fixed-point-grid").stages[1:]]
    recipe, history = trained(
        "fixed-point-grid", membranes, tmp_path / "run", "data.size=[64, 64]", "augment.copies=2", "stages.0.epochs=5",
        *(f"stages.{name}=null" for name in quantized),
    )  # fmt: skip
    assert history[0]["lr"] > 9e-4 and history[-1]["lr"] < 2e-5
    assert all(row["loss"] == pytest.approx(0.5 * row["bce"] + 0.5 * row["batch_dice"]) for row in history)
    assert recipe.postprocess.threshold == 0.5 and recipe.data.mask.invert
    fold = read_json(tmp_path / "run/split.json")["folds"][0]
    blocks = [sorted(int(Path(name).stem) for name in fold[part]) for part in ("train", "validation", "test")]
    assert sorted(number for block in blocks for number in block) == list(range(10))
    assert all(block == list(range(block[0], block[0] + len(block))) for block in blocks)
