import errno
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pocketseg import files
from pocketseg.errors import DataError, EnvironmentProblem
from pocketseg.files import (
    PART,
    disk_problem,
    inside,
    locked,
    open_regular,
    read_file,
    try_output,
    whole_file,
    whole_folder,
    write_atomically,
)
from pocketseg.runs.folder import RunFolder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", [b"\x00\xff", "grüße\n"])
def test_writes_what_it_is_given(tmp_path, content):
    path = tmp_path / "new" / "folder" / "a.txt"
    write_atomically(path, content)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode("utf-8"))
    assert names(path.parent) == ["a.txt"]


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
    said = re.sub(r"disk [0-9,]+", "disk N", str(caught.value).removeprefix(str(path)))
    assert said == (
        ": cannot be written (No space left on device); needed are 6 bytes, free on the disk N "
        "→ free some space, then resume"
    )


def test_a_folder_in_the_place_of_the_file_is_reported(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(EnvironmentProblem, match="a: cannot be written"):
        write_atomically(tmp_path / "a", b"")
    assert names(tmp_path) == ["a"]


def test_a_file_in_the_place_of_the_folder_is_reported(tmp_path):
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


def test_permission_is_distinguished():
    problem = disk_problem(Path("x"), PermissionError(errno.EACCES, "Permission denied"))
    assert str(problem) == "x: cannot be written (Permission denied) → choose a folder that this user may write to"


@pytest.fixture(params=[0o022, 0o077, 0o002, 0o000])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.row("S24")
def test_the_mask_of_the_user_holds_for_files_and_folders(tmp_path, umask):
    write_atomically(tmp_path / "new/a", b"")
    with whole_folder(tmp_path / "out") as part:
        write_atomically(part / "b", b"")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {"new": 0o777 & ~umask, "out": 0o777 & ~umask, "a": 0o666 & ~umask, "b": 0o666 & ~umask}


def test_a_name_that_is_no_text_keeps_its_bytes(tmp_path):
    write_atomically(tmp_path / "a", "bad\udcff0")
    assert (tmp_path / "a").read_bytes() == b"bad\xff0"


def test_a_link_is_replaced_and_not_written_through(tmp_path):
    (tmp_path / "original").write_text("kept")
    (tmp_path / "out").symlink_to("original")
    write_atomically(tmp_path / "out", b"new")
    assert (tmp_path / "original").read_text() == "kept" and not (tmp_path / "out").is_symlink()


KILLED = """
import os, sys
from pathlib import Path
from pocketseg.files import whole_file, whole_folder
with (whole_file if sys.argv[2] == "file" else whole_folder)(Path(sys.argv[1]) / "a") as part:
    print(part.name, flush=True)
    sys.stdin.read(1) if sys.argv[3] == "wait" else os._exit(9)
"""


@pytest.mark.row("S24")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path, kind):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), kind, "die"], stdout=subprocess.PIPE)
    assert len(names(tmp_path)) == 1 and names(tmp_path)[0].endswith(PART)
    (tmp_path / ".mine.part").write_text("of somebody else")
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path), kind, "wait"], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as living:
        held = living.stdout.readline().decode().strip()
        assert names(tmp_path) == sorted([held, ".mine.part"])
        write_atomically(tmp_path / "b", b"")
        assert names(tmp_path) == sorted([held, ".mine.part", "b"])
        living.communicate(b"x")
    assert names(tmp_path) == [".mine.part", "a", "b"]


@pytest.mark.row("F04")
def test_a_file_is_durable_before_its_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle):
        done.append(("sync", Path(f"/proc/self/fd/{handle}").readlink().name))
        fsync(handle)

    def replaced(source, target):
        done.append(("name", target.name))
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    write_atomically(tmp_path / "new/a", b"1")
    part = done[1][1]
    assert part.endswith(PART)
    assert done == [("sync", tmp_path.name), ("sync", part), ("name", "a"), ("sync", "new")]


ESCAPES = ["../x", "/etc/x", "a/../../x", "a/..", "link/x", "loop/x", "nul\0", Path("/"), Path("..")]


