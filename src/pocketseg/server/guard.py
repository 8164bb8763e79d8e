"""Who may ask: the token, the names of this host, and how often. Nothing of a request is logged but its route."""

from __future__ import annotations

import hmac
import re
import time

from starlette.requests import Request

from pocketseg.server.settings import Settings, is_loopback
from pocketseg.server.task import Refused

# Whom a balancer or a container asks without a token.
OPEN = ("/healthz", "/readyz")
# Wrong tokens of one client a minute, before it has to wait.
GUESSES = 10
CLIENTS = 1000
# An address in brackets or a name, and a port.
HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@/?#\s]+))(?::\d{1,5})?")


class Rate:
    """How often each client does something: so many times in some seconds, which come back evenly."""

    def __init__(self, times: float, seconds: float) -> None:
        self.most, self.a_second = max(times, 1), times / seconds
        self._left: dict[str, tuple[float, float]] = {}

    def wait(self, client: str, now: float, take: float = 1) -> float:
        """Seconds until a client may do it again; 0 where it may, and has then done it.

        Example:
            >>> rate = Rate(2, 10)
            >>> [rate.wait("a", 0.0) for _ in range(3)]
            [0, 0, 5.0]
        """
        left, since = self._left.pop(client, (self.most, now))
        left = min(self.most, left + (now - since) * self.a_second)
        may = left >= 1
        self._left[client] = (left - take if may else left, now)
        if len(self._left) > CLIENTS:  # the one that was quiet for longest
            del self._left[next(iter(self._left))]
        return 0 if may else (1 - left) / self.a_second


class Guard:
    """Refuses requests before anything of them is read but their headers."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._wrong = Rate(GUESSES, 60)
        self._rate = Rate(settings.rate, 1) if settings.rate else None

    def check(self, request: Request) -> float:
        """Seconds after which a client that asks too often may come again; 0 where it may go on.

        Raises:
            Refused: the token is missing or wrong, or the request comes from a page of somebody else, or its length
                and coding are not ones that are read.
        """
        self._check_host(request)
        self._check_body(request)
        client = request.client.host if request.client else ""
        # Not `request.url`, which some versions of Starlette make of the Host too.
        if request.scope["path"] not in OPEN:
            if self._rate is not None and (seconds := self._rate.wait(client, time.monotonic())):
                return seconds
            if self.settings.token and (seconds := self._check_token(request, client)):
                return seconds
        return 0

    def _check_token(self, request: Request, client: str) -> float:
        now = time.monotonic()
        if seconds := self._wrong.wait(client, now, take=0):
            return seconds
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode(), self.settings.token.encode())
        if scheme.lower() != "bearer" or not right:
            self._wrong.wait(client, now)
            raise Refused(401, "the token is missing or wrong", "send it as Authorization: Bearer TOKEN")
        return 0

    def _check_host(self, request: Request) -> None:
        """A name and a port; on loopback without a token a name of this machine: no page's own name leads here."""
        host = request.headers.get("host", "")
        found = HOST.fullmatch(host)
        if host and not found:
            raise Refused(400, "the Host of the request is not valid", "send a name or an address, and a port")
        name = (found[1] or found[2]).lower() if found else ""
        if not self.settings.token and not is_loopback(name):
            raise Refused(
                403, "the Host of the request is not a name of this machine", "ask for 127.0.0.1 or localhost"
            )
        origin = request.headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            raise Refused(403, "the request comes from a page of another host", "send it without a page")

    def _check_body(self, request: Request) -> None:
        coding = request.headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("", "identity"):
            raise Refused(415, "compressed bodies are not read", "send the file as it is, without Content-Encoding")
        length = request.headers.get("content-length")
        if length is not None and "transfer-encoding" in request.headers:
            raise Refused(400, "a body has a length or a coding, not both", "send Content-Length alone")
        if length is not None and not (length.isascii() and length.isdecimal()):
            raise Refused(400, "Content-Length is not a number", "send the number of bytes")
        if length is not None and (len(length) > 18 or int(length) > self.settings.max_body):
            raise too_long(self.settings.max_body)


def too_long(most: int) -> Refused:
    fix = "send it in parts, or start the service with a larger --max-mib"
    return Refused(413, f"the body is longer than {most:,} bytes", fix)
