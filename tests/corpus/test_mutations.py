"""Valid data sets that something happens to: read as they should be, told, or refused by name."""

from __future__ import annotations

import shutil
import traceback
from collections import Counter
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations import OPERATORS, Mutation, Place, happens, read, same, verdict
from valid_sets import SETS, gray, labels, mask, voxels

from pocketseg.data import Cases

for kind in ("files", "pictures", "volumes", "tables"):
    import_module(f"mutations_{kind}")

FEW, MANY = 5, 167
VOLUMES = {"nifti-channels": 3, "dicom-series": 2, "nrrd-segments": 3}


def run(name: str, count: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """How often each outcome came, and what went wrong."""
    chosen = SETS[name]
    (folder / "valid").mkdir()
    valid = chosen.make(folder / "valid")
    root = folder / "set" / valid.relative_to(folder / "valid")
    shutil.copytree(folder / "valid", folder / "set")
    state, before = read(root, chosen.options)
    outcomes: Counter[str] = Counter()
    failures = []
    for number in range(count):
        shutil.rmtree(folder / "set")
        shutil.copytree(folder / "valid", folder / "set")
        place = Place(root, chosen.kind, state, np.random.default_rng((seed, number, *name.encode())))
        mutation = happens(place)
        try:
            outcomes[verdict(mutation, place, chosen.options, before)] += 1
        except AssertionError as wrong:
            failures.append(f"{name}, seed {seed}, number {number}, {mutation.what}: {wrong}")
        except Exception:
            failures.append(f"{name}, seed {seed}, number {number}, {mutation.what}: {traceback.format_exc(limit=-4)}")
    return outcomes, failures


def cases() -> list[Any]:
    slow = pytest.mark.slow("minutes; five of each set are in make test")
    return [pytest.param(name, FEW, 1, id=f"{name}-{FEW}") for name in SETS] + [
        pytest.param(name, MANY, 2, id=f"{name}-{MANY}", marks=slow) for name in SETS
    ]


@pytest.mark.row("M01")
@pytest.mark.whole
@pytest.mark.parametrize(("name", "count", "seed"), cases())
@pytest.mark.filterwarnings("ignore")
def test_mutations(name, count, seed, tmp_path, record_property):
    outcomes, failures = run(name, count, seed, tmp_path)
    record_property("mutations", (outcomes.total(), count))
    assert not failures, f"{len(failures)} of {count}:\n" + "\n".join(failures[:10])


def test_2000_of_them():
    assert len(SETS) * MANY >= 2000 and len(SETS) * FEW >= 60
    assert len(OPERATORS) == 33


@pytest.mark.whole
@pytest.mark.parametrize("name", SETS)
def test_valid_sets_are_read_as_they_were_made(name, tmp_path):
    state, findings = read(SETS[name].make(tmp_path), SETS[name].options)
    assert not {finding.split()[0] for finding in findings} & {"left-out", "unread-format", "mixed-depth", "odd-value"}
    if name in VOLUMES:
        channels = (0, 10) if name == "nifti-channels" else (0,)
        numbers = [voxels(number + channel) for number in range(VOLUMES[name]) for channel in channels]
        drawn = [labels(number) for number in range(VOLUMES[name])]
        assert sorted(np.concatenate([case.image.ravel() for case in state])) == sorted(np.ravel(numbers))
        assert sum(int(case.mask.sum()) for case in state) == int(np.sum(drawn))
    elif name in ("two-folders", "parts", "tiff-stacks", "npz"):
        for number, case in enumerate(state):
            np.testing.assert_array_equal(case.image, gray(number))
            np.testing.assert_array_equal(case.mask, mask(number) > 0)
    assert len(state) >= 6 and len({case.key for case in state}) == len(state)
    assert (len({case.part for case in state}) > 1) == (name in ("parts", "paths-table"))


def test_what_is_wrong_is_seen(tmp_path, monkeypatch):
    """Each kind of fault of a reader that a verdict is to find."""
    SETS["two-folders"].make(tmp_path)
    state, before = read(tmp_path, {})
    place = Place(tmp_path, "picture", state, np.random.default_rng(0))
    first, *others = state
    assert verdict(Mutation("nothing", ("scan0",), same), place, {}, before) == "as before"
    for right in (
        others,
        [first, *state],
        [replace(first, image=first.image + 1), *others],
        [replace(first, mask=1 - first.mask), *others],
        [replace(first, part="test"), *others],
        [replace(first, spacing=(1.0, 2.0)), *others],
        [replace(first, group="another"), *others],
        [replace(first, image=first.image.astype(np.uint16)), *others],
    ):
        with pytest.raises(AssertionError):
            verdict(Mutation("a fault", ("scan0",), lambda state, right=right: right), place, {}, before)
    with pytest.raises(AssertionError, match="no finding names"):
        verdict(Mutation("silence", ("scan0",), same, told=True), place, {}, before)
    (tmp_path / "masks/scan0.png").write_bytes(b"")
    assert verdict(Mutation("empty", ("scan0",), None), place, {}, before) == "refused"
    with pytest.raises(AssertionError, match="names none of"):
        verdict(Mutation("empty", ("scan1",), None), place, {}, before)
    with pytest.raises(AssertionError, match="refused"):
        verdict(Mutation("empty", ("scan0",), same, refused=False), place, {}, before)

    def crash(*_: Any, **__: Any) -> None:
        raise ValueError("a traceback")

    monkeypatch.setattr(Cases, "open", crash)
    with pytest.raises(ValueError, match="a traceback"):
        verdict(Mutation("crash", ("scan0",), None), place, {}, before)
