"""Which tests run: all of them, or a sample where `--sample N` asks for one, as `make test` does.

The rule. A test function with its parameters is a family; those of each set of kernels (`isa`) are one of their own. Of
a family with at most N cases all run, of a larger one the N whose ids have the lowest SHA-256. So every machine takes
the same cases, and a new case pushes out one at most. An id holds the name of its function: functions with the same
parameters take different ones, and nearly every net, scheme and layout is met somewhere. Where tests start
processes, compile, train or export (`DEAR`) N is 1.

Two marks make exceptions. Families marked `whole` run whole: their cases are different contracts, not values of one.
What is marked `slow` has a reason and is left out by `-m "not slow"`; a cheaper test of its kind is in.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict

import pytest

Family = tuple[str, str]
DEAR = (
    "tests/contract/test_quantized_onnx.py", "tests/docs/", "tests/e2e/", "tests/fuzz/", "tests/native/",
    "tests/parity/test_keras.py",
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sample", type=int, metavar="N", help="run N cases of each parametrized test, not all")


def pytest_itemcollected(item: pytest.Item) -> None:
    slow = item.get_closest_marker("slow")
    if slow and not slow.args:
        raise pytest.UsageError(f"{item.nodeid}: `slow` has no reason")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Behind `-m` and `-k`, so that what they leave out is not part of a family."""
    most = config.getoption("sample")
    if most is None:
        return
    families: dict[Family, list[str]] = defaultdict(list)
    for item in items:
        families[family(item)].append(item.nodeid)
    kept = {each for cases in families.values() for each in sample(cases, most)}
    runs = [item.nodeid in kept or item.get_closest_marker("whole") is not None for item in items]
    config.hook.pytest_deselected(items=[item for item, run in zip(items, runs, strict=True) if not run])
    items[:] = [item for item, run in zip(items, runs, strict=True) if run]


def family(item: pytest.Item) -> Family:
    """The function, and the set of kernels where it has one."""
    callspec = getattr(item, "callspec", None)
    return item.nodeid.partition("[")[0], str(callspec.params.get("isa", "")) if callspec else ""


def sample(ids: list[str], most: int) -> list[str]:
    """Those that run, of the ids of a family."""
    most = 1 if ids[0].startswith(DEAR) else most
    return sorted(ids, key=lambda name: hashlib.sha256(name.encode()).digest())[:most]
