"""A DICOM node in a process of its own, an archive that it sends to, and senders."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from helpers.logs import port_of, read_log
from helpers.volume_files import write_series

MODEL = Path(__file__).parents[1] / "golden/0.1.0/w8a8.pseg"
SECONDS = 60
CT = "1.2.840.10008.5.1.4.1.1.2"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
VERIFICATION = "1.2.840.10008.1.1"


def needed() -> None:
    """Skip a module where the extra `dicom-node` is not installed."""
    try:
        import pynetdicom  # noqa: F401
    except ImportError as error:
        pytest.skip(f"missing tool: {error.name} (scripts/install installs it)", allow_module_level=True)


def series(folder: Path, name: str, slices: int = 3, **changes: Any) -> list[Path]:
    """Files of a small series of CT, which has something that the model finds."""
    generator = np.random.default_rng(len(name))
    rows, columns = np.indices((24, 28))
    pixels = [
        (generator.integers(0, 50, (24, 28)) + (np.hypot(rows - 11 - at, columns - 13) < 7) * 900).astype(np.int16)
        for at in range(slices)
    ]
    return sorted(write_series(folder / name, pixels, series=name, **changes).iterdir())


@dataclass
class Archive:
    """A node that takes segmentations.

    Attributes:
        got: every one that came, in order.
        status: that it answers with.
    """

    got: list[pydicom.Dataset] = field(default_factory=list)
    status: int = 0
    port: int = 0
    before: Callable[[], None] = lambda: None

    def uids(self) -> list[str]:
        return [str(each.SOPInstanceUID) for each in self.got]

    @property
    def count(self) -> int:
        """How many different ones."""
        return len(set(self.uids()))

    def wait(self, count: int, seconds: float = SECONDS) -> None:
        """Until so many different ones are there."""
        wait_until(lambda: self.count >= count, f"{count} segmentations", seconds)


def wait_until(true: Callable[[], Any], what: str, seconds: float = SECONDS) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"there is not in time: {what}"
        time.sleep(0.02)


@contextmanager
def archive(port: int = 0, tls: Any = None) -> Iterator[Archive]:
    from pynetdicom import AE, evt

    found = Archive()

    def store(event: Any) -> int:
        found.before()
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        if found.status == 0:
            found.got.append(dataset)
        return found.status

    entity = AE("ARCHIVE")
    entity.require_called_aet = True
    entity.add_supported_context(SEGMENTATION)
    entity.add_supported_context(VERIFICATION)
    handlers = [(evt.EVT_C_STORE, store)]
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers, ssl_context=tls)
    found.port = server.server_address[1]
    try:
        yield found
    finally:
        server.shutdown()


def associate(port: int, called: str = "NODE", calling: str = "SENDER", contexts: Any = None, tls: Any = None) -> Any:
    """An association with a node, which may have refused it."""
    from pynetdicom import AE

    entity = AE(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    for uid, *syntaxes in contexts or [(CT,), (VERIFICATION,)]:
        entity.add_requested_context(uid, syntaxes or None)
    return entity.associate("127.0.0.1", port, ae_title=called, tls_args=tls)


def send(port: int, files: Sequence[Path], **options: Any) -> list[int | None]:
    """Send files by one association; the statuses."""
    association = associate(port, **options)
    assert association.is_established
    try:
        return [association.send_c_store(pydicom.dcmread(file)).get("Status") for file in files]
    finally:
        if association.is_established:
            association.release()


class Node:
    """A process of `pocketseg listen` on a free port."""

    def __init__(self, process: subprocess.Popen[str], log: list[str]) -> None:
        self.process, self.log = process, log
        self.port = 0

    def logged(self, text: str) -> bool:
        return any(text in line for line in self.log)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(SECONDS)


@contextmanager
def listening(spool: Path, *arguments: str | Path, model: Path = MODEL, ready: bool = True) -> Iterator[Node]:
    """A node that runs for the length of the block; at its end it is asked to end."""
    command = [sys.executable, "-m", "pocketseg.cli.main", "listen", str(model), "--ae", "NODE", "--port", "0"]
    command += ["--spool", str(spool), "--min-free-mib", "1", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    log: list[str] = []
    found = Node(process, log)
    reader = threading.Thread(target=read_log, args=(process, log), daemon=True)
    try:
        if ready:
            found.port = port_of(process, log, SECONDS)
        reader.start()
        yield found
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if reader.is_alive():
            reader.join(5)
        assert process.stderr is not None
        process.stderr.close()
