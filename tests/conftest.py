"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The machines of the project are shared and slow at times; a slow example is no bug.
settings.register_profile("pocketseg", deadline=None, print_blob=True)
settings.load_profile("pocketseg")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets; the test is skipped where there is none."""
    folder = Path(os.environ.get("POCKETSEG_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist (set POCKETSEG_DATA)")
    return folder
