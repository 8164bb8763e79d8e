"""Signals that ask a training to save and stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from pocketseg import signals

if TYPE_CHECKING:
    from pocketseg.training.loop import StopRequest

# What asks a training to save and stop: Ctrl-C, and what ends any command.
SIGNALS = (signals.INTERRUPT, *signals.ENDS)


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
        signal.signal(number, before[number])

    before = {number: signal.signal(number, ask) for number in signals.heard(*SIGNALS)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
