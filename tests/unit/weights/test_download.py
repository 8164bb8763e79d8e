"""Fetching published files, from a server on the loopback address."""

from __future__ import annotations

import errno
import hashlib
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pocketseg.errors import EnvironmentProblem, ModelFileError
from pocketseg.weights import download, fetch

CONTENT = bytes(range(256)) * 9000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = f"net18-{DIGEST[:8]}.pth"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        answer = self.server.answer
        if answer == "nothing":
            self.server.over.wait(20)
            return
        if self.path != f"/models/{NAME}" or answer == "404":
            self.send_error(404)
            return
        content = CONTENT[::-1] if answer == "wrong" else CONTENT
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if answer == "half" else content)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.answer, server.over = [], "whole", threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("POCKETSEG_WEIGHTS_URL", f"http://127.0.0.1:{server.server_address[1]}/models/")
    monkeypatch.setenv("POCKETSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def left_behind(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache").glob("*"))


def refusal(kind=EnvironmentProblem, name: str = NAME) -> str:
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        fetch(name)
    assert time.monotonic() - began < 5
    return str(caught.value)


def test_once_and_never_again(server, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "pocketseg"):
        path = fetch(NAME)
    assert path == tmp_path / "cache" / NAME and path.read_bytes() == CONTENT
    assert [record.getMessage() for record in caplog.records] == [
        f"downloading http://127.0.0.1:{server.server_address[1]}/models/{NAME} (2.3 MB)"
    ]
    assert fetch(NAME) == path and server.asked == [f"/models/{NAME}"]
    assert left_behind(tmp_path) == [NAME]


def test_two_at_once(server, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(fetch, [NAME] * 4))
    assert len(set(paths)) == 1 and paths[0].read_bytes() == CONTENT and left_behind(tmp_path) == [NAME]


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ("404", EnvironmentProblem, "HTTP Error 404"),
        ("half", EnvironmentProblem, "broke off after 1,152,000 of 2,304,000 bytes"),
        ("wrong", ModelFileError, f"not {DIGEST[:8]}"),
        ("nothing", EnvironmentProblem, "cannot be downloaded"),
    ],
)
def test_what_goes_wrong_leaves_nothing_and_says_what_to_do(server, tmp_path, answer, kind, words):
    server.answer = answer
    text = refusal(kind)
    assert words in text
    assert str(tmp_path / "cache" / NAME) in text and "POCKETSEG_WEIGHTS_URL" in text and "init=null" in text
    assert left_behind(tmp_path) == []


def test_after_a_fault_it_is_fetched(server):
    server.answer = "half"
    refusal()
    server.answer = "whole"
    assert fetch(NAME).read_bytes() == CONTENT


def test_no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("POCKETSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("POCKETSEG_WEIGHTS_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert "cannot be downloaded" in refusal()
    monkeypatch.setenv("POCKETSEG_WEIGHTS_URL", "http://no-such-host.invalid")
    assert "cannot be downloaded" in refusal()


def test_a_resolver_that_hangs(monkeypatch, tmp_path):
    monkeypatch.setenv("POCKETSEG_CACHE", str(tmp_path / "cache"))
    over = threading.Event()
    monkeypatch.setattr(download.urllib.request, "urlopen", lambda *_, **__: over.wait(20))
    assert "no response within 4 seconds" in refusal()
    over.set()


def test_a_file_in_the_cache_is_checked(server, tmp_path):
    path = fetch(NAME)
    path.write_bytes(CONTENT[:-1])
    text = refusal(ModelFileError)
    assert "is not the published file" in text and "remove it" in text and str(path) in text


def test_a_file_put_there_by_hand_needs_no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("POCKETSEG_CACHE", str(tmp_path))
    monkeypatch.setenv("POCKETSEG_WEIGHTS_URL", "http://no-such-host.invalid")
    (tmp_path / NAME).write_bytes(CONTENT)
    assert fetch(NAME) == tmp_path / NAME


def test_a_mirror_in_a_folder(monkeypatch, tmp_path):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / NAME).write_bytes(CONTENT)
    monkeypatch.setenv("POCKETSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("POCKETSEG_WEIGHTS_URL", (tmp_path / "mirror").as_uri())
    assert fetch(NAME).read_bytes() == CONTENT


def test_addresses_of_other_kinds(monkeypatch, tmp_path):
    monkeypatch.setenv("POCKETSEG_CACHE", str(tmp_path))
    monkeypatch.setenv("POCKETSEG_WEIGHTS_URL", "ftp://host")
    assert "not an address of a download" in refusal()


@pytest.mark.parametrize("name", ["net.pth", "../net-00000000.pth", "a/net-00000000.pth", "net-0000.pth"])
def test_names_without_a_digest_or_with_folders(name):
    assert "no digest in its name" in refusal(ModelFileError, name)


def test_a_full_disk(server, monkeypatch, tmp_path):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", full)
    assert "No space left" in refusal()
    assert left_behind(tmp_path) == []


def test_a_cache_that_cannot_be_made(server, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POCKETSEG_CACHE", str(tmp_path / "file"))
    assert "cannot be written" in refusal()


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.delenv("POCKETSEG_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert download.cache_folder() == tmp_path / "pocketseg"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert download.cache_folder() == tmp_path / ".cache/pocketseg"


@pytest.mark.row("P17")
def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("POCKETSEG_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(EnvironmentProblem, match="cannot be written"):
        fetch("net-0123456789ab.pth")


@pytest.mark.row("P17")
def test_no_home(monkeypatch):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("POCKETSEG_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", unknown)
    with pytest.raises(EnvironmentProblem, match="POCKETSEG_CACHE: is not set"):
        fetch("net-0123456789ab.pth")
