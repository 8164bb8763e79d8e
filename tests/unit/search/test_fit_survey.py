"""Looking at odd data sets: each becomes a summary, or a refusal that says what is wrong."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from pocketseg.data import Fold, Split
from pocketseg.errors import DataError, RecipeError, RunError
from pocketseg.flows.fit import fit
from pocketseg.search import accept, costs
from pocketseg.search import begin as beginning
from pocketseg.search.begin import SEARCH_FOLDS, Budget, Wishes, _search_split, begin
from pocketseg.search.profile import Profile
from pocketseg.search.shapes import Cost, Shape, ladder
from pocketseg.search.state import Search, SearchFolder
from pocketseg.search.survey import notable, object_sizes, reading_of_values, survey

RNG = np.random.default_rng(7)


def write_set(root: Path, masks: list[np.ndarray], images: list[np.ndarray] | None = None) -> Path:
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number, mask in enumerate(masks):
        image = RNG.integers(0, 256, mask.shape[:2], np.uint8) if images is None else images[number]
        Image.fromarray(image).save(root / "images" / f"case-{number:02}.png")
        Image.fromarray(mask).save(root / "masks" / f"case-{number:02}.png")
    return root


def disk(value: int = 255, side: int = 32, at: int = 8) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    mask[at : at + 8, 4:12] = value
    return mask


def summary_of(root: Path, *overrides: str):
    found = survey(root, overrides)
    return found.summary([case.name for case in found.cases])


def test_a_plain_set(tmp_path):
    found = summary_of(write_set(tmp_path / "d", [disk()] * 6))
    assert (found.cases, found.classes, found.colored, found.channels) == (6, ("foreground",), 0, (1,))
    assert len(found.objects) == 6 and found.objects[0].diameter == pytest.approx(9.03, abs=0.01)
    assert found.shares == (64 / 1024,) and found.empty == 0


def test_masks_that_are_all_empty_are_refused(tmp_path):
    root = write_set(tmp_path / "d", [np.zeros((32, 32), np.uint8)] * 4)
    with pytest.raises(DataError, match="none of 4 masks holds any foreground"):
        survey(root, ())


def test_masks_of_another_size_are_refused(tmp_path):
    root = write_set(tmp_path / "d", [disk()] * 3, [np.zeros((40, 32), np.uint8) + RNG.integers(9, dtype=np.uint8)] * 3)
    with pytest.raises(DataError, match="32×32"):
        survey(root, ())


def test_classes_are_found_by_their_values(tmp_path):
    root = write_set(tmp_path / "d", [disk(1) + disk(2, at=20), disk(3), disk(1)])
    found = summary_of(root)
    assert found.classes == ("class-1", "class-2", "class-3") and found.mask == {}
    assert found.shares[0] == pytest.approx(2 * 64 / 3 / 1024)


def test_what_the_user_says_of_classes_holds(tmp_path):
    root = write_set(tmp_path / "d", [disk(1) + disk(2, at=20), disk(2)])
    assert summary_of(root, "data.classes=[cup, disc]").classes == ("cup", "disc")
    assert summary_of(root, "data.mask.threshold=1").classes == ("foreground",)


def test_a_folder_of_masks_says_nothing_of_classes(tmp_path):
    root = write_set(tmp_path / "d", [disk(1) + disk(2, at=20), disk(2)])
    (root / "masks").rename(root / "drawn")
    assert summary_of(root, "data.images=images", "data.masks=drawn").classes == ("class-1", "class-2")


def test_other_values_than_one_two_three():
    found = reading_of_values([frozenset({64, 128}), frozenset({192})])
    assert found.classes == ("class-64", "class-128", "class-192") and found.mask == {"values": [64, 128, 192]}


def test_forty_classes_are_classes_and_gray_levels_are_not():
    forty = [frozenset(range(1, 41, step)) for step in (1, 2, 3)]
    assert len(reading_of_values(forty).classes) == 40
    assert reading_of_values([frozenset(range(1, 256, 3))]).classes == ("foreground",)


def test_white_masks_with_gray_rims_are_cut_and_photographs_are_refused(tmp_path):
    masks = [
        np.asarray(Image.fromarray(disk(at=3 + each)).resize((45, 45), Image.Resampling.BICUBIC)) for each in range(6)
    ]
    found = survey(write_set(tmp_path / "rims", masks), ())
    assert found.reading.mask == {"threshold": 128} and "gray rims" in found.reading.why
    expected = np.mean([(mask >= 128).mean() for mask in masks])
    assert found.summary([case.name for case in found.cases]).shares[0] == pytest.approx(expected)
    photographs = [RNG.integers(0, 256, (32, 32), np.uint8) for _ in range(4)]
    with pytest.raises(DataError, match="many gray levels"):
        survey(write_set(tmp_path / "photographs", photographs), ())


def test_masks_of_one_and_of_255_are_one_class():
    assert reading_of_values([frozenset({1}), frozenset({255})]).mask == {"threshold": 1}


def test_color_and_gray_stored_as_color(tmp_path):
    gray = [np.repeat(RNG.integers(0, 256, (32, 32, 1), np.uint8), 3, 2) for _ in range(4)]
    assert summary_of(write_set(tmp_path / "gray", [disk()] * 4, gray)).colored == 0
    colored = [RNG.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(4)]
    assert summary_of(write_set(tmp_path / "color", [disk()] * 4, colored)).colored == 4


def test_sixteen_bits_with_an_offset(tmp_path):
    images = [(32768 + RNG.integers(0, 4096, (32, 32))).astype(np.uint16) for _ in range(4)]
    found = summary_of(write_set(tmp_path / "d", [disk()] * 4, images))
    low, high = found.values["uint16"]
    assert 32768 <= low < high < 32768 + 4096


def test_near_duplicates_share_a_group(tmp_path):
    images = [RNG.integers(0, 256, (64, 64), np.uint8) for _ in range(5)]
    smooth = [np.asarray(Image.fromarray(each).resize((8, 8)).resize((64, 64))) for each in images]
    alike = [*smooth, np.clip(smooth[0].astype(int) + 2, 0, 255).astype(np.uint8)]
    found = survey(write_set(tmp_path / "d", [disk(side=64)] * 6, alike), ())
    groups = {case.name: case.group for case in found.cases}
    assert found.regrouped and groups["case-00"] == groups["case-05"] != groups["case-01"]
    assert found.summary(list(groups)).near_duplicates == (2, 1)
    own = survey(tmp_path / "d", [r"data.group_regex=^(case-\d+)"])
    assert {case.name: case.group for case in own.cases}["case-05"] == "case-05"
    assert own.summary(list(groups)).near_duplicates == (0, 0)
    assert "near-duplicate" in [finding.code for finding in notable(own.found)]


def test_volumes_of_three_slices_are_groups(tmp_path):
    for folder, make in (("images", lambda: RNG.integers(0, 256, (32, 32), np.uint8)), ("masks", disk)):
        (tmp_path / "d" / folder).mkdir(parents=True)
        for number in range(4):
            first, *rest = [Image.fromarray(make()) for _ in range(3)]
            first.save(tmp_path / "d" / folder / f"volume-{number}.tif", save_all=True, append_images=rest)
    found = summary_of(tmp_path / "d")
    assert (found.cases, found.groups, found.volumes, found.grouped) == (12, 4, True, True)


def test_objects_are_counted_apart():
    mask = np.zeros((20, 40), bool)
    mask[2:4, 2:4] = mask[10:14, 10:20] = True
    assert [round(each.diameter, 2) for each in object_sizes(mask)] == [2.26, 7.14]
    assert object_sizes(mask)[1].share == pytest.approx(7.14 / 40, abs=1e-3)


@pytest.mark.parametrize("groups", [12, 60])
def test_no_test_case_is_in_the_split_of_the_search(tmp_path, groups):
    found = survey(write_set(tmp_path / "d", [disk()] * groups), ())
    names = [case.name for case in found.cases]
    test, rest = names[:3], names[3:]
    own = Split((Fold(tuple(rest[3:]), tuple(rest[:3]), tuple(test)),), {name: name for name in names}, {"kind": "x"})
    split = _search_split(own, found.cases.cases)
    assert len(split.folds) == (SEARCH_FOLDS if groups < 40 else 1)
    seen = [set(fold.train) | set(fold.validation) for fold in split.folds]
    assert all(each == set(rest) for each in seen) and not any(fold.test for fold in split.folds)
    assert len(split.folds) == 1 or sorted(n for fold in split.folds for n in fold.validation) == sorted(rest)


def test_what_is_held_out_counts_as_groups_of_the_data(tmp_path):
    """45 groups are not fewer than 40, also where the test part has nine of them: the plan says the same."""
    found = survey(write_set(tmp_path / "d", [disk()] * 45), ())
    names = [case.name for case in found.cases]
    own = Split((Fold(tuple(names[18:]), tuple(names[9:18]), tuple(names[:9])),), {name: name for name in names}, {})
    assert len(_search_split(own, found.cases.cases).folds) == 1


def test_folds_that_the_user_asks_for_train_one_winner(tmp_path, monkeypatch):
    monkeypatch.setattr(
        beginning, "_costs", lambda shapes, *_: {shape: Cost(1000, 1000, 1.0, 4000) for shape in shapes}
    )
    root = write_set(tmp_path / "d", [disk()] * 12)
    wishes = Wishes(Budget(), steps=100, overrides=("split.kind=kfold", "split.folds=3"))
    found = begin(root, SearchFolder(tmp_path / "o"), wishes)
    (fold,) = found.split.folds
    assert len(fold.test) == 4 and not set(fold.test) & {
        name for each in found.search_split.folds for name in each.train
    }


@pytest.fixture
def quick(monkeypatch):
    """Counting that takes no time, and steps of a second each."""
    monkeypatch.setattr(beginning, "_costs", lambda shapes, *_: {one: Cost(1000, 1000, 1.0, 4000) for one in shapes})
    monkeypatch.setattr(costs, "step_seconds", lambda *_: 1.0)


def test_too_little_time_is_said_and_one_shape_is_no_comparison(tmp_path, quick, caplog):
    caplog.set_level(logging.INFO, "pocketseg")
    found = begin(write_set(tmp_path / "d", [disk()] * 12), SearchFolder(tmp_path / "o"), Wishes(Budget(), 60.0))
    assert caplog.messages[0].startswith("looking at the data in ")
    assert not found.search.schedule.rounds and len(found.search.taken) == 1
    (note,) = (note for note in found.search.plan.notes if "--time 60s is little here" in note)
    assert re.search(r"carries 40 steps .* all takes about [23]min; --time \d+min carries 300$", note)
    assert "compared out of fold" not in found.text and "the winner" not in found.text
    assert "this one is trained without a comparison: the largest that fits" in found.text


def test_time_that_is_enough_compares_and_is_not_warned_of(tmp_path, quick):
    found = begin(write_set(tmp_path / "d", [disk()] * 12), SearchFolder(tmp_path / "o"), Wishes(Budget(), 36_000.0))
    assert found.search.schedule.rounds and "compared out of fold" in found.text
    assert not [note for note in found.search.plan.notes if "--time" in note]


def test_what_looking_and_counting_took_is_taken_off_the_time(tmp_path, quick):
    root = write_set(tmp_path / "d", [disk()] * 12)
    late = Wishes(Budget(), 6000.0, began=time.monotonic() - 3000)
    steps = [
        begin(root, SearchFolder(tmp_path / "o"), wishes).search.schedule
        for wishes in (Wishes(Budget(), 6000.0), late, Wishes(Budget(), 3000.0))
    ]
    assert steps[0].full_steps > steps[1].full_steps
    assert steps[1].candidates == steps[2].candidates
    assert steps[1].full_steps == pytest.approx(steps[2].full_steps, rel=0.02)


def test_classes_that_may_overlap_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="for which fit has no plan"):
        survey(write_set(tmp_path / "d", [disk()] * 4), ["data.multilabel=true", "data.classes=[a, b]"])


@pytest.mark.parametrize("key", ["stages.*.num_epochs", "stages.0.net.width", "stages.int8.quantization.scheme"])
def test_what_fit_finds_out_cannot_be_set_by_any_name(tmp_path, key):
    with pytest.raises(RecipeError, match="is what fit finds out"):
        fit(tmp_path, plan=True, overrides=[f"{key}=3"], quiet=True)


def test_one_patient_is_refused(tmp_path):
    root = write_set(tmp_path / "d", [disk()] * 5)
    with pytest.raises(DataError, match="one group"):
        begin(root, SearchFolder(tmp_path / "o"), Wishes(Budget(), overrides=("data.group_regex=^case",)))


def test_jobs_carry_more_steps_in_the_same_time(tmp_path, quick, caplog):
    caplog.set_level(logging.INFO, "pocketseg")
    root = write_set(tmp_path / "d", [disk()] * 12)
    threads = torch.get_num_threads()
    one, two = (
        begin(root, SearchFolder(tmp_path / "o"), Wishes(Budget(), 36_000.0, jobs=jobs)).search.schedule.full_steps
        for jobs in (1, 2)
    )
    assert torch.get_num_threads() == threads
    assert two > one if threads > 1 else two == pytest.approx(one, rel=0.05)
    assert "side by side" in caplog.messages[-1] and "side by side" not in caplog.messages[2]


def test_a_profile_stands_in_for_this_machine(tmp_path, monkeypatch):
    """Its times count in the budget and in the gate, are said, and go with the search."""
    every = ladder((32, 32))
    times = {replace(shape, blocks=5, bits=bits).name: [1.0 * shape.width] * 3
             for shape in every for bits in (shape.bits, "float")}  # fmt: skip
    shallow = {name.replace("-n5-", "-n3-"): ms[0] for name, ms in times.items()}
    profile = Profile("aarch64, Linux", 4, "neon", "1", times, shallow, *[dict.fromkeys(times, 0.0)] * 2, [0.04])
    monkeypatch.setattr(costs, "costs", lambda shapes, *_: ((one, Cost(1000, 1000, 77.0, 4000)) for one in shapes))
    wishes = Wishes(Budget(latency_ms=12.5), steps=100, overrides=("data.size=[32, 32]",), profile=profile)
    folder = SearchFolder(tmp_path / "o")
    found = begin(write_set(tmp_path / "d", [disk()] * 12), folder, wishes)
    assert {shape.width for shape in found.search.taken} <= {8, 12}
    assert "estimates for another machine: aarch64, Linux, neon, 4 threads" in found.text
    found.search.write(tmp_path / "search.json")
    again = Search.read(tmp_path / "search.json")
    assert again.profile == profile and again.where == "by the device profile" and "aarch64" in again.timed_on
    with pytest.raises(RunError, match="begun with something else: profile"):
        again.refuse_other(replace(wishes, profile=replace(profile, threads=1)).asked, "o")
    clock, shape = accept._clock(again, Shape(12, 3, "plain", "int8")), np.zeros((1, 1, 32, 32), np.float32)
    session = SimpleNamespace(in_channels=1, out_channels=1)
    paces = clock({"float": session, "int8": session}, shape)  # type: ignore[dict-item]
    assert paces["int8"].ms == pytest.approx(12.0) and paces["int8"].ratio == 1 > paces["int8"].at_least
