"""Bad input: an exit code, all faults at once, what to do, no traceback, nothing lost."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from helpers.commands import overrides, run_cli


def refused(done, *told: str, code: int = 2) -> None:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "→" in done.stderr
    for text in told:
        assert text in done.stderr, f"{text!r} is missing in: {done.stderr}"


def save(path, pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_every_bad_file_is_named_before_training(tmp_path):
    data = tmp_path / "data"
    gray = np.arange(32 * 32, dtype=np.uint8).reshape(32, 32)
    mask = (gray > 100).astype(np.uint8) * 255
    for name in ("good", "small", "levels", "broken"):
        save(data / f"images/{name}.png", gray)
        save(data / f"masks/{name}.png", mask)
    save(data / "masks/small.png", mask[:16])
    save(data / "masks/levels.png", gray)
    (data / "images/broken.png").write_bytes((data / "images/good.png").read_bytes()[:60])
    out = tmp_path / "run"
    done = run_cli(
        "train", "demo", "--data", data, "--out", out, *overrides("data.group_csv=null", "data.group_column=null")
    )
    refused(done, "masks/small.png", "16×32", "masks/levels.png", "not a mask", "images/broken.png", "damaged")
    assert not out.exists()


@pytest.mark.slow("a command more; others here are refused too")
def test_missing_masks_are_all_named(tmp_path):
    for name in ("a", "b", "c"):
        save(tmp_path / f"images/{name}.png", np.zeros((16, 16), np.uint8))
    save(tmp_path / "masks/a.png", np.zeros((16, 16), np.uint8))
    done = run_cli("train", "thin-unet", "--data", tmp_path, "--out", tmp_path / "run")
    refused(done, "images/b.png", "images/c.png", "2 of 3 images have no mask")


def test_all_faults_of_a_recipe_at_once(phantom_data, tmp_path):
    done = run_cli(
        "train", "demo", "--data", phantom_data, "--out", tmp_path / "run",
        "--set", "stages.0.epoch=3", "--set", "stages.0.optimizer.lr=-1",
        "--set", "stages.0.net.widht=3", "--set", "sed=1",
    )  # fmt: skip
    refused(done, "did you mean epochs?", "greater than 0", "did you mean width?", "did you mean seed?")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("train", "no-such-recipe", "--data", "x", "--out", "y"), "thin-unet"),
        (("train", "thin-unet", "--data", "/no/such/folder", "--out", "y"), "/no/such/folder"),
        (("evaluate", "/no/such.onnx", "x"), "does not exist"),
        (("predict", "/no/such.onnx", "x.png", "--out", "y"), "does not exist"),
        (("export", "/no/such/run"), "is not a run folder"),
        (("report", "/no/such/run"), "is not a run folder"),
        (("recipes", "show", "thin-unett"), "did you mean thin-unet"),
    ],
)
def test_wrong_names(arguments, told, tmp_path):
    refused(run_cli(*arguments, cwd=tmp_path), told)


@pytest.mark.slow("a command more; others here are refused too")
def test_unknown_device(phantom_data, tmp_path):
    done = run_cli("train", "demo", "--data", phantom_data, "--out", tmp_path / "r", "--device", "cuda:99")
    refused(done, "cuda:99", code=3)
    assert not (tmp_path / "r").exists()


@pytest.mark.slow("a command more; others here are refused too")
def test_output_that_cannot_be_written(phantom_data, tmp_path):
    (tmp_path / "file").write_text("here lies a file")
    done = run_cli("train", "demo", "--data", phantom_data, "--out", tmp_path / "file/run", *overrides())
    refused(done, "file/run", code=3)


def test_good_images_are_predicted_and_bad_ones_listed(exported, phantom_data, tmp_path):
    images = tmp_path / "in"
    for source in sorted((phantom_data / "images").iterdir())[:2]:
        (images / source.name).parent.mkdir(exist_ok=True)
        (images / source.name).write_bytes(source.read_bytes())
    (images / "empty.png").write_bytes(b"")
    (images / "page.png").write_bytes(b"<html><body>404</body></html>")
    done = run_cli("predict", exported, images, "--out", tmp_path / "out")
    refused(done, "empty.png", "page.png", "<html")
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


def test_two_inputs_for_one_output(exported, tmp_path):
    for name in ("a.png", "a.bmp"):
        save(tmp_path / name, np.zeros((16, 16), np.uint8))
    refused(run_cli("predict", exported, tmp_path / "a.png", tmp_path / "a.bmp", "--out", tmp_path / "out"), "a.bmp")
    refused(run_cli("predict", exported, tmp_path / "a.png", "--out", tmp_path), "would be overwritten")


def test_model_files_that_are_none(phantom_data, exported, tmp_path):
    image = sorted((phantom_data / "images").iterdir())[0]
    torn = tmp_path / "torn.onnx"
    torn.write_bytes(exported.read_bytes()[:1000])
    refused(run_cli("predict", torn, image, "--out", tmp_path / "out"), "torn.onnx")
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"\x00" * 64)
    refused(run_cli("predict", other, image, "--out", tmp_path / "out"), "other.safetensors")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow("a command more; others here are refused too")
def test_group_in_two_parts_of_a_given_split(phantom_data, trained_run, tmp_path):
    text = (trained_run / "split.json").read_text()
    import json

    split = json.loads(text)
    fold = split["folds"][0]
    groups = split["groups"]
    patient = next(g for g in groups.values() if sum(groups[name] == g for name in fold["train"]) > 1)
    moved = next(name for name in fold["train"] if groups[name] == patient)
    fold["train"].remove(moved)
    fold["test"].append(moved)
    (tmp_path / "split.json").write_text(json.dumps(split))
    done = run_cli(
        "train",
        "demo",
        "--data",
        phantom_data,
        "--out",
        tmp_path / "r",
        "--split",
        tmp_path / "split.json",
        *overrides(),
    )
    refused(done, patient, "lies in test and train")


@pytest.mark.slow("a training in a process; test_loop.py has it in this one")
def test_loss_that_is_not_finite_names_the_files(phantom_data, tmp_path):
    out = tmp_path / "run"
    done = run_cli(
        "train", "demo", "--data", phantom_data, "--out", out,
        *overrides("stages.0.optimizer={kind: sgd, lr: 100, momentum: 0.99}", "stages.0.net.norm=none"),
        *overrides("stages.0.epochs=50"),
    )  # fmt: skip
    refused(done, "not finite", "images/patient-")
