"""HTTP/1.1 of uvicorn with what it leaves open: limits of time for headers and for slow readers, and of tiny chunks."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

# Request line and headers together.
MAX_HEAD = 32 * 2**10
# Seconds for them, for a client that does not read its answer, and for the rest of a body that was refused.
TO_SEND_HEAD, TO_READ, TO_LEAVE = 15, 20, 5
# Chunks of a few bytes cost more to take apart than an image to segment.
SMALL_CHUNKS, LEAST_IN_CHUNK = 4096, 16


class Connection(h11.Connection):
    """A connection that gives up long headers, and a body of very many very small chunks."""

    chunks = received = 0

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.chunks = self.received = 0
            # Of a head that came at once; h11 looks at those that are not whole yet.
            if len(event.target) + sum(len(name) + len(value) + 4 for name, value in event.headers) > MAX_HEAD:
                raise h11.RemoteProtocolError("the headers are too long", error_status_hint=431)
        elif isinstance(event, h11.Data):
            self.chunks += 1
            self.received += len(event.data)
            if self.chunks > SMALL_CHUNKS and self.received < LEAST_IN_CHUNK * self.chunks:
                raise h11.RemoteProtocolError("the body comes in chunks of a few bytes")
        return event


class Protocol(H11Protocol):
    """A connection of a client that may be slow, or mean harm."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.conn = Connection(h11.SERVER, MAX_HEAD)
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start("head", TO_SEND_HEAD)

    def connection_lost(self, exc: Exception | None) -> None:
        for name in list(self._timers):
            self._stop(name)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop("head")
            self._stop("rest")
        elif self.conn.their_state is h11.SEND_BODY:
            self._start("rest", TO_LEAVE)
        else:
            self._stop("rest")
            self._start("head", TO_SEND_HEAD)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._start("rest", TO_LEAVE)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start("read", TO_READ)

    def resume_writing(self) -> None:
        self._stop("read")
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Say what the parser found: 431 for headers that are too long, else 400."""
        hint = getattr(sys.exc_info()[1], "error_status_hint", 400)
        status = hint if hint in (400, 414, 431, 501, 505) else 400
        content = json.dumps({"problems": [{"where": "request", "what": msg, "fix": "send valid HTTP/1.1"}]}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"cache-control", b"no-store"),
            (b"connection", b"close"),
        ]
        try:
            head = h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status])
            for event in (head, h11.Data(data=content), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:  # an answer has begun
            self.transport.abort()
        self.transport.close()

    def _start(self, name: str, seconds: float) -> None:
        """Give up the connection in some seconds; a time that runs already goes on."""
        if name not in self._timers:
            self._timers[name] = self.loop.call_later(seconds, self.transport.abort)

    def _stop(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
