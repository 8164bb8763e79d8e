"""Folds with a fixed test beside them, and models that predict together."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from PIL import Image, ImageDraw

import pocketseg
from helpers.commands import SMALL, read_csv, read_json, run_cli
from pocketseg.errors import DataError, ModelFileError, RunError
from pocketseg.evaluation import read_scores, read_summaries

FOLDS = ("split.kind=kfold", "split.folds=2", "split.fixed_test=8", "stages.0.epochs=1", "postprocess.threshold=auto")


@pytest.fixture(scope="module")
def run(phantom_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("ensemble") / "cv"
    pocketseg.train("demo", phantom_data, out, overrides=[*SMALL, *FOLDS], device="cpu")
    return out


def test_every_net_and_their_ensemble_are_evaluated_on_the_fixed_test(run):
    split = read_json(run / "split.json")
    fixed = split["folds"][0]["fixed_test"]
    for fold in (0, 1):
        rows = read_scores(run / f"fold-{fold}/cases-fixed_test.csv")
        assert [row.case for row in rows] == fixed
        assert not set(fixed) & {
            name for part in ("train", "validation", "test") for name in split["folds"][fold][part]
        }
    together = read_scores(run / "ensemble/cases-fixed_test.csv")
    assert [row.case for row in together] == fixed
    (row,) = [row for row in read_csv(run.parent / "results.csv") if row["name"] == run.name]
    dice = [read_summaries(run / f"fold-{fold}/summary.json")[-1].dice for fold in (0, 1)]
    assert float(row["fixed test"]) == pytest.approx(np.mean(dice), abs=1e-4)
    assert float(row["fixed test std"]) == pytest.approx(np.std(dice, ddof=1), abs=1e-4)
    (whole,) = read_summaries(run / "ensemble/summary.json")
    assert float(row["ensemble"]) == pytest.approx(whole.dice, abs=1e-4) and whole.cases == len(fixed)
    said = re.search(r"fixed test, lesion, \d+ cases: mean Dice of the nets of 2 folds", (run / "log.txt").read_text())
    assert said
    page = (run / "report.html").read_text()
    assert "that no fold has seen" in page and "of their ensemble" in page


def test_all_folds_predict_as_the_mean_of_their_probabilities(run, phantom_data, tmp_path):
    image = sorted((phantom_data / "images").glob("*.png"))[0]
    pixels = np.asarray(Image.open(image))
    models = [pocketseg.load(run, fold=fold, backend="torch") for fold in (0, 1)]
    whole = pocketseg.load(run, fold="all", backend="torch")
    mean = np.mean([model.predict(pixels) for model in models], axis=0)
    assert np.allclose(whole.predict(pixels), mean, atol=1e-6)
    thresholds = [model.pipeline.postprocess.threshold for model in models]
    assert whole.pipeline.postprocess.threshold == pytest.approx(np.mean(thresholds))
    several = pocketseg.load([run / "fold-0/float/best.safetensors", run / "fold-1/float/best.safetensors"])
    assert np.array_equal(several.predict(pixels), whole.predict(pixels))
    done = run_cli("predict", str(run), str(image), "--out", str(tmp_path / "m"), "--fold", "all", "--backend", "torch")
    assert done.returncode == 0 and "2 times the time of one" in done.stderr
    assert np.array_equal(np.asarray(Image.open(tmp_path / "m" / image.name)) > 0, whole.mask(pixels) > 0)


def test_an_ensemble_is_evaluated_on_what_no_fold_has_seen(run, phantom_data, tmp_path):
    split = run / "split.json"
    found = pocketseg.evaluate(run, phantom_data, split=split, fold="all", backend="torch", out=tmp_path / "e")
    assert [row.case for row in found.rows] == read_json(split)["folds"][0]["fixed_test"]
    kept = {row.case: row.dice for row in read_scores(run / "ensemble/cases-fixed_test.csv")}
    assert {row.case: row.dice for row in found.rows} == pytest.approx(kept, nan_ok=True)
    with pytest.raises(DataError, match="training cases of others"):
        pocketseg.evaluate(run, phantom_data, split=split, part="test", fold="all", out=tmp_path / "f")


def test_an_ensemble_needs_several_trained_models(run, trained_run, phantom_data, tmp_path):
    with pytest.raises(ModelFileError, match="with a single fold"):
        pocketseg.load(trained_run, fold="all")
    with pytest.raises(RunError, match="is not a run folder"):
        pocketseg.load(phantom_data, fold="all")
    half = tmp_path / "half"
    pocketseg.train("demo", phantom_data, half, overrides=[*SMALL, *FOLDS], fold=0, device="cpu", report=False)
    assert not (half / "ensemble").exists()
    with pytest.raises(RunError, match="1 of 2 folds are trained"):
        pocketseg.load(half, fold="all")


def test_the_card_says_what_calipers_mean_for_another_scanner(phantom_data, tmp_path):
    """Two crosses in every image, as a person leaves them who measures; the same images without have no such line."""
    data = tmp_path / "measured"
    shutil.copytree(phantom_data, data)
    for file in (data / "images").glob("*.png"):
        picture = Image.open(file).convert("L")
        pen = ImageDraw.Draw(picture)
        for x, y in ((12, 14), (34, 30)):
            pen.line((x - 4, y, x + 4, y), fill=255)
            pen.line((x, y - 4, x, y + 4), fill=255)
        picture.save(file)
    for source, marked in ((data, True), (phantom_data, False)):
        run = tmp_path / f"run-{marked}"
        pocketseg.train("demo", source, run, overrides=[*SMALL, "stages.0.epochs=1"], device="cpu")
        assert ("Calipers or colored marks seem to be drawn into" in (run / "report.html").read_text()) is marked