@pytest.mark.row("S04")
@pytest.mark.parametrize("name", ESCAPES, ids=str)
def test_nothing_is_named_outside_of_its_folder(tmp_path, name):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    (folder / "loop").symlink_to("/")
    with pytest.raises(DataError, match="would be written outside of"):
        inside(folder, name)


def test_what_lies_inside_is_named_as_it_was_given(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    assert inside(tmp_path / "out", "a", "b..c/.d") == tmp_path / "out/a/b..c/.d"


@pytest.mark.row("A14")
def test_only_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero", "."):
        with pytest.raises(OSError):
            open_regular(tmp_path / name)
    (tmp_path / "a").write_bytes(b"12345")
    assert read_file(tmp_path / "a", 5) == b"12345"
    with pytest.raises(OSError, match="has 5 bytes, more than 4"):
        read_file(tmp_path / "a", 4)


def test_an_interrupted_block_leaves_the_old_file(tmp_path):
    write_atomically(tmp_path / "a", b"old")
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "a") as part:
        part.write_bytes(b"half")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"old"


def test_links_that_go_round_are_no_crash(tmp_path):
    """`Path.resolve` raises RuntimeError for them, which nobody expects; so `resolved` is used, everywhere."""
    (tmp_path / "loop").symlink_to("loop")
    assert files.resolved(tmp_path / "loop/a") == files.resolved(tmp_path) / "loop/a"
    source = Path(files.__file__).parent
    assert not [path.name for path in source.rglob("*.py") if ".resolve()" in path.read_text(encoding="utf-8")]


@pytest.mark.row("S04")
@pytest.mark.parametrize("kind", ["link", "dangling", "pipe"])
@pytest.mark.parametrize("writes", [lambda path: locked(path), lambda path: RunFolder(path.parent).logged()])
def test_locks_and_logs_are_not_written_into_another_file(kind, writes, tmp_path):
    """Run folders come from others too."""
    mine, path = tmp_path / "mine", tmp_path / "run/log.txt"
    path.parent.mkdir()
    mine.write_text("mine")
    match kind:
        case "link":
            path.symlink_to(mine)
        case "dangling":
            path.symlink_to(tmp_path / "new")
        case _:
            os.mkfifo(path)
    with pytest.raises(EnvironmentProblem, match="cannot be written"), writes(path):
        logging.getLogger("pocketseg").info("line")
    assert mine.read_text() == "mine"
    assert not (tmp_path / "new").exists()


@pytest.mark.row("S24")
def test_a_pipe_that_is_called_as_a_part_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / f".a{PART}")
    write_atomically(tmp_path / "b", b"x")
    assert (tmp_path / "b").read_bytes() == b"x"


@pytest.mark.row("P16")
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_file_is_not_replaced(tmp_path, linked):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    target = tmp_path / "link" if linked else pipe
    if linked:
        target.symlink_to(pipe)
    for write in (try_output, lambda path: write_atomically(path, b"x")):
        with pytest.raises(DataError, match="is a device, a pipe or a socket"):
            write(target)
    assert pipe.is_fifo() and {each.name for each in tmp_path.iterdir()} == {pipe.name, target.name}


def test_trying_an_output_leaves_nothing(tmp_path):
    """A command that is refused after it leaves no folder that the next would find in its way."""
    try_output(tmp_path / "new/deep/a.png")
    assert names(tmp_path) == []
    (tmp_path / "there").mkdir()
    try_output(tmp_path / "there/a.png")
    assert names(tmp_path) == ["there"]


def test_a_signal_while_a_part_is_removed_leaves_none(tmp_path, monkeypatch):
    unlink, calls = Path.unlink, []

    def interrupted(path, *more, **options):
        calls.append(path)
        if len(calls) == 1:
            raise SystemExit(143)
        unlink(path, *more, **options)

    monkeypatch.setattr(Path, "unlink", interrupted)
    with pytest.raises(SystemExit):
        try_output(tmp_path / "a")
    assert names(tmp_path) == []


def test_a_line_behind_one_that_was_cut_short_is_whole(tmp_path):
    record = tmp_path / "record.jsonl"
    files.append_line(record, "first")
    record.write_bytes(record.read_bytes() + b"cut sh")
    files.append_line(record, "second")
    files.append_line(record, "third")
    assert record.read_bytes() == b"first\ncut sh\nsecond\nthird\n"
