"""Makes a Python on Linux lack what Python on Windows lacks, and refuse what Windows refuses.

Whoever has this folder on PYTHONPATH gets it, child processes too. It is no Windows: `sys.platform`, slashes and the
rules of names stay. What stands here:

- `fcntl`, `resource`, `termios`, `pwd` and `grp` are not there for pocketseg, nor are flags and functions of `os`
  and signals that Windows does not have; the libraries, which know that this is Linux, keep them. Ctrl-Break is there,
  as the signal 1.
- A file that this process has open or mapped is neither replaced, renamed nor removed, nor is a folder with such.
- Folders cannot be opened, and what is open for reading only cannot be made durable.
- A text file that pocketseg opens without naming its encoding is an error: that of Windows is another in each country.
- `msvcrt` and LockFileEx of kernel32 lock bytes, as far as our own use of them goes.
"""

# It stands below pathlib.
# ruff: noqa: PTH100, PTH112, PTH115, PTH118, PTH119, PTH120, PTH208
from __future__ import annotations

import builtins
import ctypes
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import types
import warnings

HIDDEN = {"fcntl", "resource", "termios", "pwd", "grp"}
NO_FLAGS = ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_DIRECTORY", "O_SYNC")
NO_FUNCTIONS = (
    "pread", "pwrite", "fchmod", "fchown", "chown", "mkfifo", "killpg", "getpgid", "setsid", "setpgid", "getuid",
    "geteuid", "getgid", "statvfs", "fstatvfs", "uname", "sysconf", "nice", "sched_getaffinity", "register_at_fork",
)  # fmt: skip
NO_SIGNALS = (
    "SIGKILL",
    "SIGHUP",
    "SIGUSR1",
    "SIGUSR2",
    "SIGALRM",
    "SIGPIPE",
    "SIGQUIT",
    "SIGCHLD",
    "SIGSTOP",
    "SIGCONT",
)
CTRL_BREAK = int(signal.SIGHUP)
NEW_GROUP = 0x200


def opened() -> set[str]:
    """Files that this process has open or mapped."""
    found = set()
    for entry in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{entry}"))
        except OSError:
            continue
    with _open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        found |= {line.split(maxsplit=5)[5].rstrip("\n") for line in maps if line.count("/")}
    return found


def refuse_open(*paths: object) -> None:
    """What Windows says of a file that is in use."""
    known = opened()
    for path in paths:
        if isinstance(path, int):
            continue
        real = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(path))), os.path.basename(path))
        if any(each == real or each.startswith(f"{real}/") for each in known):
            raise PermissionError(errno.EACCES, "The process cannot access the file: it is being used", os.fspath(path))


def guarded(function, count: int):
    def called(*args, **options):
        if sys._getframe(1).f_globals["__name__"] != "tempfile":  # which has a way of its own on Windows
            refuse_open(*args[:count])
        return function(*args, **options)

    return called


_open, _os_open, _fsync, _import = builtins.open, os.open, os.fsync, builtins.__import__


def no_folders(path, flags, *more, **options):
    if not isinstance(path, int) and os.path.isdir(path):
        raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
    return _os_open(path, flags, *more, **options)


def fsync(handle):
    number = handle if isinstance(handle, int) else handle.fileno()
    if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")
    _fsync(number)


class Without(types.ModuleType):
    """A module as Windows has it."""

    def __init__(self, whole, lacks, **has):
        super().__init__(whole.__name__)
        self.__dict__.update({name: value for name, value in vars(whole).items() if name not in lacks}, **has)


def hidden(name, globals=None, locals=None, fromlist=(), level=0):
    package = str((globals or {}).get("__package__") or (globals or {}).get("__name__"))
    if package.split(".")[0] == "pocketseg":
        if name in HIDDEN:
            raise ImportError(f"No module named {name!r}", name=name)
        if name in OURS:
            return OURS[name]
    return _import(name, globals, locals, fromlist, level)


class Kernel32:
    """LockFileEx by locks of open files of Linux (OFD), which are of a byte, shared or not, and of the handle."""

    class Function:
        def __init__(self, do):
            self.do = do

        def __call__(self, *args):
            return self.do(*args)

    def __init__(self, name, use_last_error):
        assert name == "kernel32" and use_last_error
        self.LockFileEx, self.UnlockFileEx = self.Function(lock_file_ex), self.Function(unlock_file_ex)


failure = 0


def _lock(handle, kind, wait, place):
    import struct

    at = place.contents
    whole = struct.pack("hhqqi4x", kind, os.SEEK_SET, (at.offset_high << 32) + at.offset, 1, 0)
    fcntl.fcntl(handle, 38 if wait else 37, whole)  # F_OFD_SETLKW, F_OFD_SETLK


def lock_file_ex(handle, flags, reserved, low, high, place):
    global failure
    assert (reserved, low, high) == (0, 1, 0) and flags & ~3 == 0
    try:
        _lock(handle, fcntl.F_WRLCK if flags & 2 else fcntl.F_RDLCK, not flags & 1, place)
    except BlockingIOError:
        failure = 33
        return 0
    return 1


def unlock_file_ex(handle, reserved, low, high, place):
    assert (reserved, low, high) == (0, 1, 0)
    _lock(handle, fcntl.F_UNLCK, False, place)
    return 1


class Popen(subprocess.Popen):
    """A new group is asked for as Windows is, and a signal to it is Ctrl-Break."""

    def __init__(self, *args, creationflags=0, **options):
        assert not options.get("start_new_session") and not options.get("preexec_fn")
        super().__init__(*args, start_new_session=bool(creationflags & NEW_GROUP), **options)
        self.grouped = bool(creationflags & NEW_GROUP)

    def send_signal(self, number):
        if number == CTRL_BREAK and not self.grouped:
            raise AssertionError("Ctrl-Break goes to groups")
        if number not in (CTRL_BREAK, signal.SIGTERM):
            raise ValueError(f"Unsupported signal: {number}")
        super().send_signal(number)

    def kill(self):
        os_kill(self.pid, 9)


os_kill = os.kill


def kill(process, number):
    assert number != signal.SIGTERM, "os.kill ends a process of Windows at once"
    os_kill(process, number)


for function, paths in (("replace", 2), ("rename", 2), ("unlink", 1), ("remove", 1), ("rmdir", 1)):
    setattr(os, function, guarded(getattr(os, function), paths))
shutil._use_fd_functions = False
shutil.rmtree.avoids_symlink_attacks = False
os.open, os.fsync, os.kill = no_folders, fsync, kill
OURS = {
    "os": Without(os, {*NO_FLAGS, *NO_FUNCTIONS}),
    "signal": Without(signal, NO_SIGNALS, SIGBREAK=CTRL_BREAK, CTRL_BREAK_EVENT=CTRL_BREAK),
}
subprocess.CREATE_NEW_PROCESS_GROUP, subprocess.Popen = NEW_GROUP, Popen
sys.modules["msvcrt"] = types.ModuleType("msvcrt")
sys.modules["msvcrt"].get_osfhandle = lambda handle: handle
ctypes.WinDLL, ctypes.get_last_error = Kernel32, lambda: failure
builtins.__import__ = hidden
warnings.filterwarnings("ignore", category=EncodingWarning)
warnings.filterwarnings("error", category=EncodingWarning, module=r"pocketseg\.")
