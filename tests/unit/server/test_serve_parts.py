"""Parts of the service: forms, kinds of files, options, and a protocol that leaves slow clients."""

from __future__ import annotations

import asyncio
import errno
import json
import math
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.service import GOLDEN, IMAGE, needed
from pocketseg.errors import DataError
from pocketseg.server.images import suffix_of
from pocketseg.server.multipart import boundary_in, form_of, parts_of
from pocketseg.server.settings import Settings, is_loopback, named, read_token
from pocketseg.server.task import Limits, Refused, Task

needed()
from starlette.datastructures import URL  # noqa: E402
from starlette.requests import Request  # noqa: E402

from pocketseg.server import images, monai, protocol, worker  # noqa: E402
from pocketseg.server.guard import CLIENTS, Guard, Rate  # noqa: E402
from pocketseg.server.pool import Pool  # noqa: E402
from pocketseg.server.service import Service  # noqa: E402


def form(tmp_path: Path, body: bytes, type_: str = "multipart/form-data; boundary=x"):
    file = tmp_path / "form"
    file.write_bytes(body)
    found = parts_of(file, type_)
    return None if found is None else {name: body[first:last] for name, (first, last) in found.items()}


def part(name: str, content: bytes, more: str = "") -> bytes:
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


def test_parts_of_a_form(tmp_path):
    body = (
        part("params", b"{}")
        + part("file", b"a\r\n--y\r\nb", '; filename="v.nii.gz"')
        + part("none", b"")
        + b"--x--\r\n"
    )
    assert form(tmp_path, body) == {"params": b"{}", "file": b"a\r\n--y\r\nb", "none": b""}
    type_, made = form_of({"params": "{}"}, {"image": ("m.png", "image/png", b"\r\n--\0")})
    assert form(tmp_path, made, type_) == {"params": b"{}", "image": b"\r\n--\0"}


@pytest.mark.row("L10")
@pytest.mark.parametrize(
    "body",
    [b"", b"--x", b"--x--", b"no form", part("a", b"1"), part("a", b"1")[:-9] + b"--x--", b"--x\r\n\r\n\r\n1\r\n--x--",
     b"".join(part("a", b"1") for _ in range(17)) + b"--x--", b"--x\r\nx: " + b"y" * 5000 + b"\r\n\r\n1\r\n--x--"],
)  # fmt: skip
def test_what_is_no_form(tmp_path, body):
    assert not form(tmp_path, body)


@pytest.mark.parametrize(
    ("type_", "boundary"),
    [("multipart/form-data; boundary=x", b"x"), ("multipart/form-data; boundary=ä", None),
     ('Multipart/Form-Data; charset=utf-8; boundary="a b"', b"a b"),
     ("multipart/form-data", None), ("image/png; boundary=x", None),
     ("multipart/form-data; boundary=" + "x" * 71, b"x" * 70), ("multipart/form-data; boundary=" + "x" * 9000, None)],
)  # fmt: skip
def test_boundaries(type_, boundary):
    assert boundary_in(type_) == boundary


def test_kinds_of_files():
    nifti = struct.pack("<i", 348) + bytes(340) + b"n+1\0" + bytes(52)
    assert suffix_of(nifti) == ".nii" and suffix_of(nifti[:344] + b"ni1\0") is None
    assert suffix_of(struct.pack(">i", 540) + b"n+2\0") == ".nii"
    assert suffix_of((GOLDEN / "image.png").read_bytes()[:400]) == ".png"
    assert suffix_of(b"ObjectType = Image") == ".mha" and suffix_of(b"MM\0*") == ".tif"
    for none in (b"", b"\x1f\x8b", b"%!PS", b"<html>", b"GGUF", bytes(400)):
        assert suffix_of(none) is None


def test_names_of_models(tmp_path):
    (tmp_path / "a=b.pseg").touch()
    assert named([str(tmp_path / "a=b.pseg")]) == {"a=b": tmp_path / "a=b.pseg"}
    for wrong in (["a.pseg", "x/a.pseg"], ["=a.pseg"], [" =a"], ["a/b=c"]):
        with pytest.raises(DataError, match="give NAME=PATH"):
            named(wrong)


@pytest.mark.row("S18")
@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("", False),
     ("localhost.example", False)],
)  # fmt: skip
def test_loopback(host, alone):
    assert is_loopback(host) is alone


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"queue": -1},
        {"seconds": 0},
        {"port": 70000},
        {"token": "short"},
        {"seconds": math.nan},
        {"grace": math.inf},
        {"rate": math.nan},
        {"drain": -1},
    ],
)
def test_settings_that_make_no_sense(options):
    with pytest.raises(DataError):
        Settings({}, **options)
    assert "secret" not in repr(Settings({}, token="a-secret-of-mine-x"))


def test_files_of_tokens(tmp_path):
    file = tmp_path / "token"
    file.write_text(" abc \nmore\n")
    assert read_token(file) == "abc"
    for content in (b"", b"\n\n", b"\xff\xfe", "ä".encode()):
        file.write_bytes(content)
        with pytest.raises(DataError):
            read_token(file)


@pytest.mark.row("S21")
def test_rates_are_of_each_client_and_bounded():
    rate = Rate(3, 1)
    assert [rate.wait("a", 0.0) > 0 for _ in range(5)] == [False] * 3 + [True] * 2
    assert rate.wait("b", 0.0) == 0 and rate.wait("a", 0.4) == 0
    for number in range(3 * CLIENTS):
        rate.wait(str(number), 1.0)
    assert len(rate._left) <= CLIENTS


