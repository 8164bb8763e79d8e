"""Starting and ending the node: its threads, and the signals."""

from __future__ import annotations

import logging
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from pocketseg.errors import PocketsegError, missing_package
from pocketseg.files import try_folder
from pocketseg.node.receiving import BETWEEN, Arrivals, Receiver
from pocketseg.node.segmenting import Segmenter
from pocketseg.node.sending import Sender
from pocketseg.node.settings import Settings
from pocketseg.node.spool import WORK, Spool, images_of, shown
from pocketseg.signals import heard
from pocketseg.text import counted

log = logging.getLogger("pocketseg.node")

# Seconds between two looks for complete series; between two looks for what broken associations left; after a fault.
LOOK, TIDY, AFTER_A_FAULT = 0.2, 60.0, 10.0


def listen(settings: Settings) -> None:
    """Take series, segment and send them, until SIGTERM or SIGINT; then let associations end.

    What is not done by then is done after the next start, as after a kill.

    Raises:
        PocketsegError: the model cannot be loaded, the address not be had, or a folder not be written.
    """
    try:
        net: Any = import_module("pynetdicom")
    except Exception as error:
        raise missing_package("pynetdicom", "dicom-node", error) from error
    if settings.out is not None:
        try_folder(settings.out)
    spool = Spool(settings.spool)
    with spool.opened(), _silent(net, spool.place / WORK):
        _run(settings, spool)


def _run(settings: Settings, spool: Spool) -> None:
    stop = threading.Event()
    for number in heard("SIGTERM", "SIGINT", "SIGBREAK"):
        signal.signal(number, lambda *_: stop.set())
    sender = Sender(settings, spool)
    segmenter = Segmenter(settings, spool)
    log.info("model %s loaded", segmenter.digest[:12])
    try:
        arrivals = Arrivals(settings, spool)
        receiver = Receiver(settings, spool, arrivals)
        log.info("%s is listening on %s:%d", settings.title, *receiver.address)
        steps = {"receiving": _completer(arrivals, spool), "segmenting": segmenter.step, "sending": sender.step}
        loops = [_Loop(name, step, stop) for name, step in steps.items()]
        while not stop.wait(1):  # not for ever: Windows would not hear a signal
            pass
        receiver.stop()
        log.info("ending: no new associations")
        until = time.monotonic() + settings.grace
        receiver.drain(until)
        for loop in loops:
            loop.join(max(0.0, until - time.monotonic()))
    finally:
        stop.set()
        segmenter.end()
    log.info("ended")


def _completer(arrivals: Arrivals, spool: Spool) -> Callable[[], float | None]:
    """The step that looks for series that are complete, and from time to time tidies the spool."""
    tidied = time.monotonic()

    def step() -> float | None:
        nonlocal tidied
        for series in arrivals.complete():
            log.info("%s: complete (%s)", shown(series), counted(len(images_of(series)), "image"))
        if time.monotonic() > tidied + TIDY:
            tidied = time.monotonic()
            spool.tidy(2 * BETWEEN)
        return None

    return step


class _Loop(threading.Thread):
    """A step again and again, as often as there is something to do. A fault is said and waited out."""

    def __init__(self, name: str, step: Callable[[], float | None], stop: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.step, self.stop = step, stop
        self.start()

    def run(self) -> None:
        fault = ""
        while not self.stop.is_set():
            try:
                wait = self.step()
                fault = ""
            except PocketsegError as error:
                if str(error) != fault:
                    log.error("%s: %s", self.name, error)
                wait, fault = AFTER_A_FAULT, str(error)
            except Exception as error:
                place = error.__traceback__
                while place is not None and place.tb_next is not None:
                    place = place.tb_next
                where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else "?"
                log.error("%s failed: %s in %s", self.name, type(error).__name__, where)
                wait = AFTER_A_FAULT
            self.stop.wait(LOOK if wait is None else wait)


@contextmanager
def _silent(net: Any, work: Path) -> Iterator[None]:
    """Libraries that say nothing: their words cite what came. What comes is put into the spool, never into memory."""
    logger = logging.getLogger("pynetdicom")
    config: Any = import_module("pynetdicom._config")
    before = logger.level, config.LOG_HANDLER_LEVEL, config.STORE_RECV_CHUNKED_DATASET, tempfile.tempdir
    hook = threading.excepthook
    logger.setLevel(logging.CRITICAL + 1)
    config.LOG_HANDLER_LEVEL, config.STORE_RECV_CHUNKED_DATASET = "none", True
    tempfile.tempdir = str(work)
    threading.excepthook = lambda fault: log.error("a thread failed: %s", fault.exc_type.__name__)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.level, config.LOG_HANDLER_LEVEL, config.STORE_RECV_CHUNKED_DATASET, tempfile.tempdir = before
        threading.excepthook = hook
