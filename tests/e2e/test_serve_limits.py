"""Rows L02 to L20 of the reliability matrix: limits of the service, and what it does when something goes wrong."""

from __future__ import annotations

import gzip
import io
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.commands import run_cli
from helpers.service import IMAGE, MODEL, OTHER, Service, needed, received, serving, status_of
from helpers.volume_files import write_nifti

needed()
CONTENT = IMAGE.read_bytes()
MIB = 2**20
LIMITS = ("--queue", "2", "--max-mib", "1", "--max-megapixels", "0.25", "--max-frames", "3", "--seconds", "6")
HEAD = b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def service():
    with serving(*LIMITS) as found:
        yield found


@pytest.fixture(autouse=True)
def as_before(request):
    """Each test finds the worker ready, and leaves one that is."""
    yield
    if "service" in request.fixturenames:
        found = request.getfixturevalue("service")
        found.signal(signal.SIGCONT)
        found.wait_ready()


def held(service: Service, count: int) -> tuple[ThreadPoolExecutor, list]:
    """Requests that wait for a worker that does nothing."""
    service.signal(signal.SIGSTOP)
    pool = ThreadPoolExecutor(count)
    asked = [pool.submit(service.segment, CONTENT) for _ in range(count)]
    until = time.monotonic() + 10
    while service.metric("pocketseg_queue_waiting") + service.metric("pocketseg_workers_busy") < count:
        assert time.monotonic() < until
        time.sleep(0.02)
    return pool, asked


@pytest.mark.row("L03", "L19")
def test_a_full_queue_is_said_at_once_and_others_are_answered(service: Service):
    pool, asked = held(service, 3)
    with pool:
        began = time.monotonic()
        refused = service.segment(CONTENT)
        waited = time.monotonic() - began
        times = []
        for _ in range(30):
            began = time.monotonic()
            assert service.ask("/healthz").status == 200
            times.append(time.monotonic() - began)
        service.signal(signal.SIGCONT)
        assert refused.status == 503 and refused.headers["retry-after"] == "1" and waited < 0.5
        assert sorted(times)[15] < 0.1
        assert [each.result().status for each in asked] == [200, 200, 200]


@pytest.mark.row("L04")
def test_a_body_that_is_too_long(service: Service):
    """By its stated length before a byte of it is read, by its real one soon after the limit."""
    before = service.rss()
    with service.connect() as sent:
        sent.sendall(HEAD + b"Content-Length: 2000000\r\n\r\n")
        assert status_of(received(sent)) == 413
    with service.connect() as sent:
        sent.settimeout(10)
        sent.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        count = 0
        try:
            while count < 8 * MIB:
                sent.sendall(b"10000\r\n" + b"x" * 2**16 + b"\r\n")
                count += 2**16
                sent.setblocking(False)
                try:
                    if sent.recv(1, socket.MSG_PEEK):
                        break
                except BlockingIOError:
                    pass
                sent.settimeout(10)
        except ConnectionError:
            pass
        sent.settimeout(10)
        assert status_of(received(sent)) == 413 and count < 8 * MIB
    assert service.segment(b"x" * (MIB + 1)).status == 413
    assert service.segment(b"x" * MIB).status == 415
    assert service.rss() - before < 2 * MIB + 8 * MIB
    assert service.segment(CONTENT).status == 200


@pytest.mark.row("L04", "S07")
def test_pixels_and_slices_are_counted_before_they_are_decoded(service: Service, tmp_path):
    content = io.BytesIO()
    Image.new("L", (8000, 8000)).save(content, "PNG")
    before = service.rss()
    large = service.segment(content.getvalue())
    assert large.status == 413 and "64,000,000 pixels" in large.problem
    assert service.rss() - before < 32 * MIB
    many = write_nifti(tmp_path / "many.nii.gz", np.zeros((8, 8, 4), np.uint8)).read_bytes()
    assert service.segment(many).status == 413
    wide = write_nifti(tmp_path / "wide.nii.gz", np.zeros((600, 600, 1), np.uint8)).read_bytes()
    assert service.segment(wide).status == 413
    assert service.segment(write_nifti(tmp_path / "v.nii.gz", np.eye(9)[..., None]).read_bytes()).status == 200


@pytest.mark.row("L05")
@pytest.mark.parametrize(
    "headers",
    [b"Content-Length: -1", b"Content-Length: 9223372036854775808", b"Content-Length: " + b"9" * 400,
     b"Content-Length: ten", b"Content-Length: 1\r\nContent-Length: 2", b"Content-Length: 1, 2",
     b"Content-Length: 4\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked",
     b"Content-Length: +4", b"Content-Length: 0x10"],
)  # fmt: skip
def test_impossible_lengths(service: Service, headers):
    assert status_of(service.raw(HEAD + headers + b"\r\n\r\nPNG!")) in (400, 413, 501)


