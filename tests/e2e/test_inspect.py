"""`nets` and `inspect` as a user calls them, and what a training writes about its net."""

from __future__ import annotations

import json

import pytest
from PIL import Image

import pocketseg
from helpers.commands import read_json, run_cli
from pocketseg.nets import NETS


@pytest.mark.slow("draws every net; some are looked at below")
def test_the_whole_catalog():
    done = run_cli("nets")
    assert done.returncode == 0, done.stderr
    for name in NETS:
        assert name in done.stdout
    assert "31,042,369" in done.stdout and "54.5 G" in done.stdout and "220 px" in done.stdout
    assert "80.3 MiB" in done.stdout


def test_some_nets_as_json():
    done = run_cli("nets", "thin_unet_w32_n6_separable", "unet", "--json", "--size", "250", "200", "--in-channels", "3")
    thin, unet = json.loads(done.stdout)
    assert thin["input_shape"] == [3, 256, 256] and unet["input_shape"] == [3, 256, 208]
    assert unet["macs"] > 50 * thin["macs"] > 0
    assert unet["bytes"] == 4 * (unet["parameters"] + unet["buffers"])
    assert "layers" not in thin


def test_a_net_of_the_catalog(tmp_path):
    done = run_cli("inspect", "unet", "--set", "width=4", "--size", "64", "96", "--out", tmp_path, "--classes", "2")
    assert done.returncode == 0, done.stderr
    assert "encoder.0.0" in done.stdout and "3×64×96" in done.stdout and "max_pool2d" in done.stdout
    written = read_json(tmp_path / "architecture.json")
    assert written["net"]["arch"] == "unet" and written["net"]["width"] == 4
    assert written["totals"]["input_shape"] == [1, 64, 96]
    assert sum(layer["macs"] for layer in written["layers"]) == written["totals"]["macs"]
    assert "deepest" in (tmp_path / "architecture.svg").read_text("utf-8")
    with Image.open(tmp_path / "architecture.png") as image:
        assert image.width > 600


@pytest.mark.slow("a command more")
def test_json_is_what_is_written(tmp_path):
    done = run_cli("inspect", "thin_unet", "--json", "--out", tmp_path)
    assert json.loads(done.stdout) == read_json(tmp_path / "architecture.json")


def test_a_run_tells_the_same_as_its_checkpoint_and_as_its_folder(trained_run):
    stage = trained_run / "fold-0/float"
    of_run, of_file = pocketseg.inspect(trained_run), pocketseg.inspect(stage / "best.safetensors")
    assert of_run == of_file
    assert of_run.totals["input_shape"] == (1, 32, 32)
    assert of_run.json() == (stage / "architecture.json").read_text("utf-8")
    assert of_run.drawing()[0] == (stage / "architecture.svg").read_bytes()
    assert (
        of_run.totals["parameters"] == read_json(trained_run / "manifest.json")["stages"]["fold-0/float"]["parameters"]
    )
    assert pocketseg.inspect(trained_run, size=(64, 32)).totals["macs"] == 2 * of_run.totals["macs"]


def test_the_report_shows_the_net(trained_run, tmp_path):
    page = pocketseg.report(trained_run, out=tmp_path / "page.html").read_text("utf-8")
    assert 'id="net"' in page and 'alt="Drawing of the net thin_unet' in page
    (trained_run / "fold-0/float/architecture.json").rename(tmp_path / "away.json")
    try:
        assert 'id="net"' not in pocketseg.report(trained_run, out=tmp_path / "older.html").read_text("utf-8")
    finally:
        (tmp_path / "away.json").rename(trained_run / "fold-0/float/architecture.json")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("inspect", "unte"), "did you mean unet?"),
        (("inspect", "unet", "--set", "widht=3"), "did you mean width?"),
        (("inspect", "unet", "--set", "width"), "is not OPTION=VALUE"),
        (("inspect", "unet", "--size", "100", "64"), "take 112×64"),
        (("inspect", "."), "is not a run folder"),
        (("nets", "unet", "thin", "unte"), "'unte'"),
    ],
)
def test_wrong_names(arguments, told, tmp_path):
    done = run_cli(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and told in done.stderr and "→" in done.stderr, done.stderr


@pytest.mark.slow("three commands; wrong names are refused above")
def test_what_a_model_does_not_take(trained_run, exported, tmp_path):
    for option in (("--set", "width=3"), ("--in-channels", "3"), ("--classes", "2")):
        done = run_cli("inspect", trained_run, *option)
        assert done.returncode == 2 and "has its options" in done.stderr
    done = run_cli("inspect", exported)
    assert done.returncode == 2 and "give the run folder" in done.stderr
