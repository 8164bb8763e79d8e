"""The DICOM node from one end to the other: series in, one segmentation of each out, whatever happens between."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pydicom
import pytest

import pocketseg
from helpers.dicom_node import MODEL, Node, archive, associate, listening, needed, send, series, wait_until
from helpers.volume_files import IDENTITY, NAME

needed()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("node")


@pytest.fixture(scope="module")
def to():
    with archive() as found:
        yield found


@pytest.fixture(scope="module")
def node(place: Path, to):
    arguments = ["--to", f"ARCHIVE@127.0.0.1:{to.port}", "--out", place / "out", "--quiet-seconds", "0"]
    with listening(
        place / "spool", *arguments, "--allow", "SENDER", "--allow", "ECHOSCU", "--allow", "STORESCU"
    ) as found:
        yield found


def is_empty(spool: Path) -> bool:
    return {file for _, _, files in os.walk(spool) for file in files} == {"lock"}


def test_a_series_becomes_a_segmentation_of_its_patient(node: Node, to, place, tmp_path):
    files = series(tmp_path, "first", 4)
    before = to.count
    assert send(node.port, files) == [0] * 4
    to.wait(before + 1)
    made, image = to.got[-1], pydicom.dcmread(files[0])
    right = pydicom.dcmread(pocketseg.predict(MODEL, [files[0].parent], tmp_path / "right").written[0])
    assert made.Modality == "SEG" and made.PixelData == right.PixelData and made.NumberOfFrames == right.NumberOfFrames
    assert (made.StudyInstanceUID, made.PatientID, str(made.PatientName)) == (image.StudyInstanceUID, IDENTITY, NAME)
    wait_until(lambda: is_empty(place / "spool"), "an empty spool")
    (file,) = (place / "out").glob("*.dcm")
    assert pydicom.dcmread(file).SOPInstanceUID == made.SOPInstanceUID and made.SOPInstanceUID in file.name
    # Sent again it is made again, as the same object.
    send(node.port, files)
    wait_until(lambda: len(to.got) == 2, "it again")
    assert to.uids()[-1] == to.uids()[-2] and len(list((place / "out").glob("*.dcm"))) == 1


@pytest.mark.row("S25")
def test_nothing_of_a_patient_is_logged(node: Node, to, tmp_path):
    files = series(tmp_path, "private", 2)
    damaged = series(tmp_path, "damaged", 2, step=0.0)
    before = to.count
    send(node.port, damaged)
    send(node.port, files)
    to.wait(before + 1)
    whole = "\n".join(node.log)
    headers = [pydicom.dcmread(file) for file in (*files, *damaged)]
    secrets = {
        NAME,
        IDENTITY,
        *(str(each[key].value) for each in headers for key in ("SOPInstanceUID", "StudyInstanceUID")),
    }
    assert "complete (2 images)" in whole and not [each for each in secrets if each in whole]


def test_a_series_that_fails_is_moved_aside_and_the_node_lives(node: Node, to, place, tmp_path):
    before, failed = to.count, place / "spool/failed"
    shutil.rmtree(failed, ignore_errors=True)
    send(node.port, series(tmp_path, "same place", 3, step=0.0))
    wait_until(lambda: failed.is_dir() and any(failed.glob("*/why.json")), "a series that failed")
    (why,) = failed.glob("*/why.json")
    (said,) = json.loads(why.read_text())
    assert said["what"] == "slices 1 and 2 lie at the same place" and said["fix"]
    assert len(list(why.parent.glob("images/*.dcm"))) == 3
    wait_until(lambda: node.logged("lie at the same place"), "the reason in the log")
    shutil.rmtree(failed)
    send(node.port, series(tmp_path, "after it", 2))
    to.wait(before + 1)


def test_dcmtk_is_understood(node: Node, to, tool, tmp_path):
    for name in ("echoscu", "storescu", "dciodvfy"):
        tool(name)
    before = to.count
    call = ["-aec", "NODE", "127.0.0.1", str(node.port)]
    assert subprocess.run(["echoscu", *call]).returncode == 0
    assert subprocess.run(["echoscu", "-aet", "STRANGER", *call], capture_output=True).returncode != 0
    files = series(tmp_path, "of dcmtk", 3)
    assert subprocess.run(["storescu", "-xi", *call, *map(str, files)]).returncode == 0
    to.wait(before + 1)
    pydicom.dcmwrite(tmp_path / "seg.dcm", to.got[-1], enforce_file_format=True)
    said = subprocess.run(["dciodvfy", str(tmp_path / "seg.dcm")], capture_output=True, text=True)
    assert "Segmentation" in said.stderr and "Error" not in said.stderr


def test_it_lets_senders_end_before_it_ends(tmp_path):
    """What they sent is segmented after the next start."""
    files = series(tmp_path, "late", 3)
    arguments = ["--out", tmp_path / "out", "--quiet-seconds", "0"]
    with listening(tmp_path / "spool", *arguments) as first:
        association = associate(first.port)
        assert association.send_c_store(pydicom.dcmread(files[0])).Status == 0
        first.process.send_signal(signal.SIGTERM)
        wait_until(lambda: first.logged("ending"), "that it ends")
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", first.port)):
            pass
        assert [association.send_c_store(pydicom.dcmread(file)).Status for file in files[1:]] == [0, 0]
        association.release()
        assert first.process.wait(60) == 0
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.dcm"))
    with listening(tmp_path / "spool", "--out", tmp_path / "out", "--quiet-seconds", "0.1", "--keep"):
        wait_until(lambda: list((tmp_path / "out").glob("*.dcm")), "a segmentation")
        wait_until(lambda: list((tmp_path / "spool/done").glob("*/made/*.sent")), "what is kept")
    assert len(list((tmp_path / "spool/done").glob("*/images/*.dcm"))) == 3


@pytest.mark.slow("kills at random moments; the steps between are tested one by one in unit/node")
@pytest.mark.parametrize("seed", [0])
def test_killed_at_any_moment_each_series_becomes_one_segmentation(tmp_path, seed):
    """A sender sends all of a series again that was not answered, as senders do; what was answered is never lost."""
    rng = random.Random(seed)
    print(f"seed {seed}")
    todo = [series(tmp_path, name, 3) for name in ("a", "bb", "ccc", "dddd")]
    again: list[Path] = []
    with archive() as to:
        to.before = lambda: time.sleep(0.1)
        arguments = ["--to", f"ARCHIVE@127.0.0.1:{to.port}", "--quiet-seconds", "3"]
        for turn, files in enumerate(todo):
            with listening(tmp_path / "spool", *arguments) as node:
                if again:
                    assert send(node.port, again) == [0] * len(again)
                again = files if turn % 2 else []  # the kill is in the middle of an association, or later
                association = associate(node.port)
                for file in files[:2] if again else files:
                    assert association.send_c_store(pydicom.dcmread(file)).Status == 0
                if not again:
                    association.release()
                    time.sleep(rng.uniform(2.5, 6))
                node.kill()
                wait_until(lambda: not association.is_alive(), "that it is seen")  # noqa: B023
        with listening(tmp_path / "spool", *arguments) as node:
            assert send(node.port, again) == [0] * len(again)
            to.wait(len(todo))
            wait_until(lambda: is_empty(tmp_path / "spool"), "an empty spool")
    by_series: dict[str, set[str]] = {}
    for made in to.got:
        by_series.setdefault(str(made.ReferencedSeriesSequence[0].SeriesInstanceUID), set()).add(made.SOPInstanceUID)
    assert sorted(map(len, by_series.values())) == [1] * len(todo)
    referenced = [len(made.ReferencedSeriesSequence[0].ReferencedInstanceSequence) for made in to.got]
    assert set(referenced) == {3}, "each is of the whole series"
    assert len(to.got) - len(todo) <= len(todo), (
        "after a kill between sending and its record the same is sent once more"
    )
