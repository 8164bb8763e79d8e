"""Locks, parts and renames, here and in a Python that lacks what Windows lacks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path, PureWindowsPath

import pytest

from helpers.windows import popen_as_windows, said_as_windows
from pocketseg.files import HELD, PART, by_parts, write_atomically

LOCKED = """
import sys
from pathlib import Path
from pocketseg.files import locked
from pocketseg.locks import POSIX
shared, what = sys.argv[2] == "shared", sys.argv[3]
assert POSIX == (sys.platform != "win32" and "msvcrt" not in sys.modules)
try:
    with locked(Path(sys.argv[1]), wait=what == "wait", shared=shared):
        print("mine", flush=True)
        if what == "hold":
            sys.stdin.read()
except BlockingIOError as error:
    print("held by", error.strerror)
"""
WRITTEN = """
import os, sys
from pathlib import Path
from pocketseg.files import whole_file, whole_folder
with (whole_file if sys.argv[2] == "file" else whole_folder)(Path(sys.argv[1]) / "a") as part:
    print(part.name, flush=True)
    if sys.argv[3] == "die":
        os._exit(9)
    sys.stdin.read(1)
"""
WRITE = (
    "import sys; from pathlib import Path; from pocketseg.files import write_atomically as w; w(Path(sys.argv[1]), b'')"
)


def popen_here(program: str, *arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture(params=[popen_here, popen_as_windows], ids=["here", "as Windows"])
def popen(request):
    return request.param


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.whole
@pytest.mark.parametrize(
    ("first", "second", "both"), [("shared", "shared", True), ("shared", "alone", False), ("alone", "shared", False)]
)
def test_a_lock_is_shared_or_alone_and_names_its_holder(popen, tmp_path, first, second, both):
    path = tmp_path / "new/.lock"
    with popen(LOCKED, path, first, "hold") as holder:
        assert holder.stdout.readline() == "mine\n"
        with popen(LOCKED, path, second, "try") as other:
            said = other.communicate(timeout=60)[0]
        assert said == "mine\n" if both else said.startswith(f"held by process {holder.pid} on ")
        holder.communicate("")
    with popen(LOCKED, path, "alone", "try") as last:
        assert last.communicate(timeout=60)[0] == "mine\n"


def test_a_lock_is_waited_for_and_goes_with_the_process(popen, tmp_path):
    path = tmp_path / ".lock"
    with popen(LOCKED, path, "alone", "hold") as holder:
        assert holder.stdout.readline() == "mine\n"
        with popen(LOCKED, path, "alone", "wait") as waiting:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(0.5)
            holder.kill()
            assert waiting.communicate(timeout=60)[0] == "mine\n"


@pytest.mark.whole
@pytest.mark.row("S24")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_parts_of_a_living_process_stay_and_of_a_killed_one_go(tmp_path, kind):
    """As `test_files.py` has it for POSIX."""
    with popen_as_windows(WRITTEN, tmp_path, kind, "die") as killed:
        dead = killed.stdout.readline().strip()
    assert names(tmp_path) == sorted([dead, dead.removesuffix(PART) + HELD])
    with popen_as_windows(WRITTEN, tmp_path, kind, "wait") as living:
        held = living.stdout.readline().strip()
        ours = [held, held.removesuffix(PART) + HELD]
        assert names(tmp_path) == sorted(ours)
        said_as_windows(WRITE, tmp_path / "b")
        assert names(tmp_path) == sorted([*ours, "b"])
        living.communicate("x", timeout=60)
    assert names(tmp_path) == ["a", "b"]


REPLACED = """
import sys, threading, time
from pathlib import Path
from pocketseg import files
from pocketseg.errors import EnvironmentProblem
path = Path(sys.argv[1])
path.write_bytes(b"old")
file, began = path.open("rb"), time.monotonic()
if sys.argv[2] == "closes":
    threading.Timer(0.3, file.close).start()
else:
    files.SECONDS_IN_USE = 0.1
try:
    files.write_atomically(path, b"new")
    print(path.read_bytes().decode(), time.monotonic() - began > 0.2)
except EnvironmentProblem as error:
    print(path.read_bytes().decode(), ascii(str(error)).removeprefix("'" + str(path)))
file.close()
files.remove(path)
"""


def test_what_somebody_has_open_is_replaced_when_it_is_closed(tmp_path):
    assert said_as_windows(REPLACED, tmp_path / "a", "closes") == "new True\n"
    assert names(tmp_path) == []


def test_what_stays_open_is_reported_and_stays_as_it_was(tmp_path):
    said = said_as_windows(REPLACED, tmp_path / "a", "stays")
    assert said.startswith("old : cannot be written (The process cannot access the file")
    assert "close what has it open" in said
    assert names(tmp_path) == []


def test_the_order_of_paths_is_that_of_linux():
    given = ["b/c", "B/d", "a.b/c", "a/b", "Z"]
    ours = [path.as_posix() for path in by_parts(map(PureWindowsPath, given))]
    assert ours == [path.as_posix() for path in by_parts(map(Path, given))] == ["B/d", "Z", "a/b", "a.b/c", "b/c"]


def test_nothing_is_left_beside_what_is_written(tmp_path):
    said_as_windows(WRITE, tmp_path / "new/a")
    write_atomically(tmp_path / "new/b", b"")
    assert names(tmp_path / "new") == ["a", "b"]
