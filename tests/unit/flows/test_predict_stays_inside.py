"""Masks are written below --out, whatever a model, a file or a link is called."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image

from pocketseg.data.volumes import write_stack
from pocketseg.errors import DataError, ModelFileError, PocketsegError, RecipeError
from pocketseg.flows import predict as flow
from pocketseg.pipeline import Pipeline
from pocketseg.predictors import NetPredictor
from pocketseg.recipes import load_recipe

EVIL = ["/../../../ESCAPED", "x/../../y", "/etc/x", "..", "..\\x", "C:x", "a\x1b[31m", "a\0b", ".x", "x" * 300]
TWO = Pipeline((8, 8), classes=("a", "b"))


def model(pipeline: Pipeline) -> NetPredictor:
    def forward(batch):
        return np.zeros((len(batch), 3, *batch.shape[2:]), np.float32)

    return NetPredictor(pipeline, forward)


@pytest.fixture
def image(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "in/one.png")
    return tmp_path / "in"


def written(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.row("S04")
@pytest.mark.parametrize("name", EVIL)
def test_a_class_is_no_way_out(name, image, tmp_path, monkeypatch):
    fields = {**asdict(TWO), "classes": [name, "b"]}
    with pytest.raises(ModelFileError, match="it becomes part of file names"):
        Pipeline.from_dict(fields, "evil.pseg")
    with pytest.raises(RecipeError, match="it becomes part of file names"):
        load_recipe("thin-unet", [f"data.classes={[name, 'b']}"])
    # And where a model came in by another way, what is written stays inside.
    evil = replace(TWO, classes=(name, "b"))
    monkeypatch.setattr(flow, "load_predictor", lambda *_, **__: model(evil))
    before = written(tmp_path)
    with contextlib.suppress(PocketsegError, OSError, ValueError):
        flow.predict("evil", [image], tmp_path / "deep/deep/out", probabilities=True)
    assert all(path in before or path.startswith("deep/deep/out/") for path in written(tmp_path))


@pytest.mark.row("S04")
def test_a_link_in_the_output_is_no_way_out(image, tmp_path, monkeypatch):
    monkeypatch.setattr(flow, "load_predictor", lambda *_, **__: model(TWO))
    (image / "sub").mkdir()
    (image / "one.png").rename(image / "sub/one.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="would be written outside of"):
        flow.predict("model", [image], tmp_path / "out")
    assert written(tmp_path / "elsewhere") == []


def test_no_file_is_written_over_what_another_image_became(image, tmp_path, monkeypatch):
    monkeypatch.setattr(flow, "load_predictor", lambda *_, **__: model(TWO))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(image / "one_overlay.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(image / "one_probability_b.png")
    assert len(flow.predict("model", [image], tmp_path / "plain").written) == 3
    for option in ("with_overlay", "probabilities"):
        with pytest.raises(DataError, match="would be written over what is made of"):
            flow.predict("model", [image], tmp_path / option, **{option: True})
        assert not (tmp_path / option).exists()


@pytest.mark.parametrize("options", [{"to": "png"}, {"with_overlay": True}])
def test_no_file_is_written_over_a_page_of_a_volume(options, tmp_path, monkeypatch):
    monkeypatch.setattr(flow, "load_predictor", lambda *_, **__: model(TWO))
    pages = "scan" if "to" in options else "scan_overlay"
    (tmp_path / "in" / pages).mkdir(parents=True)
    write_stack(tmp_path / "in/scan.tif", np.zeros((8, 8, 3), np.uint8))
    for name in ("001.png", "1.png"):
        Image.fromarray(np.full((8, 8), 7, np.uint8)).save(tmp_path / "in" / pages / name)
    with pytest.raises(DataError, match="its mask would lie among the pages of"):
        flow.predict("model", [tmp_path / "in"], tmp_path / "out", **options)
    (tmp_path / "volumes").mkdir()
    (tmp_path / "in/scan.tif").rename(tmp_path / "volumes/scan.tif")
    before = (tmp_path / "in" / pages / "001.png").read_bytes()
    inputs = [tmp_path / "volumes/scan.tif", tmp_path / "in" / pages / "001.png"]
    with pytest.raises(DataError, match="it would lie among the pages of"):
        flow.predict("model", inputs, tmp_path / "in", **options)
    assert (tmp_path / "in" / pages / "001.png").read_bytes() == before
    # Another name is nobody's page.
    done = flow.predict("model", [inputs[0], tmp_path / "in" / pages / "1.png"], tmp_path / "out", **options)
    assert not done.problems
