"""The instruction sets whose kernels this machine can run: every one of them gives the same bytes."""

from __future__ import annotations

import re
from functools import cache

import pytest

from pocketseg.engine.session import Session
from pocketseg.errors import EnvironmentProblem


@cache
def offered() -> tuple[str, ...]:
    """Their names, as the library tells them where it is asked for one that it lacks."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(EnvironmentProblem) as told:
        patch.setenv("POCKETSEG_ISA", "abacus")
        Session(b"", "here")
    found = re.search(r"there is ([a-z0-9]+(?:, [a-z0-9]+)*)", str(told.value))
    assert found and found[1].split(", ")[-1] == "scalar"
    return tuple(found[1].split(", "))


def pytest_generate_tests(metafunc):
    if "isa" in metafunc.fixturenames:
        metafunc.parametrize("isa", offered(), indirect=True)


@pytest.fixture
def isa(request, monkeypatch):
    """The test runs once with each set of kernels."""
    monkeypatch.setenv("POCKETSEG_ISA", request.param)
    return request.param
