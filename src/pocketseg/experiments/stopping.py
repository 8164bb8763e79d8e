"""Signals that ask a training to save and stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pocketseg.training.loop import StopRequest

# What asks a training to save and stop: Ctrl-C, a polite kill, a lost terminal, Slurm's warning.
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """The first of `SIGNALS` asks training to save and stop; a second one of its kind ends the process at once."""
    from pocketseg.training.loop import StopRequest

    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, _: FrameType | None) -> None:
        stop.signal_number = number
        signal.signal(number, before[signal.Signals(number)])

    known = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    # What is ignored (under nohup, in the background of a script) stays so.
    heard = [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
