"""Videos are read frame by frame, upright and in time, and what is wrong with one is told with its name."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from helpers import videos
from pocketseg.data.phantom.cine import cine
from pocketseg.data.video import CODECS, opened
from pocketseg.data.volumes import open_volume, writing_stack
from pocketseg.errors import DataError, EnvironmentProblem

videos.needed()
FRAMES = videos.spots(20)


def read(path):
    with opened(path) as clip:
        return list(clip.frames())


@pytest.mark.whole
@pytest.mark.parametrize("ending", CODECS)
def test_what_is_written_is_read(tmp_path, ending):
    path = videos.write_video(tmp_path / f"clip{ending}", FRAMES, rate=10)
    found = read(path)
    assert [each.number for each in found] == list(range(20))
    assert [each.seconds for each in found] == pytest.approx([n / 10 for n in range(20)], abs=0.002)
    for each, frame in zip(found, FRAMES, strict=True):
        assert each.pixels.shape == (48, 64)
        assert np.abs(each.pixels.astype(int) - frame).mean() < 6
    assert not list(tmp_path.glob(".*"))


def test_colors_stay_in_their_order(tmp_path):
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 200
    pixels = read(videos.write_video(tmp_path / "red.avi", [red] * 3))[1].pixels
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels.reshape(-1, 3).mean(axis=0) - (200, 0, 0)).max() < 12


def test_odd_sides_keep_all_pixels(tmp_path):
    frames = [np.pad(frame, ((0, 1), (0, 1)), constant_values=200) for frame in FRAMES]
    found = read(videos.write_video(tmp_path / "odd.mp4", frames))
    assert found[0].pixels.shape == (50, 66)
    assert found[3].pixels[20, -2:].min() > 150


def test_frames_are_shown_as_the_file_tells(tmp_path):
    path = videos.write_video(tmp_path / "clip.mp4", FRAMES)
    upright = read(path)[0].pixels
    found = read(videos.turned(path, (0, 1, -1, 0)))[0].pixels
    assert found.shape == (64, 48)
    assert np.array_equal(found, np.rot90(upright, -1))


def test_uneven_times_are_kept_by_frames_that_stand_longer(tmp_path):
    times = [0.0, 0.1, 0.5, 0.52, 0.6]
    frames = [np.full((48, 64), value, np.uint8) for value in (20, 60, 100, 140, 180)]
    found = read(videos.write_video(tmp_path / "clip.avi", frames, rate=10, times=times))
    assert [round(float(each.pixels.mean()), -1) for each in found] == [20, 60, 60, 60, 60, 100, 180]


def test_a_pause_without_end_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"out\.mp4: would have a pause of 100000 s → cut the video there"):
        videos.write_video(tmp_path / "out.mp4", FRAMES[:2], times=[0, 1e5])
    assert not list(tmp_path.iterdir())


def test_what_is_wrong_is_told_with_the_name(tmp_path):
    whole = videos.write_video(tmp_path / "whole.mp4", FRAMES).read_bytes()
    index = whole.index(b"moov")
    damaged = {
        "empty.mp4": (b"", "is empty → copy it again"),
        "list.mp4": (b"#EXTM3U\nhttp://127.0.0.1/secret\n", "is called a video and does not begin as one"),
        "text.avi": (b"RIFF1234WAVE", "is called a video and does not begin as one"),
        "cut.mp4": (whole[: index - 4], "is a video that cannot be opened"),
        "head.mp4": (whole[:16], "is a video that cannot be opened"),
        "holes.mp4": (whole[:200] + bytes(index - 300) + whole[index - 100 :], "ends after|no frame that can be"),
    }
    for name, (content, what) in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: .*({what})"):
            read(tmp_path / name)
    with pytest.raises(DataError, match=r"none\.mp4: does not exist"):
        read(tmp_path / "none.mp4")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(DataError, match=r"folder\.mp4: cannot be read"):
        read(tmp_path / "folder.mp4")


def test_a_video_that_lacks_its_end_is_not_taken_for_a_whole_one(tmp_path):
    path = videos.write_video(tmp_path / "clip.avi", videos.spots(60))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"clip\.avi: ends after \d+ frames, and states that it has 60"):
        read(path)


def test_pages_are_a_file_that_others_read(tmp_path):
    with writing_stack(tmp_path / "pages.tif") as add:
        for frame in FRAMES:
            add(frame[:, :63])
    tifffile = pytest.importorskip("tifffile")
    assert np.array_equal(tifffile.imread(tmp_path / "pages.tif"), np.stack(FRAMES)[..., :63])
    voxels = open_volume(tmp_path / "pages.tif").voxels()
    assert np.array_equal(voxels.transpose(2, 1, 0), np.stack(FRAMES)[..., :63])


def test_without_opencv_the_extra_is_named(tmp_path, monkeypatch):
    path = videos.write_video(tmp_path / "clip.mp4", FRAMES[:2])
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(EnvironmentProblem, match=r"cv2: cannot be imported .*pocketseg\[video\]"):
        read(path)


def test_the_lesion_of_the_phantom_moves(tmp_path):
    case = next(cine(0, 64, seconds=2.0))
    assert case.image.shape == case.mask.shape == (64, 64, 50)
    middles = [np.mean(np.nonzero(case.mask[..., number])[0]) for number in range(50)]
    assert max(middles) - min(middles) > 2
    assert max(abs(after - before) for before, after in pairwise(middles)) < 2
    inside, outside = (case.image[case.mask == each].mean() for each in (1, 0))
    assert abs(inside - outside) > 10
