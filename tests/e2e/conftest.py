"""A small phantom and a small trained run, made once for each test process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pocketseg
from helpers.commands import TRAINED


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """A model that is loaded with some threads leaves torch with them, and sums of another number differ in a bit."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    yield
    if before:
        sys.modules["torch"].set_num_threads(before)


@pytest.fixture(scope="session")
def phantom_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pocketseg.phantom(tmp_path_factory.mktemp("phantom") / "data", cases=40, size=48, seed=3)


@pytest.fixture(scope="session")
def trained_run(phantom_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "small"
    pocketseg.train("demo", phantom_data, out, overrides=TRAINED, device="cpu", report=False)
    return out


@pytest.fixture(scope="session")
def exported(trained_run: Path) -> Path:
    return pocketseg.export(trained_run).file
