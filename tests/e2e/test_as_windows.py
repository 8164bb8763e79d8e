"""Commands in a Python that lacks what Windows lacks: they work, and write the bytes that they write here."""

from __future__ import annotations

import csv
import json
from pathlib import Path, PosixPath, PureWindowsPath

import pytest

import pocketseg
from helpers.commands import overrides, read_json, run_cli
from helpers.windows import run_as_windows, said_as_windows
from pocketseg.data import Cases

IMPORTED = """
import importlib, pkgutil
import pocketseg
found = [each.name for each in pkgutil.walk_packages(pocketseg.__path__, "pocketseg.") if "lib" not in each.name]
for name in found:
    importlib.import_module(name)
print(len(found))
"""


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def done(*arguments: str | Path, cwd: Path | None = None) -> str:
    process = run_as_windows(*arguments, cwd=cwd)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_every_module_is_imported():
    assert int(said_as_windows(IMPORTED)) > 300


def test_predict_and_evaluate_write_what_they_write_here(trained_run, phantom_data, tmp_path):
    for place, run in (("here", run_cli), ("there", run_as_windows)):
        (tmp_path / place).mkdir()
        wanted = ["--out", "masks", "--overlay", "--probabilities", "--table"]
        assert run("predict", trained_run, phantom_data / "images", *wanted, cwd=tmp_path / place).returncode == 0
        assert run("evaluate", trained_run, phantom_data, "--out", "scores", cwd=tmp_path / place).returncode == 0
    assert len(files(tmp_path / "here")) > 100
    assert files(tmp_path / "here") == files(tmp_path / "there")


def test_pack_writes_what_it_writes_here_and_verify_and_inspect_read_it(trained_run, tmp_path):
    done("pack", trained_run, "--out", tmp_path / "model.pseg")
    assert (tmp_path / "model.pseg").read_bytes() == (trained_run / "fold-0/model.pseg").read_bytes()
    assert "equal within" in done("verify", tmp_path / "model.pseg")
    inspected = done("inspect", tmp_path / "model.pseg")
    assert "32×32" in inspected and "\\u25" not in inspected, "tables are of what the output can show"


def test_doctor_and_benchmark(trained_run, phantom_data):
    found = json.loads(done("doctor", phantom_data, "--json"))
    assert found == json.loads(run_cli("doctor", phantom_data, "--json").stdout)
    quick = ["--turns", "1", "--turn-seconds", "0.01", "--threads", "1", "--json"]
    assert json.loads(done("benchmark", trained_run / "fold-0/model.pseg", *quick))


class ForeignPath(PosixPath):
    """A path whose text below a folder has the slashes of Windows."""

    def relative_to(self, *other):
        return PureWindowsPath(super().relative_to(*other))


def test_the_digest_of_data_is_the_same_with_other_slashes(phantom_data, monkeypatch):
    cases = Cases.open(phantom_data)
    here = cases.digest()
    foreign = [ForeignPath(path) for path in cases.files()]
    assert "\\" in str(foreign[0].relative_to(phantom_data))
    monkeypatch.setattr(type(cases), "files", lambda _: foreign)
    assert cases.digest() == here


@pytest.mark.slow("trains twice; that commands work and that locks hold is tried above")
def test_a_run_goes_on_where_it_was_not_begun(tmp_path, monkeypatch):
    """Begun as on Windows with one fold, finished here, and the other way round; two folds side by side as there."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as each of two has
    folds = overrides("split.kind=kfold", "split.folds=2", "stages.0.epochs=1")
    data = pocketseg.phantom(tmp_path / "data", cases=20, size=32)
    common = ["train", "demo", "--data", data, "--device", "cpu", *folds]
    one, two = tmp_path / "one", tmp_path / "two"
    done(*common, "--out", one, "--fold", "0")
    again = run_cli(*common, "--out", one, "--resume")
    assert again.returncode == 0, again.stderr
    done(*common, "--out", two, "--jobs", "2")
    assert read_json(one / "manifest.json")["data"]["sha256"] == read_json(two / "manifest.json")["data"]["sha256"]
    for name in ("fold-0/float/best.safetensors", "fold-1/float/best.safetensors", "fold-1/cases-test.csv"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    pocketseg.report(one)
    with (one / "fold-0/cases-test.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file))
