"""The examples in Python run: every cell of the notebook in order, and the programs, on a small data set."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from blocks import ROOT
from PIL import Image

import pocketseg

NOTEBOOK = ROOT / "examples/first-model.ipynb"
# What the settings of the first cell become.
SMALL = {"CASES": 24, "SIZE": 40, "EPOCHS": 1}

trains = pytest.mark.slow("trains; the blocks of README do so in `make test`")


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What the names of the notebook are after its last cell."""
    names: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        patch.setattr("pocketseg.runs.packed.MAX_DROP", 1.0)  # after one epoch a net has little to lose
        for cell in code_cells():
            exec(compile(cell, str(NOTEBOOK), "exec"), names)
            names |= {name: value for name, value in SMALL.items() if name in names}
        names = {name: value.resolve() if isinstance(value, Path) else value for name, value in names.items()}
    return names


def code_cells() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@trains
def test_the_notebook_ends_with_a_smaller_file(notebook):
    whole = notebook["run"] / "fold-0/model.pseg"
    assert 0 < notebook["int8"].stat().st_size < 0.6 * whole.stat().st_size
    assert notebook["small"].mask.shape == (40, 40)
    assert len(notebook["names"]) == 24


def test_the_notebook_holds_no_outputs_and_no_long_lines():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    assert all(len(line) <= 120 for cell in code_cells() for line in cell.splitlines())
    assert set(SMALL) <= set(code_cells()[0].replace(",", " ").split())


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("segment_folder", ROOT / "examples/python/segment_folder.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@trains
def test_a_folder_becomes_masks_and_a_table(notebook, program, tmp_path, capsys):
    images = notebook["data"] / "images"
    program.main([str(notebook["int8"]), str(images), str(tmp_path / "found")])
    masks = {path.stem: np.asarray(Image.open(path)) for path in (tmp_path / "found").glob("*.png")}
    rows = list(csv.DictReader((tmp_path / "found/objects.csv").read_text(encoding="utf-8").splitlines()))
    model = pocketseg.load(notebook["int8"])
    assert sorted(f"{name}.png" for name in masks) == notebook["names"]
    for name, mask in masks.items():
        np.testing.assert_array_equal(mask > 0, model.mask(np.asarray(Image.open(images / f"{name}.png"))) > 0)
        areas = [int(row["area_px"]) for row in rows if row["image"] == f"{name}.png"]
        assert sum(areas) == np.count_nonzero(mask)
    assert f"{len(rows)} objects in" in capsys.readouterr().out


@trains
def test_images_that_would_have_one_mask_are_refused(notebook, program, tmp_path, capsys):
    for name in ("a.png", "a.tif"):
        Image.new("L", (40, 40)).save(tmp_path / name)
    with pytest.raises(SystemExit):
        program.main([str(notebook["int8"]), str(tmp_path), str(tmp_path / "found")])
    assert "rename one" in capsys.readouterr().err and not any((tmp_path / "found").iterdir())


@trains
def test_what_is_there_is_not_overwritten(notebook, program, tmp_path, capsys):
    (tmp_path / "mine.png").write_bytes(b"mine")
    with pytest.raises(SystemExit) as stopped:
        program.main([str(notebook["int8"]), str(notebook["data"] / "images"), str(tmp_path)])
    assert stopped.value.code == 2 and "File exists" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]
