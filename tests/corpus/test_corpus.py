"""Bad and odd inputs: every row of the corpus gives what it must, in the time and memory it may take."""

from __future__ import annotations

import multiprocessing

import pytest
from rows_layout import MANY
from run_row import load_rows, run_row

SECONDS, BYTES = 10.0, 512 * 2**20
# Making a hundred thousand files takes longer than listing them.
LIMITS = {"A17": (30.0, 2**30)}
ROWS = load_rows()


@pytest.fixture(scope="session")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["run_row", "pocketseg.cli.main", "pocketseg.flows.doctor", "nibabel", "pydicom"])
    return context


def marks(name: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.row(name), *([pytest.mark.slow("a hundred thousand files")] if name in LIMITS else [])]


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in ROWS])
def test_row(name, processes, record_property):
    record_property("corpus", name)
    seconds, most = LIMITS.get(name, (SECONDS, BYTES))
    here, there = processes.Pipe()
    child = processes.Process(target=run_row, args=(name, there))
    child.start()
    there.close()
    try:
        assert here.poll(120), f"{name}: no end after 120 s"
        done = here.recv()
    except EOFError:
        pytest.fail(f"{name}: the process died")
    finally:
        child.join(5)
        if child.is_alive():
            child.kill()
        here.close()
    assert not done["failures"], "\n".join(done["failures"])
    assert done["seconds"] < seconds
    assert done["bytes"] < most


def test_the_corpus_is_whole():
    assert MANY == 100_000
    count = {family: sum(name[0] == family for name in ROWS) for family in "ABCDJXP"}
    assert count == {"A": 26, "B": 31, "C": 33, "D": 22, "J": 13, "X": 19, "P": 5}
