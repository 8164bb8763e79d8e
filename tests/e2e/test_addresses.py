"""Paths are paths: what looks like an address of the network is a file that is not there, and nothing is asked."""

from __future__ import annotations

import socket
import sys
import threading

import pytest
from places import PLACES, here

asked: list[str] = []
listening = False


def _watch(event: str, arguments: tuple) -> None:
    if listening and event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
        asked.append(f"{event} {arguments}")


sys.addaudithook(_watch)


@pytest.fixture
def listener():
    """A server on the loopback; what reaches it, and every other attempt to connect, is in `asked`."""
    global listening
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.05)
    stop = threading.Event()

    def accept() -> None:
        while not stop.is_set():
            try:
                server.accept()[0].close()
            except TimeoutError:
                continue
            asked.append("the server was reached")

    thread = threading.Thread(target=accept)
    thread.start()
    asked.clear()
    listening = True
    yield server.getsockname()[1]
    listening = False
    stop.set()
    thread.join()
    server.close()


@pytest.mark.row("S09")
@pytest.mark.parametrize("place", PLACES)
def test_an_address_is_no_path(place, listener, phantom_data, trained_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for form in (
        "http://127.0.0.1:{}/a.png", "file://127.0.0.1:{}/etc/passwd", "//127.0.0.1:{}/share/a.pseg",
        r"\\127.0.0.1:{}\share\a.nii.gz", "ftp://127.0.0.1:{}/a.yaml",
    ):  # fmt: skip
        code, said = here(*PLACES[place](form.format(listener), phantom_data, trained_run, tmp_path / "out"))
        assert code in (2, 3), said
        assert "→" in said and str(listener) in said and "Traceback" not in said, said
    assert asked == []
    assert list(tmp_path.iterdir()) == []
