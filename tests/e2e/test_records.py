"""What a training leaves beside its results: TensorBoard's event files, and the log."""

from __future__ import annotations

import io
import json
import re
import sys

import numpy as np
import pytest
from PIL import Image

import pocketseg
from helpers.commands import SMALL, TRAINED, overrides, read_csv, run_cli
from pocketseg.errors import EnvironmentProblem, RecipeError, RunError
from pocketseg.evaluation import read_summaries


@pytest.fixture(scope="module")
def events(trained_run, phantom_data, tmp_path_factory):
    """The small run once more with TensorBoard, and its event files read back."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path_factory.mktemp("tensorboard") / "run"
    pocketseg.train("demo", phantom_data, out, overrides=TRAINED, device="cpu", logs=["tensorboard"], report=False)
    found = EventAccumulator(str(out / "fold-0/float/tensorboard"), size_guidance={"images": 0, "scalars": 0})
    found.Reload()
    return out, found


def test_the_training_is_the_same_with_it(events, trained_run):
    for name in ("best.safetensors", "last.safetensors", "history.csv"):
        file = f"fold-0/float/{name}"
        assert (events[0] / file).read_bytes() == (trained_run / file).read_bytes()


def test_epochs(events):
    out, found = events
    history = read_csv(out / "fold-0/float/history.csv")
    for name in ("loss", "bce", "dice", "lr", "val_loss", "val_dice", "val_iou"):
        points = found.Scalars(f"epoch/{name}")
        assert [point.step for point in points] == [1, 2, 3, 4]
        assert [point.value for point in points] == pytest.approx([float(row[name]) for row in history], rel=1e-5)
    assert all(point.value > 0 for point in found.Scalars("epoch/images_per_s"))


def test_steps(events):
    _, found = events
    losses = found.Scalars("step/loss")
    assert [point.step for point in losses] == list(range(1, len(losses) + 1)) and len(losses) % 4 == 0
    parts = [found.Scalars(f"step/{name}") for name in ("bce", "dice")]
    assert [point.value for point in losses] == pytest.approx([a.value + b.value for a, b in zip(*parts, strict=True)])
    rates = [point.value for point in found.Scalars("step/lr")]
    assert len(rates) == len(losses) and max(rates) > 2 * rates[-1] > 0


def test_pictures(events):
    """Gray images with colored contours; the prediction changes while it trains, image and reference do not."""
    _, found = events
    tags = [tag for tag in found.Tags()["images"] if tag.startswith("examples/")]
    assert len(tags) >= 4
    changed = 0
    for tag in tags:
        pictures = []
        for event in found.Images(tag):
            with Image.open(io.BytesIO(event.encoded_image_string)) as image:
                pictures.append(np.asarray(image))
        assert [event.step for event in found.Images(tag)] == [1, 2, 3, 4]
        assert pictures[0].shape == (48, 48, 3)
        changed += any((picture != pictures[0]).any() for picture in pictures[1:])
    assert changed
    colors = {tuple(pixel) for picture in pictures for pixel in picture.reshape(-1, 3).tolist()}
    assert (86, 180, 233) in colors, "the reference is blue"


def test_a_missing_package_is_reported_before_training(phantom_data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'pocketseg\[tensorboard\]'"):
        pocketseg.train(
            "demo", phantom_data, tmp_path / "run", overrides=SMALL, device="cpu", logs=["tensorboard"], report=False
        )
    assert not (tmp_path / "run").exists()


def test_a_missing_ray_is_reported_before_training(phantom_data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'pocketseg\[cluster\]'"):
        pocketseg.train(
            "demo", phantom_data, tmp_path / "run", overrides=SMALL, device="cpu", cluster="local", report=False
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow("a training more; the next has an error")
def test_the_log_holds_all_that_is_printed(phantom_data, tmp_path):
    done = run_cli("train", "demo", "--data", phantom_data, "--out", tmp_path / "run", *overrides("stages.0.epochs=2"))
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "run/log.txt").read_text(encoding="utf-8")
    for line in filter(str.strip, [*done.stdout.splitlines(), *done.stderr.splitlines()]):
        assert line.removeprefix("warning: ").rstrip() in log, line
    assert len(re.findall(r"fold 0, stage float, epoch \d/2  lr .* loss .* bce .* val_dice ", log)) == 2


def test_an_error_is_in_the_log(phantom_data, tmp_path):
    overflow = "stages.0.loss.bce=1.0e+39"
    done = run_cli("train", "demo", "--data", phantom_data, "--out", tmp_path / "run",
                   *overrides(overflow))  # fmt: skip
    assert done.returncode == 2 and "not finite" in done.stderr
    assert done.stderr.strip().splitlines()[-1] in (tmp_path / "run/log.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def measured(phantom_data, tmp_path_factory):
    """A run whose metrics were measured every second epoch, and whose last epoch is kept."""
    out = tmp_path_factory.mktemp("measured") / "run"
    plain = ("postprocess={}", "stages.0.keep=last", "evaluate.every=2", "evaluate.metrics=[dice, recall, hd95, brier]")
    pocketseg.train("demo", phantom_data, out, overrides=[*SMALL, *plain], device="cpu", report=False)
    return out


def test_every_metric_each_n_epochs_is_what_the_evaluation_finds(measured):
    history = read_csv(measured / "fold-0/float/history.csv")
    names = ["val_hd95", "val_recall", "val_brier"]
    assert [[bool(row[name]) for name in names] for row in history] == [[False] * 3, [True] * 3] * 2
    assert list(history[0])[-4:] == ["val_brier", "val_hd95", "val_precision", "val_recall"]
    (summary,) = [one for one in read_summaries(measured / "fold-0/summary.json") if one.part == "validation"]
    for name in names:
        mean = summary.metrics[name.removeprefix("val_")].mean
        assert float(history[-1][name]) == pytest.approx(mean, rel=1e-5)


def test_a_range_of_epochs_in_numbers(measured):
    dice = [float(row["val_dice"]) for row in read_csv(measured / "fold-0/float/history.csv")]
    (row,) = pocketseg.history(measured, epochs=(2, 4), columns=["val_dice"]).rows
    assert (row.epochs, row.mean, row.last) == (3, pytest.approx(np.mean(dice[1:])), dice[3])
    assert row.standard_deviation == pytest.approx(np.std(dice[1:], ddof=1))
    assert row.lowest == (min(dice[1:]), dice.index(min(dice[1:]), 1) + 1)
    assert row.highest == (max(dice[1:]), dice.index(max(dice[1:]), 1) + 1)
    (sparse,) = pocketseg.history(measured, columns=["val_hd95"]).rows
    assert sparse.epochs == 2
    done = run_cli("history", str(measured), "--epochs", "2", "4", "--column", "val_dice", "--json")
    assert json.loads(done.stdout)[0]["mean"] == pytest.approx(row.mean)
    for wrong, said in (
        ({"epochs": (9, 12)}, "has no epoch from 9 to 12"),
        ({"columns": ["val_dic"]}, "mean val_dice"),
    ):
        with pytest.raises(RunError, match=said):
            pocketseg.history(measured, **wrong)


def test_a_stage_leaves_the_drawing_of_its_net_as_pixels_too(measured):
    with Image.open(measured / "fold-0/float/architecture.png") as picture:
        assert picture.size[0] > 100


@pytest.mark.whole
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("stages.0.ignore_epochs=4", "4 of 4 epochs leave none"),
        ("stages.0.validate_every=3", "not a multiple of validate_every"),
    ],
)
def test_epochs_that_make_no_sense(phantom_data, tmp_path, wrong, said):
    with pytest.raises(RecipeError, match=said):
        pocketseg.train("demo", phantom_data, tmp_path / "r", overrides=[*SMALL, "evaluate.every=2", wrong])
