"""Locks of the operating system on open files: shared or exclusive, and gone with the process that holds them."""

from __future__ import annotations

import errno
import os
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    POSIX = False
else:
    POSIX = True

# Of LockFileEx: its flags, and what GetLastError says where another process holds the lock.
_AT_ONCE, _EXCLUSIVE, _HELD = 1, 2, 33
# Windows keeps others from reading what is locked, so a byte is locked that no file has.
_FAR = 0x7FFF_FFFF


def lock(handle: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Whether an open file is locked now; False where another process holds it, never where this waits for it.

    Args:
        handle: of the file, as `os.open` gives it; on Windows it must be no folder.
        shared: with others who share it.
        wait: until the lock is free.

    Raises:
        OSError: the disk has no locks.
    """
    return (_flock if POSIX else _lock_file_ex)(handle, shared, wait)


def unlock(handle: int) -> None:
    """Close a file, and with it leave its lock."""
    if not POSIX:  # which takes its time with locks of what was closed
        kernel, place = _kernel32()
        kernel.UnlockFileEx(_system_handle(handle), 0, 1, 0, place)
    os.close(handle)


def _flock(handle: int, shared: bool, wait: bool) -> bool:
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _lock_file_ex(handle: int, shared: bool, wait: bool) -> bool:
    import ctypes

    kernel, place = _kernel32()
    flags = (0 if shared else _EXCLUSIVE) | (0 if wait else _AT_ONCE)
    if kernel.LockFileEx(_system_handle(handle), flags, 0, 1, 0, place):
        return True
    code: int = ctypes.get_last_error()  # type: ignore[attr-defined]
    if code == _HELD:
        return False
    raise OSError(errno.ENOLCK, f"LockFileEx fails with error {code}")


def _kernel32() -> tuple[Any, Any]:
    """The library of Windows, and the byte to lock."""
    import ctypes

    class Overlapped(ctypes.Structure):
        _fields_ = (
            ("internal", ctypes.c_void_p),
            ("internal_high", ctypes.c_void_p),
            ("offset", ctypes.c_uint32),
            ("offset_high", ctypes.c_uint32),
            ("event", ctypes.c_void_p),
        )

    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    place, number = ctypes.POINTER(Overlapped), ctypes.c_uint32
    kernel.LockFileEx.argtypes = [ctypes.c_void_p, *[number] * 4, place]
    kernel.UnlockFileEx.argtypes = [ctypes.c_void_p, *[number] * 3, place]
    return kernel, ctypes.pointer(Overlapped(offset_high=_FAR))


def _system_handle(handle: int) -> int:
    import msvcrt

    number: int = msvcrt.get_osfhandle(handle)  # type: ignore[attr-defined]
    return number