@pytest.mark.row("L06")
def test_a_body_of_chunks_of_one_byte(service: Service):
    began = time.monotonic()
    answer = service.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 500_000)
    assert time.monotonic() - began < 10 and status_of(answer) in (0, 400)  # 0: reset while it was sent
    few = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    few += b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (CONTENT[:100], CONTENT[100:])) + b"0\r\n\r\n"
    assert status_of(service.raw(few)) == 200


@pytest.mark.row("L07")
@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "gzip, gzip"])
def test_compressed_bodies(service: Service, coding):
    assert service.segment(gzip.compress(bytes(10**6)), Content_Encoding=coding).status == 415


@pytest.mark.row("L08")
@pytest.mark.parametrize(
    "head",
    [b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 10_000,
     b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nx: " + b"y" * MIB + b"\r\n",
     b"GET /" + b"a" * MIB + b" HTTP/1.1\r\nHost: localhost\r\n"],
    ids=["many", "long", "url"],
)  # fmt: skip
def test_headers_without_end(service: Service, head):
    assert status_of(service.raw(head + b"\r\n")) in (0, 431)  # 0: reset while they were sent
    assert status_of(service.raw(head[: 40 * 2**10] + b"\r\n")) == 431


@pytest.mark.row("L09")
def test_ranges_are_not_looked_at(service: Service):
    ranges = "bytes=" + ",".join(f"{number}-{number}" for number in range(2500))
    began = time.monotonic()
    answer = service.segment(CONTENT, Range=ranges)
    assert answer.status == 200 and "content-range" not in answer.headers and time.monotonic() - began < 2
    assert answer.body == service.segment(CONTENT).body


@pytest.mark.row("L10")
@pytest.mark.parametrize(
    "body",
    [b"".join(b'--x\r\nContent-Disposition: form-data; name="a%d"\r\n\r\n1\r\n' % number for number in range(10_000))
     + b"--x--\r\n", b"--x\r\nContent-Disposition: " + b"y" * 900_000, b"--x" * 300_000, b""],
    ids=["parts", "header", "marks", "empty"],
)  # fmt: skip
def test_forms_that_mean_harm(service: Service, body):
    began = time.monotonic()
    answer = service.ask("/infer/m", body, "POST", Content_Type="multipart/form-data; boundary=x")
    assert answer.status in (400, 404) and time.monotonic() - began < 1
    long = service.ask("/infer/m", b"--x--", "POST", Content_Type="multipart/form-data; boundary=" + "x" * 20_000)
    assert long.status == 400


@pytest.mark.row("L11")
def test_many_slow_clients(service: Service):
    """Others are answered as ever meanwhile; that slow ones are left is tested beside the protocol."""
    slow = [service.connect() for _ in range(150)]
    try:
        for number, each in enumerate(slow):
            each.sendall(HEAD[:20] if number % 2 else HEAD + b"Content-Length: 1000\r\n\r\nx")
        began = time.monotonic()
        assert [service.segment(CONTENT).status for _ in range(10)] == [200] * 10
        assert time.monotonic() - began < 10
    finally:
        for each in slow:
            each.close()


@pytest.mark.row("L12")
def test_what_takes_too_long_is_ended(service: Service):
    (worker,) = service.workers()
    service.signal(signal.SIGSTOP)
    began = time.monotonic()
    answer = service.segment(CONTENT)
    assert answer.status == 504 and 5.5 < time.monotonic() - began < 20
    service.wait_ready()
    assert worker not in service.workers()
    assert service.segment(CONTENT).status == 200


@pytest.mark.row("L13")
def test_clients_that_leave(service: Service):
    descriptors = service.descriptors()
    for number in range(60):
        with service.connect() as sent:
            sent.sendall(
                HEAD + b"Content-Length: %d\r\n\r\n" % len(CONTENT) + CONTENT[: len(CONTENT) - number % 2 * 50]
            )
    until = time.monotonic() + 20
    while service.metric("pocketseg_requests_open") > 1 and time.monotonic() < until:
        time.sleep(0.05)
    assert service.segment(CONTENT).status == 200
    assert service.metric("pocketseg_queue_waiting") == service.metric("pocketseg_workers_busy") == 0
    assert abs(service.descriptors() - descriptors) <= 2


@pytest.mark.row("L15")
def test_a_worker_that_crashes_costs_its_request(service: Service):
    before = service.metric("pocketseg_worker_restarts_total")
    (worker,) = service.workers()
    pool, asked = held(service, 2)
    with pool:
        service.signal(signal.SIGSEGV, of=worker)
        service.signal(signal.SIGCONT, of=worker)
        assert sorted(each.result().status for each in asked) == [200, 500]
    assert service.metric("pocketseg_worker_restarts_total") == before + 1
    service.signal(signal.SIGKILL)  # one that has nothing to do costs nobody's
    time.sleep(0.2)
    assert service.segment(CONTENT).status == 200


