"""Profiles of machines: what an estimate rests on, what a file may say, and how near estimates are to the truth."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pocketseg.errors import RecipeError
from pocketseg.flows.benchmark import write_profile
from pocketseg.search import shapes
from pocketseg.search.profile import Profile
from pocketseg.search.shapes import Shape

NET = Shape(16, 5, "plain", "int8")
PROFILE = Profile(
    "aarch64, Linux", 4, "neon", "1.0", {NET.name: [1.0, 4.0, 16.0]}, {replace(NET, blocks=3).name: 3.8},
    {NET.name: 0.1}, {NET.name: 0.2}, [0.05, -0.12],
)  # fmt: skip


def test_an_estimate_is_the_time_where_it_was_measured_and_a_line_between():
    for side, ms in ((64, 1.0), (128, 4.0), (256, 16.0)):
        assert PROFILE.estimate(NET, (side, side)) == pytest.approx(ms)
    assert PROFILE.estimate(NET, (128, 256)) == pytest.approx(8.0)
    assert PROFILE.estimate(NET, (512, 512)) == pytest.approx(64.0), "beyond, along the last line"
    assert PROFILE.estimate(NET, (100, 120)) == PROFILE.estimate(NET, (128, 128)), "brought to the stride of 32"
    assert PROFILE.estimate(replace(NET, blocks=4), (128, 128)) == pytest.approx(3.9), "a level is 0.1 ms"
    assert PROFILE.estimate(NET, (128, 128), 3, 4) == pytest.approx(4.8) and PROFILE.estimate(
        NET, (256, 256), 2
    ) == pytest.approx(16.4), "channels and logits, for each pixel"


def test_what_was_not_timed_is_not_guessed():
    with pytest.raises(RecipeError, match="has no time of plain-w24-n5-int8"):
        PROFILE.estimate(replace(NET, width=24), (128, 128))


def test_it_says_its_machine_and_its_error():
    said = "aarch64, Linux, neon, 4 threads; estimates there were off by 8 % in the median and 12 % at most"
    assert PROFILE.said.startswith(said)
    assert "was not measured" in replace(PROFILE, errors=[]).said


def test_a_file_is_read_as_it_was_written(tmp_path):
    file = tmp_path / "p.json"
    file.write_text(PROFILE.text())
    found = Profile.read(file)
    assert found == PROFILE and found.digest == PROFILE.digest != replace(PROFILE, threads=2).digest


@pytest.mark.parametrize(
    "change",
    [
        {"format": "another"},
        {"deep_ms": {NET.name: [1.0, 4.0]}},
        {"deep_ms": {NET.name: [1.0, float("nan"), 16.0]}},
        {"shallow_ms": {NET.name: -1}},
        {"errors": ["large"]},
        {"logit_ms": {NET.name: None}},
        {"more": 1},
    ],
)
def test_other_files_are_refused(tmp_path, change):
    file = tmp_path / "p.json"
    file.write_text(json.dumps({**json.loads(PROFILE.text()), **change}))
    with pytest.raises(RecipeError, match="is not a device profile"):
        Profile.read(file)
    file.write_text("[]")
    with pytest.raises(RecipeError, match="is not a device profile"):
        Profile.read(file)
    with pytest.raises(RecipeError, match="is not a device profile"):
        Profile.read(tmp_path / "none.json")


def test_this_machine_is_profiled(tmp_path, monkeypatch):
    """Two nets, and their float form; a machine that is busy may be anything but a hundred times as fast."""
    monkeypatch.setattr(shapes, "WIDTHS", (8, 16))
    monkeypatch.setattr(shapes, "KINDS", (("separable", "int8"),))
    steps: list[tuple[int, int]] = []
    made = write_profile(tmp_path / "here.json", threads=1, progress=lambda *at: steps.append(at))
    assert Profile.read(tmp_path / "here.json") == made and steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert set(made.deep_ms) == {f"separable-w{width}-n5-{bits}" for width in (8, 16) for bits in ("int8", "float")}
    assert len(made.errors) == 4 and all(-0.99 < each < 100 for each in made.errors)
    small, large = (made.estimate(Shape(16, 4, "separable", "int8"), (side, side)) for side in (64, 256))
    assert 0 < small < large
