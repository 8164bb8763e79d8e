"""Classes that overlap, from files to a packed model and back: a tumor that lies in an organ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pocketseg
from helpers.commands import read_csv, read_json, run_cli
from helpers.pictures import save
from pocketseg.data.readers import read_image, read_mask
from pocketseg.engine.container import read_container
from pocketseg.errors import RecipeError, RunError

NAMES = ("organ", "tumor")
SIZE, COUNT = 32, 32
KEYS = ("data.multilabel=true", "data.classes=[organ,tumor]", "data.mask.layers=[[1,3],[3]]")
# A net and a budget that learn this in seconds.
RECIPE = {
    "data": {
        "size": [SIZE, SIZE], "channels": 1, "classes": list(NAMES), "multilabel": True,
        "mask": {"layers": [[1, 3], [3]]},
    },
    "split": {"test": 0.25, "validation": 0.25},
    "augment": {"flip": ["horizontal"], "cutmix": 0.1},
    "stages": [
        {
            "name": "float", "net": {"arch": "thin_unet", "width": 8, "blocks": 2}, "loss": {"bce": 1, "dice": 1},
            "optimizer": {"lr": 2e-2}, "epochs": 10, "batch": 4, "precision": "f32",
        },
        {
            "name": "small", "net": {"arch": "thin_unet", "width": 8, "blocks": 2}, "init": {"stage": "float"},
            "quant": {"scheme": "w8a8"}, "loss": {"bce": 1, "dice": 1}, "optimizer": {"lr": 1e-3}, "epochs": 1,
            "batch": 8, "precision": "f32",
        },
    ],
    "postprocess": {"threshold": "auto", "fill_holes": True, "min_pixels": 2},
}  # fmt: skip


def planes_of(seed: int) -> np.ndarray:
    """A disc, and in most cases a smaller one in it."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((SIZE, SIZE))
    row, column = rng.uniform(13, 19, 2)
    organ = np.hypot(rows - row, columns - column) < rng.uniform(8, 11)
    tumor = np.hypot(rows - row - rng.uniform(-2, 2), columns - column) < rng.uniform(3, 5)
    return np.stack([organ, tumor & (seed % 6 > 0)]).astype(np.uint8)


def write_data(root: Path) -> Path:
    """Masks whose value 1 is the organ, and 3 both."""
    for seed in range(COUNT):
        organ, tumor = planes_of(seed)
        noise = np.random.default_rng(1000 + seed).normal(0, 5, (SIZE, SIZE))
        image = 50 + 60 * organ.astype(float) + 90 * tumor + noise
        save(root / f"images/c{seed:02}.png", image.clip(0, 255).astype(np.uint8))
        save(root / f"masks/c{seed:02}.png", organ + 2 * tumor)
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("overlapping") / "data")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    pocketseg.train(RECIPE, data, out, device="cpu")
    return out


def test_both_classes_are_learned_where_they_overlap(run):
    summaries = [each for each in read_json(run / "fold-0/summary.json") if each["part"] == "test"]
    assert [each["class_name"] for each in summaries] == list(NAMES)
    assert all(each["dice"] > 0.9 for each in summaries), summaries
    assert summaries[1]["negative"] > 0 and summaries[1]["false_alarms"] == 0
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "organ, tumor; they may overlap" in report and "threshold" in report


def test_torch_onnx_and_the_engine_give_the_same_masks(run, data, tmp_path):
    packed = pocketseg.pack(run, out=tmp_path / "m.pseg", stage="float").file
    exported = pocketseg.export(run, out=tmp_path / "m.onnx", stage="float").file
    card = read_container(packed.read_bytes(), "m.pseg").card
    assert card["pipeline"]["multilabel"] is True and card["pipeline"]["classes"] == list(NAMES)
    models = [pocketseg.load(path) for path in (run / "fold-0/float/best.safetensors", packed, exported)]
    overlap = 0
    for seed in range(COUNT):
        image = read_image(data / f"images/c{seed:02}.png")
        masks = [model.mask(image) for model in models]
        assert masks[0].shape == (2, SIZE, SIZE)
        np.testing.assert_array_equal(masks[0], masks[1])
        np.testing.assert_array_equal(masks[0], masks[2])
        wanted = planes_of(seed)
        overlap += int((masks[0].sum(0) > 1).sum())
        assert 2 * (masks[0] & wanted).sum() > 0.9 * (masks[0].sum() + wanted.sum())
    assert overlap > 500
    assert run_cli("verify", packed).returncode == 0


def test_the_quantized_model_that_a_run_recommends_finds_the_same(run, data, tmp_path):
    for model, out in ((run, "a"), (run / "fold-0/small/best.safetensors", "b")):
        pocketseg.evaluate(model, data, out=tmp_path / out, overrides=KEYS)
        assert all(each["dice"] > 0.9 for each in read_json(tmp_path / out / "summary.json"))


def test_masks_on_disk_score_as_the_model_does(run, data, tmp_path):
    done = run_cli("predict", run, data / "images", "--out", tmp_path / "out", "--overlay", "--table")
    assert done.returncode == 0, done.stderr
    from_model = pocketseg.evaluate(run, data, out=tmp_path / "a")
    sets = [part for key in KEYS for part in ("--set", key)]
    done = run_cli("evaluate", tmp_path / "out", data, "--out", tmp_path / "b", *sets)
    assert done.returncode == 0, done.stderr
    from_masks = read_csv(tmp_path / "b/cases.csv")
    assert len(from_masks) == len(from_model.rows) == 2 * COUNT
    for row, mine in zip(from_masks, from_model.rows, strict=True):
        assert (row["case"], row["class_name"], row["outcome"]) == (mine.case, mine.class_name, mine.outcome)
        assert int(row["predicted_pixels"]) == mine.predicted_pixels
    files = {name: read_mask(tmp_path / f"out/c07_{name}.png") > 0 for name in NAMES}
    assert (files["tumor"] & files["organ"]).any()
    rows = {row["class"]: row for row in read_csv(tmp_path / "out/measurements.csv") if "c07" in row["image"]}
    assert all(int(rows[name]["area_px"]) == files[name].sum() for name in NAMES)


def test_runs_of_two_kinds_do_not_start_each_other(run, data, tmp_path):
    exclusive = {
        **RECIPE,
        "data": {"size": [SIZE, SIZE], "channels": 1, "classes": ["organ", "tumor"], "mask": {"values": [1, 3]}},
        "stages": [{**RECIPE["stages"][0], "loss": {"ce": 1}, "init": {"run": str(run), "stage": "float"}}],
    }
    with pytest.raises(RunError, match=r"2 logits \(data\.multilabel\), not 3"):
        pocketseg.train(exclusive, data, tmp_path / "a", device="cpu")
    taught = {**RECIPE["stages"][0], "loss": {"ce": 1}, "teacher": {"run": str(run)}, "distil": {}}
    with pytest.raises(RecipeError, match="not learned from teachers"):
        pocketseg.train({**exclusive, "stages": [taught]}, data, tmp_path / "b", device="cpu")
