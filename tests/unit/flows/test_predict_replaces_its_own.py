"""`predict` replaces what an earlier `predict` wrote, and no other file."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from helpers.bright import Bright
from helpers.pictures import save
from helpers.volume_files import write_nifti
from pocketseg.errors import DataError
from pocketseg.flows import predict as flow

RECORD = ".pocketseg-predict.jsonl"
NOT_OURS = "is there already and was not written by predict"
EVERYTHING = {"table": True, "with_overlay": True, "probabilities": True}


@pytest.fixture(autouse=True)
def bright(monkeypatch):
    monkeypatch.setattr(flow, "load_predictor", lambda *args, **options: Bright())


@pytest.fixture
def images(tmp_path):
    """Two pictures, one of them in a folder, and a volume."""
    spots = np.zeros((20, 30), np.uint8)
    spots[2:5, 3:7] = 200
    save(tmp_path / "images/a.png", spots)
    save(tmp_path / "images/more/b.png", spots)
    write_nifti(tmp_path / "images/v.nii.gz", np.full((9, 8, 3), 200, np.uint8), np.eye(4))
    return tmp_path / "images"


WRITTEN = [
    "a.png", "a_overlay.png", "a_probability.png", "measurements.csv", "more/b.png", "more/b_overlay.png",
    "more/b_probability.png", "v.nii.gz", "v_overlay/000.png", "v_overlay/001.png", "v_overlay/002.png",
    "v_probability.nii.gz",
]  # fmt: skip


def test_its_own_files_are_replaced(images, tmp_path):
    out = tmp_path / "out"
    first = flow.predict("model", [images], out, **EVERYTHING)
    names = {path.relative_to(out).as_posix() for path in first.written}
    assert names == set(WRITTEN)
    assert flow.predict("model", [images], out, **EVERYTHING).written == first.written
    recorded = {}
    for line in (out / RECORD).read_text().splitlines():
        recorded |= json.loads(line)
    assert {name for name, digest in recorded.items() if len(digest) == 64} == names


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_of_others_stops_it_before_anything_is_written(name, images, tmp_path):
    mine = tmp_path / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(DataError, match=f"{name}: {NOT_OURS} → choose another --out"):
        flow.predict("model", [images], tmp_path / "out", **EVERYTHING)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [mine]
    assert mine.read_text() == "mine"


def test_a_reference_drawn_by_hand_stays(images, tmp_path):
    for name in ("a.png", "more/b.png"):
        save(tmp_path / "masks" / name, np.eye(20, dtype=np.uint8))
    with pytest.raises(DataError, match=rf"a\.png: {NOT_OURS} \(one of 2 such files\)"):
        flow.predict("model", [images], tmp_path / "masks")
    assert not (tmp_path / "masks" / RECORD).exists()


def test_what_was_changed_since_is_not_its_own(images, tmp_path):
    out = tmp_path / "out"
    flow.predict("model", [images], out)
    corrected = save(out / "a.png", np.eye(20, dtype=np.uint8)).read_bytes()
    with pytest.raises(DataError, match=rf"a\.png: {NOT_OURS} as it is now"):
        flow.predict("model", [images], out)
    assert (out / "a.png").read_bytes() == corrected
    (out / "a.png").unlink()
    assert flow.predict("model", [images], out).images == 3


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"a.png": 1}', b"\xff", b"[" * 100_000])
def test_a_damaged_record_allows_nothing(content, images, tmp_path):
    flow.predict("model", [images], tmp_path / "out")
    (tmp_path / "out" / RECORD).write_bytes(content)
    with pytest.raises(DataError, match=NOT_OURS):
        flow.predict("model", [images], tmp_path / "out")


def test_what_an_interrupted_one_wrote_is_its_own(images, tmp_path, monkeypatch):
    write = flow.write_png

    def interrupted(path, pixels):
        if path.name == "a_overlay.png":
            raise KeyboardInterrupt
        return write(path, pixels)

    monkeypatch.setattr(flow, "write_png", interrupted)
    with pytest.raises(KeyboardInterrupt):
        flow.predict("model", [images / "a.png"], tmp_path / "out", with_overlay=True)
    assert (tmp_path / "out/a.png").exists()
    monkeypatch.setattr(flow, "write_png", write)
    assert flow.predict("model", [images / "a.png"], tmp_path / "out", with_overlay=True).images == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a copy of this process")
def test_what_a_killed_one_wrote_is_its_own(images, tmp_path, monkeypatch):
    write = flow.write_png

    def killed(path, pixels):
        write(path, pixels)
        os._exit(9)

    code = os.fork()
    if code == 0:
        flow.write_png = killed
        flow.predict("model", [images / "a.png"], tmp_path / "out")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(code, 0)[1]) == 9
    assert (tmp_path / "out/a.png").exists()
    assert flow.predict("model", [images / "a.png"], tmp_path / "out").images == 1
