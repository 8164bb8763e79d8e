"""Segmentations that go out: to another node, and into a folder."""

from __future__ import annotations

import logging
import ssl
from importlib import import_module
from pathlib import Path
from typing import Any

from pocketseg.data.volumes.dicom import header_text
from pocketseg.errors import Problem
from pocketseg.files import inside, read_file, write_atomically
from pocketseg.node.settings import Peer, Settings
from pocketseg.node.spool import Spool, shown

log = logging.getLogger("pocketseg.node")

# Statuses of C-STORE: warnings, with which an instance is stored; a full disk, which may be over later.
WARNINGS, NO_ROOM = range(0xB000, 0xC000), range(0xA700, 0xA800)
# Seconds between tries, each twice as long as the one before.
FIRST, LONGEST = 1.0, 300.0
MAX_SEGMENTATION = 2**32
SECONDS = 60


class Unsent(Exception):  # noqa: N818
    """The other node cannot be reached, or has no room: the words say what, and it is tried again."""


class Refused(Exception):  # noqa: N818
    """The other node does not want this segmentation."""


class Sender:
    """Sends what is made, oldest first, until the other side has it."""

    def __init__(self, settings: Settings, spool: Spool) -> None:
        """
        Raises:
            DataError: a file for TLS cannot be used.
        """
        self.settings, self.spool = settings, spool
        self._tls = settings.tls.client() if settings.tls and settings.to_tls else None
        self._wait = 0.0

    def step(self) -> float | None:
        """Send what there is of one series. Seconds until there may be more to do; None where nothing waits."""
        for series in self.spool.sending():
            try:
                self._send(series)
            except Unsent as error:
                if not self._wait:
                    log.warning("%s: cannot be sent: %s; it is tried again", shown(series), error)
                self._wait = min(max(FIRST, 2 * self._wait), LONGEST)
                return self._wait
            except Refused as error:
                place = self.spool.fail(series, [Problem(shown(series), f"was refused: {error}", "ask the other node")])
                log.error("%s: the segmentation was refused: %s; moved to %s", shown(series), error, place)
                return 0
            self._wait = 0.0
            place_kept = self.spool.finish(series, keep=self.settings.keep)
            kept = f", moved to {place_kept}" if place_kept else ""
            log.info("%s: sent%s", shown(series), kept)
            return 0
        return None

    def _send(self, series: Path) -> None:
        files = self.spool.unsent(series)
        if self.settings.out is not None:
            for file in files:
                uid = header_text(file, "SOPInstanceUID")
                write_atomically(inside(self.settings.out, f"{uid}.dcm"), read_file(file, MAX_SEGMENTATION))
        if self.settings.to is None:
            for file in files:
                self.spool.sent(file)
        elif files:
            self._send_all(files, self.settings.to)

    def _send_all(self, files: list[Path], peer: Peer) -> None:
        """All of a series by one association.

        Raises:
            Unsent, Refused: of the first that the other side does not have.
        """
        net: Any = import_module("pynetdicom")
        uid: Any = import_module("pydicom.uid")
        entity = net.AE(self.settings.title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = SECONDS
        entity.add_requested_context(uid.SegmentationStorage, [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
        tls: tuple[ssl.SSLContext, str] | None = (self._tls, peer.host) if self._tls else None
        association = entity.associate(peer.host, peer.port, ae_title=peer.title, tls_args=tls)
        try:
            if not association.is_established:
                refused = "refused the association" if association.is_rejected else "does not answer as a DICOM node"
                raise Unsent(f"{peer.title} at {peer.host}:{peer.port} {refused}")
            if not association.accepted_contexts:
                raise Unsent(f"{peer.title} takes no segmentations")
            for file in files:
                self._send_one(association, file, peer)
        finally:
            if association.is_established:
                association.release()

    def _send_one(self, association: Any, file: Path, peer: Peer) -> None:
        try:
            answer = association.send_c_store(file)
        except (RuntimeError, ValueError, OSError) as error:  # the association ended
            raise Unsent(f"the association with {peer.title} ended ({type(error).__name__})") from None
        status = answer.get("Status")
        if status is None:
            raise Unsent(f"the association with {peer.title} ended before it answered")
        if status in NO_ROOM:
            raise Unsent(f"{peer.title} has no room (status {status:04X})")
        if status in WARNINGS:
            log.warning("%s stored a segmentation with status %04X", peer.title, status)
        elif status != 0:
            raise Refused(f"status {status:04X}")
        self.spool.sent(file)