def request_of(host: str, token: str = "") -> Request:
    headers = [(b"host", host.encode()), (b"authorization", f"Bearer {token}".encode())]
    scope = {"type": "http", "method": "GET", "path": "/v1/models", "query_string": b"", "headers": headers}
    return Request(scope)


@pytest.mark.row("S18")
def test_a_host_opens_no_route(monkeypatch):
    """Versions of Starlette that take the Host as it is read /healthz in the address of a request for /v1/models."""
    monkeypatch.setattr(Request, "url", URL("http://a/healthz?/v1/models"))
    token = "a-token-of-mine-123"
    guard = Guard(Settings({}, token=token))
    assert guard.check(request_of("seg.example.org:80", token)) == 0
    with pytest.raises(Refused, match="token is missing"):
        guard.check(request_of("seg.example.org"))
    for odd in ("a/healthz?", "a/healthz#", "a@b", "a b", "[::1"):
        with pytest.raises(Refused, match="Host of the request is not valid"):
            guard.check(request_of(odd, token))


@pytest.mark.parametrize("content", [b"PK", IMAGE.read_bytes()], ids=["zip", "picture"])
def test_a_full_disk_is_neither_the_fault_of_a_request_nor_ours(tmp_path, monkeypatch, content):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "x"))

    if content == b"PK":
        with zipfile.ZipFile(tmp_path / "body", "w") as archive:
            archive.writestr("a.png", IMAGE.read_bytes())
        monkeypatch.setattr(images, "_put", full)
    else:
        (tmp_path / "body").write_bytes(content)
        monkeypatch.setattr(worker, "check_sizes", full)
    pipeline = SimpleNamespace(reading=SimpleNamespace(channel_files=()))
    models = {"m": worker.Loaded(SimpleNamespace(forward=None, pipeline=pipeline), "digest", [], [])}
    answer = worker.done(Task(str(tmp_path), "m"), models, Limits(2**20, 10, 2**20))
    assert answer["status"] == 503 and "no room" in answer["problems"][0]["what"] and "bug" not in answer


def test_a_volume_is_gone_when_its_time_is_over(tmp_path, monkeypatch):
    """Whether anybody asks again or not."""
    monkeypatch.setattr(monai, "KEPT_SECONDS", 0.05)
    body = part("files", b"v") + b"--x--\r\n"
    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    scope = {"type": "http", "method": "PUT", "path": "/session/", "query_string": b"", "headers": headers}

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def run() -> None:
        routes = monai.Monai(Service(Settings({}), Pool(Settings({})), tmp_path))
        answer = await routes.put_session(Request(scope, receive))
        key = ("session", json.loads(answer.body)["session_id"])
        folder = routes.kept(key).folder
        assert (folder / "body").read_bytes() == body
        await asyncio.sleep(0.2)
        assert not folder.exists() and routes.kept(key) is None

    asyncio.run(run())


# --- a protocol that leaves slow clients -------------------------------------------------------------------------


async def _app(scope, receive, send) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(64):
        await send({"type": "http.response.body", "body": bytes(2**20), "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def refused(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def seconds_until_left(monkeypatch, sent: bytes, app=_app, trickle: bytes = b"", reads: bool = True) -> float:
    """How long a connection lives that sends something, then a byte now and then."""
    import uvicorn

    monkeypatch.setattr(protocol, "TO_SEND_HEAD", 0.3)
    monkeypatch.setattr(protocol, "TO_READ", 0.3)
    monkeypatch.setattr(protocol, "TO_LEAVE", 0.3)
    config = uvicorn.Config(app, http=protocol.Protocol, lifespan="off", log_config=None, timeout_keep_alive=60)
    config.load()

    async def run() -> float:
        loop = asyncio.get_running_loop()
        state = uvicorn.server.ServerState()
        server = await loop.create_server(lambda: protocol.Protocol(config, state, {}), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**10)
        began = loop.time()
        writer.write(sent)
        while state.connections or loop.time() - began < 0.1:
            await asyncio.sleep(0.02)
            if trickle:
                writer.write(trickle)
            if reads and not reader.at_eof():
                reader._buffer.clear()
                reader._maybe_resume_transport()
            assert loop.time() - began < 10
        writer.transport.abort()
        server.close()
        for task in state.tasks:
            task.cancel()
        return loop.time() - began

    return asyncio.run(run())


@pytest.mark.row("L11")
@pytest.mark.parametrize(
    ("sent", "trickle"),
    [(b"", b""), (b"GET / HTTP/1.1\r\n", b"a"),
     (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n", b"x")],
)  # fmt: skip
def test_headers_that_never_end(monkeypatch, sent, trickle):
    assert 0.2 < seconds_until_left(monkeypatch, sent, trickle=trickle) < 5


@pytest.mark.row("L11")
def test_an_answer_that_nobody_reads(monkeypatch):
    assert 0.2 < seconds_until_left(monkeypatch, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", reads=False) < 5


@pytest.mark.row("L11")
def test_the_rest_of_a_body_that_was_refused(monkeypatch):
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
    assert 0.2 < seconds_until_left(monkeypatch, head, refused, trickle=b"x") < 5


def test_a_refusal_says_what_to_do():
    assert (Refused(413, "long", "shorter").status, str(Refused(413, "long"))) == (413, "long")
