"""The options of the node: who it is, who may send, where segmentations go, and the limits."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pocketseg.errors import DataError
from pocketseg.files import resolved
from pocketseg.server.settings import is_loopback, limit

# AE@HOST:PORT; an IPv6 address stands in brackets.
ADDRESS = re.compile(r"(.+)@(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@/\s]+)):(\d{1,5})")
MAX_TITLE = 16


@dataclass(frozen=True)
class Peer:
    """Another node: its AE title and its address."""

    title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `AE@HOST:PORT`.

        Raises:
            DataError: it is not written so.

        Example:
            >>> Peer.parse("ARCHIVE@10.0.0.2:104"), Peer.parse("A@[::1]:104").host
            (Peer(title='ARCHIVE', host='10.0.0.2', port=104), '::1')
        """
        found = ADDRESS.fullmatch(text)
        if found is None or not 0 < int(found[4]) < 2**16:
            raise DataError(f"--to {text}", "is not the address of a node", "give AE@HOST:PORT")
        return cls(checked_title("--to", found[1]), found[2] or found[3], int(found[4]))


@dataclass(frozen=True)
class Tls:
    """Files for TLS, all PEM: the certificate of this node and its key, and who signs those of others."""

    cert: Path
    key: Path
    ca: Path | None = None

    def server(self) -> ssl.SSLContext:
        """Where there is a `ca`, clients have to have a certificate of it.

        Raises:
            DataError: a file cannot be used.
        """
        found = self._loaded(_Later(ssl.PROTOCOL_TLS_SERVER))
        if self.ca is not None:
            found.verify_mode = ssl.CERT_REQUIRED
        return found

    def client(self) -> ssl.SSLContext:
        """The other side has to have a certificate for its name: one of `ca`, or one that this machine trusts.

        Raises:
            DataError: a file cannot be used.
        """
        return self._loaded(ssl.create_default_context(cafile=None if self.ca is None else str(self.ca)))

    def _loaded(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.cert, self.key)
            if self.ca is not None:
                context.load_verify_locations(self.ca)
        except OSError as error:  # also those of OpenSSL
            what = f"cannot be used ({error.strerror or error})"
            raise DataError(
                "--tls-cert, --tls-key, --tls-ca", what, "give PEM files, with the key unencrypted"
            ) from None
        return context


class _Later(ssl.SSLContext):
    """Shakes hands when the first byte is read, in the thread of the association: nobody else waits for a client."""

    def wrap_socket(self, sock, *arguments, **options):  # type: ignore[no-untyped-def]
        return super().wrap_socket(sock, *arguments, **{**options, "do_handshake_on_connect": False})


@dataclass(frozen=True)
class Settings:
    """All options of `pocketseg listen`.

    Attributes:
        model: its file or run.
        title: AE title of this node, which clients have to call.
        host, port: where to listen; port 0 is a free one.
        to: the node that segmentations go to.
        out: the folder that they go to.
        spool: where images and segmentations lie until they are done.
        quiet: seconds without an image after which a series is complete; 0: when its association is released.
        allow: AE titles that may send; none is all.
        tls: of associations that come in; of those that go out, too, with `to_tls`.
        max_instance: bytes of an instance.
        min_free: bytes that are left free on the disk of the spool.
        associations: at once.
        seconds: for the segmentation of one series.
        grace: seconds that open associations may take to end after SIGTERM.
        keep: what is done stays in the spool.
    """

    model: Path
    title: str
    host: str = "127.0.0.1"
    port: int = 11112
    to: Peer | None = None
    out: Path | None = None
    spool: Path = Path("dicom-spool")
    quiet: float = 30
    allow: tuple[str, ...] = ()
    tls: Tls | None = None
    to_tls: bool = False
    max_instance: int = 2**30
    min_free: int = 2**30
    associations: int = 16
    seconds: float = 600
    grace: float = 30
    keep: bool = False

    def __post_init__(self) -> None:
        checked_title("--ae", self.title)
        for title in self.allow:
            checked_title("--allow", title)
        if self.to is None and self.out is None:
            raise DataError("pocketseg listen", "has nowhere to put segmentations", "add --to AE@HOST:PORT or --out")
        if self.out is not None and resolved(self.out).is_relative_to(resolved(self.spool)):
            raise DataError(f"--out {self.out}", "lies in the spool, whose files go", "choose another folder")
        if not is_loopback(self.host) and not self.allow and (self.tls is None or self.tls.ca is None):
            what = "can be reached from other machines, and anybody may send"
            raise DataError(f"--host {self.host}", what, "add --allow AE, or --tls-ca, or listen on 127.0.0.1")
        if self.to_tls and self.tls is None:
            raise DataError("--to-tls", "has no certificate", "add --tls-cert and --tls-key")
        if not 0 <= self.port < 2**16:
            raise DataError(f"--port {self.port}", "is not a port", "give a number from 0 to 65535")
        limit("--quiet-seconds", self.quiet, 0)
        limit("--associations", self.associations, 1)
        limit("--seconds", self.seconds, 1)
        limit("--grace", self.grace, 0)


def checked_title(option: str, title: str) -> str:
    """An AE title, as the standard has them.

    Raises:
        DataError: it is none.
    """
    known = title.isascii() and title.isprintable() and "\\" not in title
    if not known or title != title.strip() or not 0 < len(title) <= MAX_TITLE:
        what = "is not an AE title"
        raise DataError(f"{option} {title}", what, f"give 1 to {MAX_TITLE} ASCII characters, without a backslash")
    return title
