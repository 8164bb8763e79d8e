import errno
import os
from pathlib import Path

import pytest

from pocketseg import files
from pocketseg.errors import EnvironmentProblem
from pocketseg.files import disk_problem, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", [b"\x00\xff", "grüße\n"])
def test_writes_what_it_is_given(tmp_path, content):
    path = tmp_path / "new" / "folder" / "a.txt"
    write_atomically(path, content)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode("utf-8"))
    assert names(path.parent) == ["a.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_replaces_an_old_file_whole(tmp_path):
    path = tmp_path / "a"
    write_atomically(path, b"a long old content")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("name", ["x" * 255, "病" * 85], ids=["ascii", "three-byte"])
def test_the_longest_names_can_be_written(tmp_path, name):
    write_atomically(tmp_path / name, b"1")
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, step):
    path = tmp_path / "a"
    write_atomically(path, b"old")

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
    with pytest.raises(EnvironmentProblem) as caught:
        write_atomically(path, b"123456")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["a"]
    assert (
        str(caught.value)
        == f"{path}: cannot be written (No space left on device); needed are 6 bytes → free some space, then resume"
    )


def test_a_folder_in_the_place_of_the_file_is_told(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(EnvironmentProblem, match="a: cannot be written"):
        write_atomically(tmp_path / "a", b"")
    assert names(tmp_path) == ["a"]


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(EnvironmentProblem, match="check the disk and the path"):
        write_atomically(tmp_path / "a" / "b", b"")


def test_an_interruption_leaves_no_litter(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", b"1")
    assert names(tmp_path) == []


def test_permission_is_told_apart():
    problem = disk_problem(Path("x"), PermissionError(errno.EACCES, "Permission denied"))
    assert str(problem) == "x: cannot be written (Permission denied) → choose a folder that this user may write to"
