"""Work that processes share: every item is answered once, whatever ends a process."""

from __future__ import annotations

import os
import sys

import pytest

from pocketseg import shards
from pocketseg.errors import DataError, EnvironmentProblem

WORKER = """
import os, signal, sys
from pathlib import Path
from pocketseg import shards
from pocketseg.errors import DataError

def begin(setup):
    if setup.get("refuse"):
        raise DataError("model", "is none", "give one")
    if setup.get("die"):
        os._exit(7)
    def work(item):
        if item.get("print"):
            print("a library says something", flush=True)
        if item.get("full"):
            raise DataError("disk", "is full")
        tried = Path(setup["folder"], str(item["number"]))
        if item.get("kill") and (item["kill"] == "always" or not tried.exists()):
            tried.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if item.get("bug"):
            raise ZeroDivisionError("in the work")
        return {"double": 2 * item["number"]}
    return work

if __name__ == "__main__":
    shards.answer(begin)
"""


@pytest.fixture
def ask(tmp_path, monkeypatch):
    (tmp_path / "doubling.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))

    def answers(count, odd=None, jobs=2, **setup):
        items = [{"number": number, **(odd or {}).get(number, {})} for number in range(count)]
        found = list(shards.shared("doubling", {"folder": str(tmp_path), **setup}, count, items.__getitem__, jobs))
        assert sorted(number for number, _ in found) == list(range(count))
        return dict(found)

    return answers


def test_every_item_is_answered_once_whatever_dies(ask):
    found = ask(60, {5: {"kill": "once"}, 20: {"kill": "always"}, 30: {"bug": True}, 31: {"print": True}})
    assert found[20] == "killed by SIGKILL"
    assert found[30] == "ZeroDivisionError: in the work"
    assert isinstance(found[20], shards.Lost) and isinstance(found[30], shards.Lost)
    assert all(found[number] == {"double": 2 * number} for number in range(60) if number not in (20, 30))


def test_more_processes_than_items(ask):
    assert ask(1, jobs=3) == {0: {"double": 0}}
    assert ask(0) == {}


def test_what_a_process_says_of_its_set_up_ends_it_all(ask):
    with pytest.raises(DataError, match="model: is none → give one"):
        ask(3, refuse=True)
    with pytest.raises(EnvironmentProblem, match=r"ended before it had begun \(code 7\)"):
        ask(3, die=True)


def test_an_error_that_is_not_of_an_item_ends_it_all(ask):
    with pytest.raises(DataError, match="disk: is full"):
        ask(40, {11: {"full": True}})


def test_who_stops_asking_ends_the_processes(tmp_path, monkeypatch, ask):
    started = []
    monkeypatch.setattr(shards._Child, "__init__", _noting(shards._Child.__init__, started))
    found = shards.shared("doubling", {"folder": str(tmp_path)}, 500, lambda number: {"number": number}, 2)
    next(found)
    found.close()
    assert started
    assert all(child.process.poll() is not None for child in started)


def _noting(begin, started):
    def noted(child, *arguments):
        started.append(child)
        begin(child, *arguments)

    return noted
