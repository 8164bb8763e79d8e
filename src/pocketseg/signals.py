"""What ends processes: signals that are heard here, children that are asked to stop, and what their exit codes say.

Windows has no signals between processes. A child there gets a group of its own, to which Ctrl-Break can be sent.
"""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

POSIX = hasattr(signal, "SIGKILL")
# What ends a command from outside: a polite kill, a lost terminal, Slurm's warning; Ctrl-Break on Windows.
ENDS = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGBREAK")
INTERRUPT = "SIGINT"
# Exit codes from here on are errors of the system, such as an access to memory that is not there.
_CRASHED = 0xC000_0000


def heard(*names: str) -> list[int]:
    """Those of some signals that this system has; what is ignored (under nohup, in the background) stays so."""
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]


def own_group() -> dict[str, Any]:
    """Arguments of `subprocess.Popen`, with which what the terminal sends does not reach a child."""
    if POSIX:
        return {"start_new_session": True}
    return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined]


def ask_to_stop(child: subprocess.Popen[bytes]) -> None:
    """Ask a child, which has a group of its own, to save and stop."""
    child.send_signal(signal.SIGINT if POSIX else signal.CTRL_BREAK_EVENT)  # type: ignore[attr-defined]


def end_this_process() -> None:
    """What SIGTERM does here; from any thread."""
    if POSIX:
        os.kill(os.getpid(), signal.SIGTERM)  # which the main thread hears at once, whatever it waits for
    else:
        signal.raise_signal(signal.SIGTERM)  # os.kill would end it without a word


def killer(code: int) -> str:
    """What ended a child that neither finished nor failed by itself; empty for other exit codes.

    Example:
        >>> killer(-9), killer(3), killer(0xC0000005)
        ('SIGKILL', '', 'error 0xC0000005')
    """
    if code < 0:
        named = {each.value: each.name for each in signal.Signals}  # most of those in real time have no name
        return named.get(-code, f"signal {-code}")
    return f"error 0x{code:08X}" if code >= _CRASHED else ""
