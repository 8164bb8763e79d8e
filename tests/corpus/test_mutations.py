"""Valid data sets that something happens to: read as it should be, told, or refused by an error that names the file."""

from __future__ import annotations

import shutil
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations import Place, happens, read, verdict
from valid_sets import SETS

FEW, MANY = 5, 167


def run(name: str, count: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """How often each outcome came, and what went wrong."""
    chosen = SETS[name]
    (folder / "valid").mkdir()
    valid = chosen.make(folder / "valid")
    outcomes: Counter[str] = Counter()
    failures = []
    place_at = folder / "set"
    root = place_at / valid.relative_to(folder / "valid")
    shutil.copytree(folder / "valid", place_at)
    state, before = read(root, chosen.options)
    for number in range(count):
        shutil.rmtree(place_at)
        shutil.copytree(folder / "valid", place_at)
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
    slow = pytest.mark.slow("a hundred times as many; five of each set are in make test")
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
