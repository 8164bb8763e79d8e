"""`predict` of videos: a page of the mask and a frame of the overlay for each frame, in time."""

from __future__ import annotations

import json
import logging
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

import pocketseg
from helpers import videos
from helpers.bright import Bright
from pocketseg.data.video import Frame, opened
from pocketseg.errors import DataError
from pocketseg.flows import predict as flow
from pocketseg.predictors.frames import seen_frames

videos.needed()
ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests/golden/0.1.0/w8a8.pseg"


@pytest.fixture
def bright(monkeypatch):
    monkeypatch.setattr(flow, "load_predictor", lambda *args, **options: Bright())


def pages(path: Path) -> list[np.ndarray]:
    with Image.open(path, formats=["TIFF"]) as file:
        return [np.array(page) for page in ImageSequence.Iterator(file)]


def frames_of(path: Path) -> list:
    with opened(path) as clip:
        return list(clip.frames())


def test_every_frame_has_its_mask_and_its_place_in_the_overlay(bright, tmp_path, caplog):
    clip = videos.write_video(tmp_path / "clips/clip.mp4", videos.spots(25), rate=12.5)
    with caplog.at_level(logging.INFO, "pocketseg"):
        found = flow.predict("model", [clip.parent], tmp_path / "out", with_overlay=True, table=True)
    assert [path.name for path in found.written] == ["clip.tif", "clip_overlay.mp4", "measurements.csv"]
    masks = pages(tmp_path / "out/clip.tif")
    for mask, frame in zip(masks, frames_of(clip), strict=True):
        assert np.array_equal(mask, np.where(frame.pixels >= 127.5, 255, 0))
    shown = frames_of(tmp_path / "out/clip_overlay.mp4")
    assert [each.seconds for each in shown] == pytest.approx([n / 12.5 for n in range(25)], abs=0.002)
    for mask, each in zip(masks, shown, strict=True):
        large = mask.repeat(8, axis=0).repeat(8, axis=1) > 0
        orange = each.pixels[..., 0].astype(int) - each.pixels[..., 2] > 60
        assert orange.any()
        assert not orange[~np.pad(large, 4)[8:, 4:-4] & ~np.pad(large, 4)[:-8, 4:-4]].mean() > 0.02
    assert [row.slice for row in found.rows] == list(range(25))
    assert [row.area_px for row in found.rows] == [int((mask > 0).sum()) for mask in masks]
    assert "25 frames, 2.0 s, in" in caplog.text
    assert "times real time; clip_overlay.mp4 is MPEG-4 Part 2" in caplog.text


def test_masks_may_be_pictures(bright, tmp_path):
    clip = videos.write_video(tmp_path / "clip.avi", videos.spots(4))
    found = flow.predict("model", [clip], tmp_path / "out", to="png")
    assert [path.name for path in found.written] == ["000.png", "001.png", "002.png", "003.png"]


def test_smoothing_is_the_filter_that_is_stated():
    bright = [np.full((8, 8), value, np.uint8) for value in (0, 255, 255, 255)]
    seconds = [0.0, 0.1, 0.2, 0.6]
    given = [Frame(number, at, pixels) for number, (at, pixels) in enumerate(zip(seconds, bright, strict=True))]
    found = [float(each.probabilities[0, 0, 0]) for each in seen_frames(Bright(), given, smooth_s=0.2)]
    left = np.exp(-np.array([0.0, 0.1, 0.2, 0.6]) / 0.2)
    assert found == pytest.approx(list(1 - left), abs=1e-6)
    masks = [int(each.mask[0, 0]) for each in seen_frames(Bright(), given, smooth_s=0.2)]
    assert masks == [0, 0, 1, 1]
    assert [int(each.mask[0, 0]) for each in seen_frames(Bright(), given)] == [0, 1, 1, 1]


def test_videos_are_shared_and_kept_like_images(tmp_path):
    for number in range(3):
        videos.write_video(tmp_path / f"clips/c{number}.mp4", videos.spots(5 + number))
    (tmp_path / "clips/broken.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    plain, shared = tmp_path / "plain", tmp_path / "shared"
    pocketseg.predict(MODEL, [tmp_path / "clips"], plain, table=True, smooth=0.1)
    found = pocketseg.predict(MODEL, [tmp_path / "clips"], shared, table=True, smooth=0.1, jobs=2)
    assert [Path(each.where).name for each in found.problems] == ["broken.mp4"]
    for name in ("c0.tif", "c1.tif", "c2.tif", "measurements.csv"):
        assert (plain / name).read_bytes() == (shared / name).read_bytes()
    assert len(pages(plain / "c1.tif")) == 6
    again = pocketseg.predict(MODEL, [tmp_path / "clips"], shared, table=True, smooth=0.1)
    assert (again.kept, again.rows) == (3, found.rows)
    record = [json.loads(line) for line in (shared / ".pocketseg-predict.jsonl").read_text().splitlines()]
    assert not any(name.startswith("broken") and digest for line in record for name, digest in line.items())


def test_what_a_video_cannot_be(bright, tmp_path):
    clip = videos.write_video(tmp_path / "clip.mp4", videos.spots(3))
    for options, what in (
        ({"to": "nifti"}, "is a video, whose masks are not nifti"),
        ({"probabilities": True}, "is a video, whose probabilities are not written"),
    ):
        found = flow.predict("model", [clip], tmp_path / "out", **options)
        assert [each.what for each in found.problems] == [what]
    with pytest.raises(DataError, match="--smooth -1: cannot be"):
        flow.predict("model", [clip], tmp_path / "out", smooth=-1)
    Image.fromarray(videos.spots(1)[0]).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"--smooth 0\.1: is for videos, and none is given"):
        flow.predict("model", [tmp_path / "a.png"], tmp_path / "out", smooth=0.1)


def test_a_damaged_video_leaves_nothing(bright, tmp_path):
    clip = videos.write_video(tmp_path / "clip.avi", videos.spots(60))
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    found = flow.predict("model", [clip], tmp_path / "out", with_overlay=True)
    assert "clip.avi: ends after" in str(found.problems[0])
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".pocketseg-predict.jsonl"]


def test_the_commands_of_the_page_run(tmp_path, monkeypatch):
    """Those of docs/video.md, on a clip of half a second."""
    from pocketseg.cli.verbs import app
    from pocketseg.data.phantom import folder

    monkeypatch.chdir(tmp_path)
    short = folder.KINDS["cine"]
    draw = lambda seed, size: folder.cine.cine(seed, size, seconds=0.5)  # noqa: E731
    monkeypatch.setitem(folder.KINDS, "cine", type(short)(**{**vars(short), "draw": draw}))
    Path("model.pseg").write_bytes(MODEL.read_bytes())
    text = (ROOT / "docs/video.md").read_text(encoding="utf-8")
    commands = [line for line in text.splitlines() if line.startswith("pocketseg ")]
    assert len(commands) >= 4
    for command in commands:
        app(
            [*shlex.split(command, comments=True)[1:], *(["--size", "64"] if " phantom " in command else [])],
            standalone_mode=False,
        )
    assert len(pages(Path("masks/patient-001_clip.tif"))) == 12
    assert len(frames_of(Path("masks/patient-001_clip_overlay.mp4"))) == 12
