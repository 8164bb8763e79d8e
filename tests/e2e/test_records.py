"""What a training leaves beside its results: TensorBoard's event files, and the log."""

from __future__ import annotations

import io
import re
import sys

import numpy as np
import pytest
from PIL import Image

import pocketseg
from helpers.commands import SMALL, overrides, read_csv, run_cli
from pocketseg.errors import EnvironmentProblem


@pytest.fixture(scope="module")
def events(trained_run, phantom_data, tmp_path_factory):
    """The small run once more with TensorBoard, and its event files read back."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path_factory.mktemp("tensorboard") / "run"
    pocketseg.train("demo", phantom_data, out, overrides=SMALL, device="cpu", logs=["tensorboard"], report=False)
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