@pytest.mark.row("L18")
def test_random_requests(service: Service):
    """None is answered by a status that the description lacks, and none by a fault of ours."""
    told = service.ask("/openapi.json").json["paths"]
    chance = random.Random(0)
    for _ in range(150):
        path = chance.choice([*told, "/x", "/v1/segment"]).replace("{id}", "x").replace("{model}", "m")
        query = chance.choice(
            ["", "?model=m", "?to=png", "?to=%00", "?model=m&model=x", "?overlay=yes", "?=&&", "?to=zip"]
        )
        body = bytearray(chance.choice([CONTENT, b"", b"--x\r\n\r\n", bytes(400)]))
        for _ in range(chance.randrange(4) if body else 0):
            body[chance.randrange(len(body))] = chance.randrange(256)
        method = chance.choice(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE"])
        accept = chance.choice(["*/*", "image/png", "application/json", "application/dicom", ";;", "a/b;q=x"])
        answer = service.ask(
            path + query, bytes(body), method, Accept=accept, Content_Type="multipart/form-data; boundary=x"
        )
        known = {status for methods in told.values() for each in methods.values() if isinstance(each, dict)
                 for status in each.get("responses", ())}  # fmt: skip
        assert str(answer.status) in known and answer.status < 500, (path, query, method, answer)


@pytest.mark.slow("a thousand requests, until memory is flat")
@pytest.mark.row("L02")
def test_memory_is_flat(service: Service):
    for _ in range(300):
        service.segment(CONTENT)
    before, descriptors = service.rss(), service.descriptors()
    for _ in range(1000):
        assert service.segment(CONTENT).status == 200
    assert service.rss() - before < 8 * MIB and abs(service.descriptors() - descriptors) <= 2


# --- the life of a service: each of its own ------------------------------------------------------------------------


@pytest.mark.row("L14", "L20", "S24")
def test_it_ends_when_it_has_answered(tmp_path):
    """Before its models are loaded it is not ready; after SIGTERM neither, and all that came is answered."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with serving("--workers", "2", "--queue", "64", "--drain", "1", ready=False, env=environment) as service:
        first = service.ask("/readyz")
        assert first.status == 503 or service.metric("pocketseg_workers_ready") == 2
        assert service.ask("/healthz").status == 200
        service.wait_ready(2)
        assert service.ask("/readyz").status == 200
        (folder,) = tmp_path.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(service.segment, CONTENT) for _ in range(40)]
            service.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            with service.connect() as late:
                late.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = received(late)
            assert status_of(answer) == 503 and b"ending" in answer and b"connection: close" in answer.lower()
            assert [each.result().status for each in asked] == [200] * 40
        assert service.process.wait(30) == 0
    assert not [*tmp_path.iterdir()]


@pytest.mark.row("L16", "S24")
def test_a_full_disk_and_a_log_that_cannot_be_written(tmp_path):
    """What has no room is refused, and the rest goes on; a service that was killed leaves nothing to the next."""

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with serving(env=environment, preexec_fn=small) as service:
        left, = tmp_path.iterdir()  # fmt: skip
        # From the next line of the log on, nobody reads it.
        os.dup2(os.open(os.devnull, os.O_RDONLY), service.process.stderr.fileno())
        answer = service.segment(b"\x89PNG\r\n\x1a\n" + bytes(100_000))
        assert answer.status == 503 and answer.headers["retry-after"] == "1" and "no room" in answer.problem
        assert service.segment(CONTENT).status == 200
        until = time.monotonic() + 10
        while [*left.glob("*/*")] and time.monotonic() < until:
            time.sleep(0.05)
        assert not [*left.glob("*/*")]
        service.process.kill()
        service.process.wait()
    assert left.exists()
    with serving(env=environment) as service:
        assert not left.exists() and service.segment(CONTENT).status == 200


@pytest.mark.row("L17")
def test_a_model_is_replaced_without_a_pause(tmp_path):
    """Each answer is of one model, whose digest it names; a damaged one replaces nothing."""
    model = tmp_path / "m.pseg"
    model.write_bytes(MODEL.read_bytes())
    image = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8)).save(image, "PNG")
    with serving("--workers", "2", models=(model,)) as service:
        found: dict[str, set[bytes]] = {}
        stop = threading.Event()

        def client() -> None:
            while not stop.is_set():
                time.sleep(0.02)
                answer = service.segment(image.getvalue(), "?to=json")
                assert answer.status == 200
                peak = str(answer.json["measurements"][0]["highest_probability"]).encode()
                found.setdefault(answer.headers["model-sha256"], set()).add(peak)

        with ThreadPoolExecutor(2) as pool:
            clients = [pool.submit(client) for _ in range(2)]
            for content in (OTHER.read_bytes(), OTHER.read_bytes()[:-9]):
                part = tmp_path / "new"
                part.write_bytes(content)
                part.replace(model)
                service.process.send_signal(signal.SIGHUP)
                words = "loaded again" if content == OTHER.read_bytes() else "stay as they were"
                until = time.monotonic() + 30
                while not any(words in line for line in service.log) and time.monotonic() < until:
                    time.sleep(0.05)
            time.sleep(0.3)
            stop.set()
            for each in clients:
                each.result()
        assert any("stay as they were" in line for line in service.log)
    assert len(found) == 2 and all(len(each) == 1 for each in found.values())


@pytest.mark.row("S18")
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.org"])
def test_other_machines_need_a_token(host):
    done = run_cli("serve", MODEL, "--host", host)
    assert done.returncode == 2 and "--token-file" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.row("S19", "S21")
def test_tokens_and_rates(tmp_path):
    token = "correct-horse-battery"
    file = tmp_path / "token"
    file.write_text(token + "\n")
    with serving("--token-file", file, "--rate", "40", ready=False) as service:
        right = {"Authorization": f"Bearer {token}"}
        until = time.monotonic() + 60
        while service.ask("/readyz").status != 200 and time.monotonic() < until:
            time.sleep(0.1)
        assert service.segment(CONTENT, Host="seg.example.org", **right).status == 200
        assert service.segment(CONTENT, f"?token={token}").status == 401
        for given in ("", "Bearer", f"Bearer {token[:-1]}", f"Bearer {token}x", f"Basic {token}", "Bearer \xff"):
            answer = service.ask("/v1/models", Authorization=given)
            assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer"
        answers = [service.ask("/v1/models", Authorization="Bearer guess") for _ in range(30)]
        assert {each.status for each in answers} == {401, 429} and int(answers[-1].headers["retry-after"]) >= 1
        assert service.ask("/healthz").status == 200
        assert token not in "\n".join(service.log) and "guess" not in "\n".join(service.log)


@pytest.mark.row("S21")
def test_a_client_that_asks_too_often():
    with serving("--rate", "5", ready=False) as service:
        answers = [service.ask("/v1/models") for _ in range(12)]
        assert {each.status for each in answers} == {200, 429}
        assert all("retry-after" in each.headers for each in answers if each.status == 429)


@pytest.mark.row("S20")
def test_pages_of_others(service: Service):
    """Neither a page of another host nor a name of another host that leads here."""
    assert service.segment(CONTENT, Origin="http://evil.example", Content_Type="text/plain").status == 403
    assert service.segment(CONTENT, Host="evil.example").status == 403
    assert service.segment(CONTENT, Host="127.0.0.1.evil.example").status == 403
    assert (
        service.segment(CONTENT, Origin=f"http://localhost:{service.port}", Host=f"localhost:{service.port}").status
        == 200
    )
    assert service.ask("/v1/segment", method="OPTIONS", Origin="http://evil.example").status == 403


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(("missing.pseg",), "does not exist"), ((MODEL, OTHER, f"w8a8={OTHER}"), "is called w8a8"),
     ((MODEL, "--queue", "-1"), "too small"), ((MODEL, "--port", "99999"), "is not a port"),
     ((MODEL, "--max-mib", "inf"), "not a finite number"), ((MODEL, "--max-megapixels", "0"), "is too small"),
     ((MODEL, "--token-file", os.devnull), "token")],
)  # fmt: skip
def test_what_cannot_be_served(arguments, text):
    done = run_cli("serve", *arguments, *(() if "--port" in arguments else ("--port", "0")))
    assert done.returncode in (2, 3) and text in done.stderr and "Traceback" not in done.stderr


def test_a_port_that_is_taken(service: Service):
    done = run_cli("serve", MODEL, "--port", service.port)
    assert done.returncode == 3 and "choose another --port" in done.stderr


def test_a_damaged_model_is_not_served(tmp_path):
    (tmp_path / "m.pseg").write_bytes(MODEL.read_bytes()[:-5])
    done = run_cli("serve", tmp_path / "m.pseg", "--port", "0")
    assert done.returncode == 2 and "ModelFileError" in done.stderr


def test_without_the_extra(tmp_path):
    """The error says what to install."""
    (tmp_path / "starlette.py").write_text("raise ImportError('no starlette')")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run([sys.executable, "-m", "pocketseg.cli.main", "serve", MODEL], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": path}, timeout=60)  # fmt: skip
    assert done.returncode == 3 and "pocketseg[serve]" in done.stderr
    assert Path(tmp_path, "starlette.py").exists()
