"""Functions of the user's in trainings, and augmented copies as files."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import pocketseg
from helpers.commands import SMALL, read_csv, read_json, run_cli
from pocketseg.data import Cases, kfold
from pocketseg.errors import DataError, RecipeError, RunError
from pocketseg.flows.augment import augment

ONE = [*SMALL, "stages.0.epochs=1", "augment={}"]


def swap(image, mask, rng):
    """Turns an image upside down, every second time."""
    turned = rng.random() < 0.5
    return (image[::-1], mask[::-1]) if turned else (image, mask)


def other(image, mask, rng):
    return image, mask


def train(data, out, **options):
    return pocketseg.train("demo", data, out, overrides=ONE, device="cpu", report=False, **options)


def test_a_function_changes_the_training_and_is_needed_to_go_on(phantom_data, tmp_path):
    train(phantom_data, tmp_path / "a", augment=swap)
    train(phantom_data, tmp_path / "b", augment=swap)
    train(phantom_data, tmp_path / "c", augment=other)
    train(phantom_data, tmp_path / "d")
    weights = [(tmp_path / name / "fold-0/float/best.safetensors").read_bytes() for name in "abcd"]
    losses = [read_csv(tmp_path / name / "fold-0/float/history.csv")[0]["loss"] for name in "abcd"]
    assert weights[0] == weights[1] and losses[0] != losses[2]
    # What changes nothing costs a rounding of the values, not another training.
    assert float(losses[2]) == pytest.approx(float(losses[3]), rel=1e-4)
    assert read_json(tmp_path / "a/manifest.json")["augmentation"] == f"{__name__}:swap"
    for given, said in ((None, "not without one"), (other, "not .*:other")):
        with pytest.raises(RunError, match=f"was begun with the augmentation .*:swap, {said}"):
            train(phantom_data, tmp_path / "a", augment=given, resume=True)
    train(phantom_data, tmp_path / "a", augment=swap, resume=True)


def test_a_function_cannot_go_to_other_processes(phantom_data, tmp_path):
    with pytest.raises(RecipeError, match="function of this process"):
        train(phantom_data, tmp_path / "r", augment=swap, jobs=2)


def test_maps_that_would_not_move_are_refused(phantom_data, tmp_path):
    weighted = [*ONE, "stages.0.loss.pixel_weights=borders"]
    with pytest.raises(RecipeError, match=r"has weights of pixels, which .*:swap does not move"):
        pocketseg.train("demo", phantom_data, tmp_path / "r", overrides=weighted, augment=swap, report=False)


def test_a_recipe_names_a_function_of_a_file(phantom_data, tmp_path):
    (tmp_path / "mine.py").write_text("def dark(image, mask, rng):\n    return image * rng.random(), mask\n")
    sets = [part for value in (*ONE, "augment.own=mine:dark") for part in ("--set", value)]
    words = ["train", "demo", "--data", phantom_data, "--out", tmp_path / "run", "--device", "cpu", *sets]
    refused = run_cli(*words)
    assert refused.returncode == 2 and "--allow-code mine.py" in refused.stderr
    done = run_cli(*words, "--allow-code", tmp_path / "mine.py")
    assert done.returncode == 0, done.stderr
    manifest = read_json(tmp_path / "run/manifest.json")
    assert manifest["augmentation"] == "mine:dark" and list(manifest["code"]) == ["mine.py"]


@pytest.fixture(scope="module")
def turned(phantom_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("copies") / "more"
    recipe = {"augment": {"rotate90": True, "flip": ["horizontal"]}, "stages": [{"name": "s", "net": {"arch": "unet"}}]}
    found = augment(phantom_data, recipe, out, copies=3, seed=2)
    assert found.written == 160
    return out


def read(path):
    return np.asarray(Image.open(path)).astype(int)


def test_masks_move_exactly_with_their_images(turned, phantom_data):
    """Turns and flips are exact: each copy is one of the eight of its original, its mask the same one."""
    seen = set()
    for original in sorted((phantom_data / "images").glob("*.png"))[:12]:
        for number in (1, 2, 3):
            copy = read(turned / "images" / f"{original.stem}_copy{number}.png")
            mask = read(turned / "masks" / f"{original.stem}_copy{number}.png") > 0
            which = [
                (turns, flips)
                for turns in range(4)
                for flips in (False, True)
                if np.abs(_moved(read(original), turns, flips) - copy).max() <= 1
            ]
            assert len(which) == 1
            assert np.array_equal(mask, _moved(read(phantom_data / "masks" / original.name) > 0, *which[0]))
            seen |= set(which)
    assert len(seen) >= 6


def _moved(array, turns, flips):
    turned = np.rot90(array, turns)
    return turned[:, ::-1] if flips else turned


def test_copies_never_leave_their_group(turned):
    cases = Cases.open(turned, "auto")
    split = kfold(list(cases), folds=3, validation=0.2, seed=0)
    for fold in split.folds:
        part_of = {name: part for part in ("train", "validation", "test") for name in fold.part(part)}
        assert all(part_of[name] == part_of[name.split("_copy")[0]] for name in part_of)


def test_what_is_not_augmented(turned, phantom_data, tmp_path):
    stage = {"stages": [{"name": "s", "net": {"arch": "unet"}}]}
    with pytest.raises(DataError, match="already exists"):
        augment(phantom_data, stage, turned)
    with pytest.raises(DataError, match="changes nothing in this recipe"):
        augment(phantom_data, stage, tmp_path / "x")
    done = run_cli("data", "augment", turned, "--recipe", "thin-unet", "--out", tmp_path / "y", "--copies", "1")
    assert done.returncode == 2 and "are called as copies of others would be" in done.stderr
    assert not (tmp_path / "y").exists()
