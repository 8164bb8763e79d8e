"""The options of the service: where it listens, who may ask, and the limits of a request."""

from __future__ import annotations

import ipaddress
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pocketseg.errors import DataError
from pocketseg.files import read_text, resolved
from pocketseg.names import name_fault

MIN_TOKEN = 16
# A body that comes slower than this on average is given up, once the first seconds are over.
SLOWEST_BYTES_A_SECOND = 100_000
READ_SECONDS = 20
# What a zip may unpack to, in sizes of the largest body; what all bodies that are still sent may take on the disk.
UNPACKED, SPOOLED = 4, 4


@dataclass(frozen=True)
class Settings:
    """All options of `pocketseg serve`.

    Attributes:
        models: path of each by its name.
        host, port: where to listen; port 0 is a free one.
        token: that requests have to bring; empty only on loopback.
        workers: processes, each with one thread of the engine.
        max_body: bytes of a request.
        max_pixels: of one image, or one slice.
        max_frames: slices of all images of a request.
        queue: requests that wait for a worker; more are refused.
        seconds: for one request in a worker.
        grace: seconds that requests may take to end after SIGTERM.
        drain: seconds that new requests are still taken after SIGTERM, while `/readyz` says no.
        rate: requests a second of one client; 0 is any.
    """

    models: Mapping[str, Path]
    host: str = "127.0.0.1"
    port: int = 8000
    token: str = field(default="", repr=False)
    workers: int = 1
    max_body: int = 256 * 2**20
    max_pixels: int = 2**26
    max_frames: int = 2048
    queue: int = 16
    seconds: float = 60
    grace: float = 30
    drain: float = 1
    rate: float = 0

    def __post_init__(self) -> None:
        if not self.token and not is_loopback(self.host):
            what = "can be reached from other machines, and no token is asked for"
            raise DataError(f"--host {self.host}", what, "add --token-file, or listen on 127.0.0.1")
        if self.token and len(self.token) < MIN_TOKEN:
            raise DataError("--token-file", f"holds {len(self.token)} characters", f"take {MIN_TOKEN} or more")
        if not 0 <= self.port < 2**16:
            raise DataError(f"--port {self.port}", "is not a port", "give a number from 0 to 65535")
        least = {"workers": 1, "max_frames": 1, "queue": 0, "grace": 0, "drain": 0, "rate": 0}
        for name, value in least.items():
            limit(f"--{name.replace('_', '-')}", getattr(self, name), value)
        if self.seconds <= 0:
            raise DataError(f"--seconds {self.seconds:g}", "ends every request at once", "give more than 0")
        limit("--seconds", self.seconds, 0)


def limit(option: str, given: float, least: float, unit: int = 1) -> int:
    """A number that an option gave, in whole units.

    Raises:
        DataError: it is too small, or not finite.

    Example:
        >>> limit("--max-mib", 1.5, 0, 2**20)
        1572864
    """
    if given < least:
        raise DataError(f"{option} {given:g}", "is too small", f"give {least:g} or more")
    if not math.isfinite(given):
        raise DataError(f"{option} {given:g}", "is not a finite number", "give one that is")
    return round(given * unit)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
        (True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def named(models: Sequence[str]) -> dict[str, Path]:
    """Models by name: `NAME=PATH`, or a path, whose file or folder it is called after.

    Raises:
        DataError: two of one name, or a name that cannot be.

    Example:
        >>> [*named(["runs/lesion", "heart=runs/first/fold-0/model.pseg"])]
        ['lesion', 'heart']
    """
    found: dict[str, Path] = {}
    for text in models:
        name, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            path, name = text, resolved(Path(text)).stem
        if fault := name_fault(name):
            raise DataError(text, f"its name {fault}", "give NAME=PATH")
        if name in found:
            raise DataError(text, f"is called {name}, as {found[name]} is", "give NAME=PATH")
        found[name] = Path(path)
    return found


def read_token(file: Path) -> str:
    """The secret in a file: its first line.

    Raises:
        DataError: the file cannot be read, or holds none.
    """
    try:
        lines = read_text(file).splitlines()
    except (OSError, ValueError) as error:
        what = f"cannot be read ({getattr(error, 'strerror', None) or 'it is not text'})"
        raise DataError(str(file), what, "give a file that holds the token") from None
    token = lines[0].strip() if lines else ""
    if not token or not token.isascii() or not token.isprintable():
        raise DataError(str(file), "holds no token", "write one of printable ASCII characters into its first line")
    return token


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
