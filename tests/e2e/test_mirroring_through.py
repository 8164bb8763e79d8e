"""Test-time mirroring of a trained run, its packed file, and the commands."""

from __future__ import annotations

import numpy as np

import pocketseg
from helpers.commands import run_cli
from pocketseg.recipes import load_recipe


def test_a_run_and_its_packed_file(trained_run, phantom_data, tmp_path):
    plain = pocketseg.load(trained_run)
    both = pocketseg.load(trained_run, tta=["horizontal"])
    image = np.random.default_rng(2).integers(0, 256, (40, 50), np.uint8)
    assert not np.array_equal(plain.predict(image), both.predict(image))
    of_bytes = pocketseg.load((trained_run / "fold-0/model.pseg").read_bytes(), tta=["horizontal"])
    np.testing.assert_array_equal(of_bytes.predict(image), both.predict(image))
    found = pocketseg.evaluate(
        trained_run, phantom_data, split=trained_run / "split.json", tta=["horizontal"], out=tmp_path / "evaluated"
    )
    assert found.rows
    recipe = load_recipe("thin-unet", ["tta=[horizontal]"])
    assert recipe.tta == ["horizontal"]


def test_the_commands(trained_run, phantom_data, tmp_path):
    images = phantom_data / "images"
    for name, options in (("plain", []), ("both", ["--tta", "horizontal,vertical"]), ("none", ["--tta", "none"])):
        done = run_cli("predict", trained_run, images, "--out", tmp_path / name, "--probabilities", *options)
        assert done.returncode == 0, done.stderr
        assert ("4 mirror images of each" in done.stderr + done.stdout) == (name == "both")
    plain, both, none = (
        [path.read_bytes() for path in sorted((tmp_path / name).glob("*_probability.png"))]
        for name in ("plain", "both", "none")
    )
    assert plain == none and plain != both
    wrong = run_cli("predict", trained_run, images, "--out", tmp_path / "wrong", "--tta", "diagonal")
    assert wrong.returncode == 2 and "'diagonal' is not a direction" in wrong.stderr + wrong.stdout
