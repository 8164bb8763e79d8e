"""Associations that come in: who may send what, within limits; an instance is on the disk before it is answered.

Handlers run in threads of pynetdicom and look into headers alone. Nothing that stands in an instance is logged.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from pocketseg.data.volumes.dicom import read_dataset
from pocketseg.errors import EnvironmentProblem, PocketsegError
from pocketseg.names import printable
from pocketseg.node.kinds import storage_classes, transfer_syntaxes
from pocketseg.node.settings import Settings
from pocketseg.node.spool import Spool, key_of

log = logging.getLogger("pocketseg.node")

# What C-STORE is answered with, of the standard: done, the disk is full, not what was announced, not readable.
SUCCESS, NO_ROOM, MISMATCH, UNREADABLE = 0x0000, 0xA700, 0xA900, 0xC000
# Bytes of a PDU: of those with images, as this node announces, and of any, such as a long list of what is offered.
MAX_DATA_PDU, MAX_PDU = 2**17, 2**18
# Bytes of a message that are held in memory: commands, and what belongs to others than C-STORE.
IN_MEMORY = 2**20
# Seconds for a connection to say what it wants, for one PDU to come, and between two of them.
TO_ASSOCIATE, FOR_A_PDU, BETWEEN = 15.0, 30.0, 60.0
# How often the disk is looked at while an instance comes, in bytes.
LOOK_AT_DISK = 2**24
# Without a quiet time: seconds after which a series is complete whose association broke, and nobody sent the rest.
AFTER_A_BREAK = 60.0
# Connections for each association that may be: some are being refused, or say nothing.
CONNECTIONS = 2


class Line:
    """What is read of one association, within limits; in the place of pynetdicom's own reading, which has none.

    Attributes:
        moved: when something last came.
        key: of the series whose instance came last.
    """

    def __init__(self, association: Any, settings: Settings, spool: Spool) -> None:
        self.association, self.settings, self.spool = association, settings, spool
        self.moved = time.monotonic()
        self.key = ""
        self._message = self._since_look = 0
        self._wrapped = association.dul.socket
        self._wrapped.socket.settimeout(FOR_A_PDU)  # also for what is sent, and for shaking hands
        self._wrapped.recv = self.read

    @property
    def ended(self) -> bool:
        """Whether its thread, which is started after this is made, has ended."""
        return self.association.ident is not None and not self.association.is_alive()

    @property
    def released(self) -> bool:
        return bool(self.association.is_released)

    def next_message(self) -> None:
        """A message is whole."""
        self._message = 0

    def read(self, count: int) -> bytearray:
        """So many bytes, or fewer where the connection ends.

        Raises:
            OSError: more than may be, or too slowly; the connection is closed then.
        """
        found = bytearray()
        until = time.monotonic() + FOR_A_PDU
        try:
            self._check(count)
            while len(found) < count:
                if self._wrapped.socket is None:
                    raise OSError(errno.ENOTCONN, "the connection was closed")
                piece = self._wrapped.socket.recv(min(count - len(found), 2**16))
                if not piece:
                    break
                found += piece
                if time.monotonic() > until:
                    raise OSError(errno.ETIMEDOUT, "a PDU comes too slowly")
        except OSError:
            self._wrapped.close()
            raise
        self.moved = time.monotonic()
        return found

    def _check(self, count: int) -> None:
        self._message += count
        if count > MAX_PDU:
            log.warning("an association was ended: a PDU of %s bytes", f"{count:,}")
            raise OSError(errno.EMSGSIZE, "a PDU is too long")
        on_disk = getattr(self.association.dimse.message, "_data_set_file", None) is not None
        if self._message > (self.settings.max_instance if on_disk else IN_MEMORY):
            what = (
                f"instance has more than {self.settings.max_instance:,} bytes (--max-mib)"
                if on_disk
                else "message is too long"
            )
            log.warning("an association was ended: its %s", what)
            raise OSError(errno.EMSGSIZE, "a message is too long")
        self._since_look += count
        if self._since_look > LOOK_AT_DISK:
            self._since_look = 0
            if self.spool.free() < self.settings.min_free // 2:
                log.error("an association was ended: the disk is full")
                raise OSError(errno.ENOSPC, "the disk is full")


@dataclass
class Incoming:
    """A series that still comes: when its last instance came, on which lines, and how many are being stored."""

    last: float
    lines: set[Line] = field(default_factory=set)
    busy: int = 0


class Arrivals:
    """The series that still come."""

    def __init__(self, settings: Settings, spool: Spool) -> None:
        self.settings, self.spool = settings, spool
        now = time.monotonic()
        self._series = {key: Incoming(now) for key in spool.receiving()}
        self._lock = threading.Lock()

    def store(self, line: Line, file: Path, sop_class: str, instance: str) -> int:
        """Store an instance that lies in a file; the status that it is answered with."""
        try:
            header = read_dataset(file, pixels=False)
            series = str(header.get("SeriesInstanceUID") or "")
            found = str(header.get("SOPClassUID") or ""), str(header.get("SOPInstanceUID") or "")
        except Exception as error:  # a value that is none raises when it is asked for
            log.warning("an instance was refused: its header cannot be read (%s)", type(error).__name__)
            return UNREADABLE
        if not series or found != (sop_class, instance):
            log.warning("an instance was refused: it is not the one that was announced, or names no series")
            return MISMATCH
        key = key_of(series)
        with self._lock:
            incoming = self._series.setdefault(key, Incoming(0))
            incoming.busy += 1
            incoming.lines.add(line)
        try:
            if self.spool.free() < self.settings.min_free:
                log.error("an instance was refused: less than %s bytes are free", f"{self.settings.min_free:,}")
                return NO_ROOM
            self.spool.store(key, key_of(instance), file)
        except (OSError, PocketsegError) as error:
            why = error.problems[0].what if isinstance(error, EnvironmentProblem) else type(error).__name__
            log.error("an instance could not be stored: it %s", why)
            return NO_ROOM
        finally:
            with self._lock:
                incoming.busy -= 1
                incoming.last = time.monotonic()
            line.key = key
        return SUCCESS

    def complete(self) -> list[Path]:
        """The series that are complete by now; they wait for their segmentation."""
        found = []
        with self._lock:
            for key in [key for key, each in self._series.items() if self._is_complete(key, each)]:
                moved = self.spool.complete(key)
                del self._series[key]
                found += [moved] if moved else []
        return found

    def _is_complete(self, key: str, incoming: Incoming) -> bool:
        if incoming.busy:
            return False
        now, quiet = time.monotonic(), self.settings.quiet
        if quiet:
            coming = [line.moved for line in incoming.lines if not line.ended and line.key == key]
            return now - max(incoming.last, *coming, 0) >= quiet
        if not all(line.ended for line in incoming.lines):
            return False
        whole = bool(incoming.lines) and all(line.released for line in incoming.lines)
        return whole or now - incoming.last >= AFTER_A_BREAK


class Receiver:
    """The node as those see it who send.

    Attributes:
        address: of the socket, once it listens.
    """

    def __init__(self, settings: Settings, spool: Spool, arrivals: Arrivals) -> None:
        """Listen.

        Raises:
            EnvironmentProblem: the address cannot be had.
            DataError: a file for TLS cannot be used.
        """
        self.settings, self.spool, self.arrivals = settings, spool, arrivals
        self._lines: dict[Any, Line] = {}
        self._lock = threading.Lock()
        net: Any = import_module("pynetdicom")
        entity = net.AE(settings.title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(settings.allow)
        entity.maximum_associations = settings.associations
        entity.maximum_pdu_size = MAX_DATA_PDU
        entity.acse_timeout, entity.network_timeout, entity.dimse_timeout = TO_ASSOCIATE, BETWEEN, BETWEEN
        entity.add_supported_context("1.2.840.10008.1.1")  # C-ECHO
        syntaxes = transfer_syntaxes()
        for uid in storage_classes():
            entity.add_supported_context(uid, syntaxes)
        events = net.evt
        handlers = [
            (events.EVT_CONN_OPEN, self._opened),
            (events.EVT_REJECTED, self._rejected),
            (events.EVT_DIMSE_RECV, self._received),
            (events.EVT_C_STORE, self._store),
        ]
        tls = settings.tls.server() if settings.tls else None
        address = settings.host, settings.port
        try:
            self._server = entity.make_server(
                address, evt_handlers=handlers, ssl_context=tls, server_class=_server_class(settings)
            )
        except (OSError, ValueError):
            what = "cannot be listened on: it is taken, or not of this machine"
            raise EnvironmentProblem(
                f"{settings.host}:{settings.port}", what, "choose another --port or --host"
            ) from None
        self.address: tuple[str, int] = self._server.server_address[:2]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), daemon=True)
        self._thread.start()

    def _opened(self, event: Any) -> None:
        line = Line(event.assoc, self.settings, self.spool)
        with self._lock:
            for known in [known for known, each in self._lines.items() if each.ended]:
                del self._lines[known]
            self._lines[event.assoc] = line

    def _rejected(self, event: Any) -> None:
        calling, called = (printable(str(each).strip()) for each in _titles(event.assoc))
        log.warning("an association of %s was refused, which called %s", calling, called)

    def _received(self, event: Any) -> None:
        self._lines[event.assoc].next_message()

    def _store(self, event: Any) -> int:
        request = event.request
        line = self._lines[event.assoc]
        return self.arrivals.store(
            line, event.dataset_path, str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
        )

    def stop(self) -> None:
        """Take no new associations."""
        self._server.stop_listening()

    def drain(self, until: float) -> None:
        """Let those that are there end until a time, and end them then."""
        while self._server.active_associations and time.monotonic() < until:
            time.sleep(0.05)
        for association in self._server.active_associations:
            association.abort()


def _titles(association: Any) -> tuple[Any, Any]:
    asked = association.requestor.primitive
    return asked.calling_ae_title, asked.called_ae_title


def _server_class(settings: Settings) -> Any:
    transport: Any = import_module("pynetdicom.transport")

    class Server(transport.ThreadedAssociationServer):  # type: ignore[misc]
        """pynetdicom's, with a bound for connections and nothing of them in the log."""

        daemon_threads = True
        request_queue_size = 64

        def verify_request(self, request: Any, client_address: Any) -> bool:
            return len(self.active_associations) < CONNECTIONS * settings.associations

        def handle_error(self, request: Any, client_address: Any) -> None:
            log.warning("a connection failed")

        def stop_listening(self) -> None:
            super(transport.AssociationServer, self).shutdown()
            self.server_close()

    return Server
