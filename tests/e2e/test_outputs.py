"""An output that cannot be written is reported before anything is computed for it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import pocketseg
from pocketseg import files
from pocketseg.errors import DataError, EnvironmentProblem
from pocketseg.flows import evaluate as evaluating
from pocketseg.flows import predict as predicting
from pocketseg.flows.draw_weights import draw_weights
from pocketseg.flows.overlay import overlay
from pocketseg.flows.report import write as reporting
from pocketseg.training.model import Model

Verb = Callable[[Path, Path, Path], object]


def verbs() -> dict[str, tuple[Verb, bool]]:
    """Each with run, data and output; and whether the output is a folder."""
    from pocketseg.flows.report.write import report

    return {
        "predict": (lambda run, data, out: pocketseg.predict(run, [data / "images"], out), True),
        "evaluate": (lambda run, data, out: pocketseg.evaluate(run, data, out=out), True),
        "pack": (lambda run, _, out: pocketseg.pack(run, out), False),
        "export": (lambda run, _, out: pocketseg.export(run, out=out), False),
        "report": (lambda run, data, out: report(run, out=out, data=data), False),
    }


@pytest.fixture
def nothing_is_computed(monkeypatch: pytest.MonkeyPatch, trained_run: Path) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was computed first")

    monkeypatch.setattr(predicting, "_picture", never)
    monkeypatch.setattr(evaluating, "score_cases", never)
    monkeypatch.setattr(reporting, "_load", never)
    monkeypatch.setattr(Model, "integer_core", never)


@pytest.mark.row("P16")
@pytest.mark.usefixtures("nothing_is_computed")
@pytest.mark.parametrize("name", verbs())
def test_a_folder_for_a_file_and_a_file_for_a_folder(name, trained_run, phantom_data, tmp_path):
    verb, folder = verbs()[name]
    wrong = tmp_path / "wrong"
    wrong.write_text("mine") if folder else wrong.mkdir()
    with pytest.raises(DataError, match="wrong: is a file" if folder else "wrong: is a folder"):
        verb(trained_run, phantom_data, wrong)
    assert wrong.read_text() == "mine" if folder else not list(wrong.iterdir())


@pytest.mark.row("P16")
@pytest.mark.usefixtures("nothing_is_computed")
@pytest.mark.parametrize("name", verbs())
def test_below_a_file_or_a_loop_of_links(name, trained_run, phantom_data, tmp_path):
    verb, _ = verbs()[name]
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    for place in ("file/x", "loop/x", "x" * 300):
        with pytest.raises(EnvironmentProblem, match="cannot be written"):
            verb(trained_run, phantom_data, tmp_path / place)


@pytest.mark.row("P16", "F08", "F10")
@pytest.mark.usefixtures("nothing_is_computed")
@pytest.mark.parametrize(("name", "number"), [(name, n) for name in verbs() for n in (errno.ENOSPC, errno.EROFS)])
def test_a_full_disk_and_one_that_is_read_only(name, number, trained_run, phantom_data, tmp_path, monkeypatch):
    verb, _ = verbs()[name]
    full = tmp_path / "full"
    write = Path.write_bytes

    def refused(path: Path, content: bytes) -> int:
        if path.is_relative_to(full):
            raise OSError(number, os.strerror(number), str(path))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", refused)
    with pytest.raises(EnvironmentProblem, match=os.strerror(number)):
        verb(trained_run, phantom_data, full / "out")
    assert not [path for path in full.rglob("*") if path.is_file()]


@pytest.mark.row("P16")
def test_what_it_is_made_of_is_not_replaced(trained_run, phantom_data, tmp_path):
    best = next(trained_run.rglob("best.safetensors"))
    before = best.read_bytes()
    with pytest.raises(DataError, match="would be written over what it is made of"):
        pocketseg.export(trained_run, out=best)
    image = next((phantom_data / "images").iterdir())
    with pytest.raises(DataError, match="overwritten by its own mask"):
        pocketseg.predict(trained_run, [image], image.parent)
    assert best.read_bytes() == before


@pytest.mark.row("P16")
def test_what_is_of_another_kind_is_not_replaced(trained_run, phantom_data, tmp_path):
    mine = tmp_path / "mine.csv"
    mine.write_text("mine")
    image = next((phantom_data / "images").iterdir())
    for verb in (
        lambda: pocketseg.export(trained_run, out=mine),
        lambda: reporting.report(trained_run, out=mine),
        lambda: overlay(image, mine, predictions=[image]),
    ):
        with pytest.raises(DataError, match=r"mine\.csv: is there already and is no \.\w+ file"):
            verb()
    assert mine.read_text() == "mine"


@pytest.mark.row("P16")
@pytest.mark.parametrize("over", ["image", "reference", "prediction"])
def test_a_drawing_is_not_written_over_what_it_shows(over, phantom_data, tmp_path):
    shown = {name: tmp_path / f"{name}.png" for name in ("image", "reference", "prediction")}
    for path in shown.values():
        shutil.copy(next((phantom_data / "masks").iterdir()), path)
    before = shown[over].read_bytes()
    with pytest.raises(DataError, match="would be written over what it is made of"):
        overlay(shown["image"], shown[over], reference=shown["reference"], predictions=[shown["prediction"]])
    assert shown[over].read_bytes() == before


@pytest.mark.row("P16")
def test_weights_are_not_drawn_over_an_image(trained_run, tmp_path):
    (tmp_path / "image.png").write_text("mine")
    with pytest.raises(DataError, match="would be written over what it is made of"):
        draw_weights(trained_run, tmp_path / "image.png", images=[tmp_path / "image.png"])


@pytest.mark.row("P16")
@pytest.mark.parametrize("name", ["cases.csv", "summary.json", "comparison.csv"])
def test_an_evaluation_replaces_nothing_but_an_evaluation(name, trained_run, phantom_data, tmp_path):
    """Tables of an earlier one are removed; those of the user, which may be called the same, are not."""
    (tmp_path / name).write_text("case,mine\n1,2\n")
    with pytest.raises(DataError, match=f"{name}: is there already, and no evaluation wrote it"):
        pocketseg.evaluate(trained_run, phantom_data, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "case,mine\n1,2\n"


@pytest.mark.row("P16")
def test_trying_leaves_nothing(tmp_path):
    (tmp_path / "a").write_text("mine")
    files.try_output(tmp_path / "a")
    files.try_output(tmp_path / "new/b")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "mine"


def test_inputs_that_cannot_be_read(trained_run, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for name in ("x" * 300, "loop", "nul\0"):
        try:
            done = pocketseg.predict(trained_run, [tmp_path / name], tmp_path / "out")
            assert done.problems and not done.written
        except DataError as error:
            assert "cannot be read" in str(error)


def test_a_folder_that_is_shut(trained_run, tmp_path, monkeypatch):
    """The same for root, who cannot be refused."""
    shut = tmp_path / "shut"
    shut.mkdir()
    entries = Path.iterdir

    def refused(path: Path):
        if path == shut:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return entries(path)

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(DataError, match=r"shut: (the folder )?cannot be read"):
        pocketseg.predict(trained_run, [shut], tmp_path / "out")


@pytest.mark.row("P17")
@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("HOME", None, 0),
        ("HOME", "/proc/none", 0),
        ("TMPDIR", "/proc/none", 0),
        ("XDG_CACHE_HOME", "/proc/none", 0),
        ("POCKETSEG_CACHE", "/proc/none", 0),
        ("POCKETSEG_CACHE_MIB", "0", 0),
        ("POCKETSEG_CACHE_MIB", "abc", 3),
        ("POCKETSEG_CACHE_MIB", "-1", 3),
    ],
)
def test_surroundings_that_are_not_there(name, value, code, phantom_data):
    """Reading data needs no home, no cache and no folder for temporary files."""
    environment = {**os.environ, name: value or ""}
    if value is None:
        del environment[name]
    done = subprocess.run(
        [sys.executable, "-m", "pocketseg.cli.main", "doctor", str(phantom_data)],
        capture_output=True, text=True, env=environment, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert not code or f"{name}={value}: is not a number of MiB" in done.stderr
