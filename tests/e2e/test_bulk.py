"""`predict --jobs`: the files of a plain `predict`, whatever is killed, and only what is missing the next time."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import pocketseg
from helpers.commands import run_cli
from helpers.pictures import picture, save
from helpers.volume_files import write_nifti
from pocketseg import shards
from pocketseg.errors import DataError
from pocketseg.flows.predict import Done, Worker

GOLDEN = Path(__file__).parents[1] / "golden/0.1.0"
MODEL = GOLDEN / "w8a8.pseg"
RECORD = ".pocketseg-predict.jsonl"


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in two folders, a volume, and a file that is damaged."""
    folder = tmp_path_factory.mktemp("bulk") / "scans"
    for number in range(30):
        save(folder / f"{'a' if number % 2 else 'b'}/c{number}.png", picture(number))
    (folder / "a/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    voxels = np.stack([picture(number) for number in range(4)], axis=-1)
    write_nifti(folder / "volume.nii.gz", voxels, np.eye(4))
    return folder


@pytest.fixture(scope="module")
def plain(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plain") / "out"
    pocketseg.predict(MODEL, [scans], out, table=True, with_overlay=True)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_files_are_those_of_one_process_and_are_made_once(scans, plain, tmp_path, monkeypatch):
    out = tmp_path / "out"
    first = pocketseg.predict(MODEL, [scans], out, table=True, with_overlay=True, jobs=2)
    assert contents(out) == contents(plain)
    assert (first.images, first.kept, len(first.problems)) == (31, 0, 1)
    assert "broken.png" in first.problems[0].where
    # In this process, so that what is done again is seen.
    made = []
    done = Worker.done

    def noted(self: Worker, job, before) -> Done:
        found = done(self, job, before)
        made.extend([] if found.kept else [job.source.name])
        return found

    monkeypatch.setattr(Worker, "done", noted)
    again = pocketseg.predict(MODEL, [scans], out, table=True, with_overlay=True)
    assert made == ["broken.png"]
    assert (again.images, again.kept) == (31, 31)
    assert again.text == f"31 images segmented ({len(first.written)} files), 31 of them before, 1 problem"
    assert again.written == first.written
    assert again.rows == first.rows
    assert contents(out) == contents(plain)


def test_only_what_is_missing_or_other_is_made_again(scans, tmp_path):
    images, out = tmp_path / "images", tmp_path / "out"
    shutil.copytree(scans / "b", images)

    def kept(**options) -> int:
        return pocketseg.predict(MODEL, [images], out, **options).kept

    assert [kept(), kept()] == [0, 15]
    (out / "c4.png").unlink()
    assert kept() == 14
    save(images / "c6.png", picture(99))
    assert kept() == 14
    shutil.copy(images / "c8.png", images / "c9.png")
    assert kept() == 15
    assert kept(table=True) == 0
    assert kept(table=True) == 16
    assert kept(table=True, again=True) == 0
    assert kept(table=True, tta=["horizontal"]) == 0
    assert pocketseg.predict(GOLDEN / "f32.pseg", [images], out, table=True).kept == 0


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_a_killed_process_costs_nothing(scans, plain, tmp_path):
    killed = []

    def kill(done: int, of: int) -> None:
        for task in Path("/proc/self/task").iterdir() if not killed else ():
            for pid in (task / "children").read_text().split():
                if b"flows.predict" in Path(f"/proc/{pid}/cmdline").read_bytes() and not killed:
                    os.kill(int(pid), signal.SIGKILL)
                    killed.append(pid)

    found = pocketseg.predict(MODEL, [scans], tmp_path / "out", table=True, with_overlay=True, jobs=2, progress=kill)
    assert killed
    assert (found.images, len(found.problems)) == (31, 1)
    assert contents(tmp_path / "out") == contents(plain)


def test_a_killed_command_goes_on(scans, plain, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pocketseg.cli.main", "predict", str(MODEL), str(scans), "--out", str(out)]
    command += ["--table", "--overlay", "--jobs", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while process.poll() is None and len(list(out.rglob("*_overlay.png"))) < 6:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    said = run_cli(*command[3:])
    assert said.returncode == 2
    assert "31 images segmented" in said.stdout
    assert "of them before" in said.stdout
    assert "broken.png" in said.stderr
    assert contents(out) == contents(plain)


def test_an_image_that_ends_its_process_is_named(scans, tmp_path, monkeypatch):
    """Every process starts a module in which one image is fatal."""
    (tmp_path / "fatal.py").write_text(
        "import os\nfrom pocketseg import shards\nfrom pocketseg.flows import predict\n"
        "read = predict.read_image\n"
        "predict.read_image = lambda path: os._exit(9) if path.name == 'c7.png' else read(path)\n"
        "if __name__ == '__main__':\n    shards.answer(predict._begin)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    shared = shards.shared
    monkeypatch.setattr(shards, "shared", lambda module, *rest: shared("fatal", *rest))
    found = pocketseg.predict(MODEL, [scans / "a"], tmp_path / "out", jobs=2)
    assert found.images == 14
    assert sorted(Path(each.where).name for each in found.problems) == ["broken.png", "c7.png"]
    assert any("its process ended at it 2 times (code 9)" in each.what for each in found.problems)


def test_a_number_of_processes_that_cannot_be(scans, tmp_path):
    with pytest.raises(DataError, match="--jobs 0: cannot be → give a whole number from 1 to 256"):
        pocketseg.predict(MODEL, [scans], tmp_path / "out", jobs=0)
