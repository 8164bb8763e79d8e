"""A service in a process of its own, and a client of it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from helpers.logs import port_of, read_log

GOLDEN = Path(__file__).parents[1] / "golden/0.1.0"
MODEL, OTHER, IMAGE = GOLDEN / "w8a8.pseg", GOLDEN / "f32.pseg", GOLDEN / "image.png"
SECONDS = 60


def needed() -> None:
    """Skip a module where the extra `serve` is not installed."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        pytest.skip(f"missing tool: {error.name} (scripts/install installs it)", allow_module_level=True)


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        return self.json["problems"][0]["what"]


class Service:
    """A process of `pocketseg serve` on a free port."""

    def __init__(self, process: subprocess.Popen[str], log: list[str]) -> None:
        self.process, self.log = process, log
        self.port = 0

    def ask(self, path: str, body: Any = None, method: str = "", **headers: str) -> Answer:
        """One request on a connection of its own; underscores in names of headers are hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method or ("GET" if body is None else "POST"), path, body, named)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def segment(self, image: bytes, query: str = "", **headers: str) -> Answer:
        return self.ask(f"/v1/segment{query}", image, **headers)

    def raw(self, text: bytes, *, wait: float = 10) -> bytes:
        """What comes back for bytes that no client library would send, until the connection ends or is silent."""
        with self.connect() as sent:
            sent.settimeout(wait)
            with suppress(OSError):
                sent.sendall(text)
            return received(sent)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    def workers(self) -> list[int]:
        """Processes that it started."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return sorted(int(number) for file in tasks for number in file.read_text().split())

    def signal(self, number: int, *, of: int | None = None) -> None:
        for process in self.workers() if of is None else [of]:
            os.kill(process, number)

    def wait_ready(self, workers: int = 1, seconds: float = SECONDS) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if f"pocketseg_workers_ready {workers}" in self.ask("/metrics").body.decode():
                return
            time.sleep(0.05)
        raise AssertionError("it was not ready in time:\n" + "\n".join(self.log))

    def rss(self) -> int:
        """Bytes of memory of the service and its workers."""
        total = 0
        for process in (self.process.pid, *self.workers()):
            found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
            total += int(found[1]) * 1024 if found else 0
        return total

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.ask("/metrics").body.decode(), re.MULTILINE)
        assert found is not None, name
        return float(found[1])


def received(sent: socket.socket) -> bytes:
    """All that comes, until an answer is whole or the connection ends."""
    found = b""
    while True:
        try:
            piece = sent.recv(2**16)
        except (TimeoutError, ConnectionError):
            return found
        if not piece:
            return found
        found += piece
        head, gap, rest = found.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if gap and length and len(rest) >= int(length[1]):
            return found


def status_of(answer: bytes) -> int:
    found = re.match(rb"HTTP/1\.1 (\d{3})", answer)
    return int(found[1]) if found else 0


@contextmanager
def serving(
    *arguments: str | Path, models: tuple[str | Path, ...] = (f"m={MODEL}",), ready: bool = True, **popen: Any
) -> Iterator[Service]:
    """A service that runs for the length of the block; at its end it is asked to end."""
    command = [sys.executable, "-m", "pocketseg.cli.main", "serve", *map(str, models), "--port", "0"]
    command += ["--workers", "1", "--drain", "0.1"]
    process = subprocess.Popen(
        [*command, *map(str, arguments)], stderr=subprocess.PIPE, text=True, **{"stdout": subprocess.DEVNULL, **popen}
    )
    service = Service(process, [])
    try:
        service.port = port_of(process, service.log, SECONDS, "http://")
        reader = threading.Thread(target=read_log, args=(process, service.log), daemon=True)
        reader.start()
        if ready:
            workers = int(arguments[arguments.index("--workers") + 1]) if "--workers" in arguments else 1
            service.wait_ready(workers)
        yield service
    finally:
        if process.poll() is None:
            for worker in service.workers():
                os.kill(worker, signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr is not None:
            process.stderr.close()
