"""SciPy, which only some metrics need: a base installation predicts, and counts overlaps, without it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pocketseg.errors import missing_package


def scipy_part(name: str) -> Any:
    """A module of SciPy, imported when it is first asked for.

    Raises:
        EnvironmentProblem: SciPy is not installed, or broken.
    """
    try:
        return import_module(f"scipy.{name}")
    except ImportError as error:
        raise missing_package("scipy", "report", error) from error
