"""What a path means: run, stage, or file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pocketseg.errors import RunError
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.source import ModelSource

RECIPE = """
stages:
  - {name: teacher, net: {arch: thin_unet}, epochs: 1}
  - {name: student, net: {arch: thin_unet}, epochs: 1}
"""


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run whose first stage is trained."""
    folder = RunFolder(tmp_path / "run")
    best = folder.stage(0, "teacher").best
    best.parent.mkdir(parents=True)
    best.touch()
    folder.recipe_file.write_text(RECIPE)
    folder.manifest_file.write_text(json.dumps(dict.fromkeys(("pocketseg", "libraries", "data", "hardware"), "x")))
    return folder


def test_a_run_is_its_last_stage(run):
    source = ModelSource.resolve(run.path, fold=2)
    assert source.weights == run.stage(2, "student").best
    assert source.run == run and source.fold == 2
    assert source.made(".pseg") == run.packed_file(2) and source.made(".onnx") == run.onnx_file(2)


def test_a_stage_of_a_run_has_files_of_its_own(run):
    source = ModelSource.resolve(run.path, stage="teacher")
    assert source.trained() == run.stage(0, "teacher").best
    assert source.made(".pseg") == run.packed_file(0, "teacher") == run.path / "fold-0/teacher.pseg"


def test_the_folder_of_a_stage_holds_what_is_made_of_it(run):
    folder = run.stage(0, "teacher")
    source = ModelSource.resolve(folder.path)
    assert source.trained() == folder.best and source.run is None
    assert source.made(".onnx") == folder.path / "model.onnx"


def test_the_folder_of_a_search_is_the_file_that_it_accepted(tmp_path):
    (tmp_path / "search.json").touch()
    with pytest.raises(RunError, match=r"accepted no model so far.*report\.html"):
        ModelSource.resolve(tmp_path)
    (tmp_path / "model.pseg").touch()
    source = ModelSource.resolve(tmp_path)
    assert source.weights == source.path == tmp_path / "model.pseg"
    with pytest.raises(RunError, match=r"is the folder of a search → give its model\.pseg, or .*winner"):
        ModelSource.resolve(tmp_path, stage="float")


@pytest.mark.parametrize("name", ["model.pseg", "gone.onnx"])
def test_a_file_is_itself(tmp_path, name):
    source = ModelSource.resolve(tmp_path / name)
    assert source.weights == source.path == tmp_path / name
    assert source.made(".pseg") == tmp_path / "model.pseg"


def test_what_is_not_trained_or_not_there_is_an_error(run, tmp_path):
    with pytest.raises(RunError, match=r"does not exist \(folds begun: 0\)"):
        ModelSource.resolve(run.path).trained()
    with pytest.raises(RunError, match="has no stage 'techer' → did you mean teacher"):
        ModelSource.resolve(run.path, stage="techer")
    with pytest.raises(RunError, match="not a run folder"):
        ModelSource.resolve(tmp_path)
    with pytest.raises(RunError, match="not a run folder"):
        ModelSource.resolve(run.stage(0, "teacher").best, stage="teacher")


@pytest.mark.parametrize(("folds", "have"), [(1, "one fold, 0"), (3, "folds 0 to 2")])
def test_a_fold_that_the_split_does_not_have(run, folds, have):
    names = [{"train": [f"a{n}"], "validation": [f"b{n}"], "test": [f"c{n}"]} for n in range(folds)]
    run.split_file.write_text(json.dumps({"folds": names}))
    with pytest.raises(RunError, match=f"has {have}, and no fold 5 → choose another --fold"):
        ModelSource.resolve(run.path, fold=5)
    assert ModelSource.resolve(run.path, fold=folds - 1).fold == folds - 1
