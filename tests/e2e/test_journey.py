"""From a folder to a report, each verb as a user calls it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

import pocketseg
from helpers.commands import overrides, read_csv, read_json, run_cli
from pocketseg.errors import DataError, RunError
from pocketseg.evaluation import read_scores
from pocketseg.recipes import load_recipe


def test_run_folder_has_everything(trained_run):
    expected = {"recipe.yaml", "manifest.json", "split.json", "log.txt", "fold-0"}
    assert expected <= {path.name for path in trained_run.iterdir()}
    stage = {path.name for path in (trained_run / "fold-0/float").iterdir()}
    wanted = {"best.safetensors", "last.safetensors", "history.csv", "timings.csv", "curves.png", "examples.png"}
    assert wanted <= stage
    manifest = read_json(trained_run / "manifest.json")
    assert manifest["libraries"]["torch"].startswith("2.")
    assert len(manifest["data"]["sha256"]) == 64
    assert manifest["wall_time_s"] > 0
    assert manifest["finished"]
    assert "equal bytes" in manifest["determinism"]


def test_it_learns(trained_run):
    rows = read_csv(trained_run / "fold-0/float/history.csv")
    assert len(rows) == 4
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_results_row_beside_the_runs(trained_run):
    rows = read_csv(trained_run.parent / "results.csv")
    (row,) = (row for row in rows if row["name"] == "small")
    test = next(one for one in read_json(trained_run / "fold-0/summary.json") if one["part"] == "test")
    assert row["fold-0"] == row["test"] == f"{test['dice']:.4f}" and row["with empty"] == f"{test['dice_all']:.4f}"


def test_resolved_recipe_trains_to_the_same_weights(trained_run, phantom_data, tmp_path):
    """The run folder alone says how to make it again, to the byte."""
    again = tmp_path / "again"
    pocketseg.train(
        trained_run / "recipe.yaml", phantom_data, again, split=trained_run / "split.json", device="cpu", report=False
    )
    for name in ("best.safetensors", "history.csv"):
        assert (again / "fold-0/float" / name).read_bytes() == (trained_run / "fold-0/float" / name).read_bytes()


def test_onnx_gives_the_table_of_torch(trained_run, exported, phantom_data, tmp_path):
    split = trained_run / "split.json"
    torch = pocketseg.evaluate(
        trained_run, phantom_data, split=split, part="test", backend="torch", out=tmp_path / "torch"
    )
    onnx = pocketseg.evaluate(exported, phantom_data, split=split, part="test", out=tmp_path / "onnx")
    assert [row.case for row in torch.rows] == [row.case for row in onnx.rows]
    for a, b in zip(torch.rows, onnx.rows, strict=True):
        assert a.outcome == b.outcome
        assert a.dice == pytest.approx(b.dice, abs=2e-3, nan_ok=True)
    trained = read_json(trained_run / "fold-0/summary.json")
    assert next(s for s in trained if s["part"] == "test")["dice"] == pytest.approx(torch.summaries[0].dice)


def test_predict_writes_masks_of_the_same_size_and_name(exported, phantom_data, tmp_path):
    images = tmp_path / "in"
    (images / "deeper").mkdir(parents=True)
    rng = np.random.default_rng(0)
    sizes = {"a b.png": (37, 61), "deeper/-odd (1).tif": (5, 3), "gray16.png": (64, 64), "color.jpg": (20, 33)}
    for name, shape in sizes.items():
        pixels = rng.integers(0, 255, shape, dtype=np.uint8)
        if name == "gray16.png":
            pixels = pixels.astype(np.uint16) * 257
        if name == "color.jpg":
            pixels = np.stack([pixels] * 3, -1)
        Image.fromarray(pixels).save(images / name)
    done = run_cli("predict", exported, images, "--out", tmp_path / "out", "--overlay", "--probabilities")
    assert done.returncode == 0, done.stderr
    for name, shape in sizes.items():
        stem = tmp_path / "out" / name.rsplit(".", 1)[0]
        mask = np.asarray(Image.open(f"{stem}.png"))
        assert mask.shape == shape
        assert set(np.unique(mask)) <= {0, 255}
        assert np.asarray(Image.open(f"{stem}_overlay.png")).ndim == 3
        probability = np.asarray(Image.open(f"{stem}_probability.png"))
        assert probability.shape == shape
        assert probability.dtype == np.uint16


def test_predictions_are_evaluated_like_the_model(exported, trained_run, phantom_data, tmp_path):
    """Masks on disk and the model itself give one table."""
    pocketseg.predict(exported, [phantom_data / "images"], tmp_path / "masks")
    split = trained_run / "split.json"
    masks = pocketseg.evaluate(tmp_path / "masks", phantom_data, split=split, part="test", out=tmp_path / "a")
    model = pocketseg.evaluate(exported, phantom_data, split=split, part="test", out=tmp_path / "b")
    assert [row.dice for row in masks.rows] == pytest.approx([row.dice for row in model.rows], nan_ok=True)


def test_evaluate_of_other_data_needs_no_table_of_the_training(trained_run, phantom_data, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(phantom_data, other, ignore=shutil.ignore_patterns("patients.csv"))
    done = run_cli("evaluate", trained_run, other, "--out", tmp_path / "without")
    assert done.returncode == 0, done.stderr
    assert "has no patients.csv, by which the training's data was grouped" in done.stderr + done.stdout
    whole = run_cli("evaluate", trained_run, phantom_data, "--out", tmp_path / "with")
    assert whole.returncode == 0 and "was grouped" not in whole.stderr + whole.stdout
    without, with_groups = (read_scores(tmp_path / name / "cases.csv") for name in ("without", "with"))
    assert [row.dice for row in without] == pytest.approx([row.dice for row in with_groups], nan_ok=True)
    assert len({row.group for row in without}) > len({row.group for row in with_groups})
    asked = run_cli("evaluate", trained_run, other, "--out", tmp_path / "asked", "--set", "data.group_csv=no.csv")
    assert asked.returncode == 2 and "no.csv" in asked.stderr + asked.stdout


def test_evaluate_measures_what_it_is_asked_for(exported, trained_run, phantom_data, tmp_path):
    """Distances, objects, calibration and a comparison from the command line; without probabilities a clear refusal."""
    split = ("--split", trained_run / "split.json", "--part", "test")
    pocketseg.predict(exported, [phantom_data / "images"], tmp_path / "masks")
    first = run_cli("evaluate", tmp_path / "masks", phantom_data, *split, "--out", tmp_path / "a")
    assert first.returncode == 0, first.stderr
    assert {"hd95", "assd", "unit"} <= read_csv(tmp_path / "a/cases.csv")[0].keys()
    metrics = "dice,hd95,surface_dice,lesion_f1,brier,compat.medpy_hd95"
    done = run_cli(
        "evaluate", exported, phantom_data, *split, "--out", tmp_path / "b", "--metrics", metrics, "--tolerance", "3",
        "--against", tmp_path / "a", "--margin", "0.02",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "worse by less than 0.02 in dice" in " ".join(done.stdout.split())
    rows = read_csv(tmp_path / "b/cases.csv")
    assert all(0 <= float(row["brier"]) <= 1 and row["unit"] == "px" for row in rows)
    for name in ("by_size", "by_group", "objects", "free_response"):
        assert read_csv(tmp_path / f"b/{name}.csv"), name
    found = {row["metric"]: row for row in read_csv(tmp_path / "b/comparison.csv")}
    assert (found["dice"]["role"], found["hd95"]["role"]) == ("primary", "")  # masks have no Dice with the rules off
    assert float(found["dice"]["mean"]) == 0 and float(found["hd95"]["p_value"]) == 1
    assert found["dice"]["non_inferior"] == "True" and found["hd95"]["margin"] == ""
    alone = run_cli("evaluate", exported, phantom_data, *split, "--margin", "0.02")
    assert alone.returncode == 2 and "--against" in alone.stderr
    refused = run_cli("evaluate", tmp_path / "masks", phantom_data, *split, "--metrics", "dice,brier")
    assert refused.returncode == 2 and "brier" in refused.stderr and "Traceback" not in refused.stderr
    unknown = run_cli("evaluate", exported, phantom_data, *split, "--metrics", "dice,hd59")
    assert unknown.returncode == 2 and "did you mean hd95" in unknown.stderr


def test_another_table_that_is_not_there(trained_run, phantom_data, tmp_path):
    for place in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(DataError, match=r"does not exist → give the cases.csv of an evaluation, or its folder"):
            pocketseg.evaluate(trained_run, phantom_data, against=place)


def test_a_run_is_evaluated_by_its_recipes_metrics(trained_run):
    rows = read_csv(trained_run / "fold-0/cases-test.csv")
    assert {"hd95", "assd"} <= rows[0].keys()
    (row,) = read_csv(trained_run.parent / "results.csv")
    assert float(row["test"]) > 0 and float(row["hd95 [px]"]) >= 0
    (test,) = [each for each in read_json(trained_run / "fold-0/summary.json") if each["part"] == "test"]
    assert test["metrics"]["hd95"]["unit"] == "px" and test["metrics"]["dice"]["mean"] == test["dice"]


def test_load_predicts(exported, trained_run, phantom_data):
    image = np.asarray(Image.open(sorted((phantom_data / "images").iterdir())[0]))
    from_onnx, from_torch = pocketseg.load(exported), pocketseg.load(trained_run, backend="torch")
    assert from_onnx.predict(image).shape == (*image.shape, 1)
    np.testing.assert_allclose(from_onnx.predict(image), from_torch.predict(image), atol=1e-4)
    assert from_onnx.mask(image).dtype == np.uint8


def test_exported_file_names_no_case_and_no_path(exported, phantom_data):
    content = exported.read_bytes()
    assert b"patient-" not in content
    assert str(phantom_data).encode() not in content
    assert b"/pocketseg/nets" not in content


def test_report_is_one_file(trained_run):
    page = pocketseg.report(trained_run).read_text(encoding="utf-8")
    assert 'src="http' not in page and 'href="http' not in page
    assert page.count("<img") >= 3
    assert "Dice" in page


@pytest.mark.slow("a training in a process")
def test_kfold_trains_the_fold_asked_for(phantom_data, tmp_path):
    done = run_cli(
        "train", "demo", "--data", phantom_data, "--out", tmp_path / "run", "--fold", "1",
        *overrides("split.kind=kfold", "split.folds=3", "stages.0.epochs=1"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/fold-1/summary.json").exists()
    assert not (tmp_path / "run/fold-0").exists()


def test_several_classes_and_color_from_npz(tmp_path):
    """Three channels, two classes, stages that start from one another, tiles: train, export, predict."""
    rng = np.random.default_rng(0)
    masks = np.zeros((12, 40, 40, 1), np.uint8)
    masks[:, 5:20, 5:20] = 1
    masks[:, 22:36, 10:30] = 2
    images = np.clip(rng.normal(40 + 80 * masks, 10), 0, 255).astype(np.uint8).repeat(3, axis=3)
    np.savez(tmp_path / "data.npz", images=images, masks=masks)
    net = {"arch": "thin_unet", "width": 8, "blocks": 2}
    stage = {"net": net, "loss": {"ce": 1, "dice": 1}, "epochs": 3, "batch": 4, "precision": "f32"}
    recipe = {
        "data": {"size": [32, 32], "channels": 3, "classes": ["left", "right"], "fit": "tile"},
        "split": {"test": 0.25, "validation": 0.25},
        "stages": [{"name": "first", **stage}, {"name": "second", "init": {"stage": "first"}, **stage}],
    }
    run = tmp_path / "run"
    result = pocketseg.train(recipe, tmp_path / "data.npz", run, device="cpu", report=False)
    assert {summary.class_name for summary in result.summaries[0]} == {"left", "right"}
    exported = pocketseg.export(run)
    assert exported.parity.holds
    Image.fromarray(images[0]).save(tmp_path / "one.png")
    pocketseg.predict(exported.file, [tmp_path / "one.png"], tmp_path / "out")
    assert set(np.unique(np.asarray(Image.open(tmp_path / "out/one.png")))) <= {0, 1, 2}
    first = read_csv(run / "fold-0/first/history.csv")[-1]["loss"]
    second = read_csv(run / "fold-0/second/history.csv")[0]["loss"]
    assert float(second) < float(first) * 1.2  # it starts where the first ended, not again


def test_finished_run_is_not_overwritten(trained_run, phantom_data):
    with pytest.raises(RunError, match="already holds a run"):
        pocketseg.train("demo", phantom_data, trained_run, report=False)


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(trained_run, phantom_data, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    for name in ("recipe.yaml", "manifest.json", "split.json", "log.txt"):
        shutil.copy(trained_run / name, out / name)
    recipe = out / "recipe.yaml"
    pocketseg.train(recipe, phantom_data, out, resume=True, device="cpu", report=False)
    stage = load_recipe(recipe).stages[0].name
    for name in ("best.safetensors", "history.csv"):
        assert (out / "fold-0" / stage / name).read_bytes() == (trained_run / "fold-0" / stage / name).read_bytes()
    with pytest.raises(RunError, match="holds no run to resume"):
        pocketseg.train(recipe, phantom_data, tmp_path / "none", resume=True, device="cpu", report=False)


def test_evaluating_a_run_on_everything_is_said(trained_run, phantom_data, tmp_path, caplog):
    pocketseg.evaluate(trained_run, phantom_data, out=tmp_path / "all")
    assert "the training cases of" in caplog.text
    caplog.clear()
    pocketseg.evaluate(trained_run, phantom_data, split=trained_run / "split.json", out=tmp_path / "test")
    assert "the training cases of" not in caplog.text


def test_a_form_is_shown_with_what_it_sets():
    done = run_cli("recipes", "show", "pocket:smoke")
    shown = load_recipe(yaml.safe_load(done.stdout))
    assert done.returncode == 0 and shown == load_recipe("pocket:smoke")
    missing = run_cli("recipes", "show", "pocket:smok")
    assert missing.returncode == 2 and "did you mean smoke" in missing.stderr
