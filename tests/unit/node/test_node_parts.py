"""The node's parts by themselves: its steps and what a kill between them leaves, its limits, what it refuses."""

from __future__ import annotations

import gc
import json
import shutil
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydicom
import pytest

import pocketseg
from helpers.dicom_node import CT, MODEL, SEGMENTATION, archive, associate, needed, send, series, wait_until
from pocketseg.errors import DataError, EnvironmentProblem, Problem
from pocketseg.node import Peer, Settings, Tls, receiving, segmenting, sending
from pocketseg.node.receiving import MISMATCH, NO_ROOM, UNREADABLE, Arrivals, Receiver
from pocketseg.node.run import _silent
from pocketseg.node.segmenting import Died, Segmenter
from pocketseg.node.sending import Sender
from pocketseg.node.spool import IMAGES, MADE, Spool, images_of, key_of

needed()

JPEG_2000, HTJ2K = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.201"


@pytest.fixture
def settings(tmp_path) -> Settings:
    out, spool = tmp_path / "out", tmp_path / "spool"
    return Settings(MODEL, "NODE", port=0, out=out, spool=spool, quiet=0, min_free=2**20, grace=5)


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory) -> bytes:
    """A file as the worker makes it."""
    place = tmp_path_factory.mktemp("made")
    files = series(place, "of it", 2)
    return pocketseg.predict(MODEL, [files[0].parent], place / "out", keep_identity=True).written[0].read_bytes()


@pytest.fixture
def collected() -> Iterator[None]:
    """What pynetdicom leaves open, sockets that never connected and files of what broke off, is Python's to close."""
    yield
    gc.collect()


@contextmanager
def receiver(settings: Settings) -> Iterator[SimpleNamespace]:
    """What takes associations, in this process."""
    import pynetdicom

    spool = Spool(settings.spool)
    with spool.opened(), _silent(pynetdicom, spool.place / "work"):
        arrivals = Arrivals(settings, spool)
        found = Receiver(settings, spool, arrivals)
        try:
            yield SimpleNamespace(spool=spool, arrivals=arrivals, port=found.address[1], lines=found._lines)
        finally:
            found.stop()
            found.drain(time.monotonic() + 5)


def to_send(spool: Spool, content: bytes, name: str = "a") -> Path:
    """A series that is segmented."""
    there = spool.place / "waiting" / f"0-{name}"
    (there / IMAGES).mkdir(parents=True)
    (there / IMAGES / "one.dcm").write_bytes(b"image")
    work = spool.new_work()
    work.mkdir()
    (work / "images.dcm").write_bytes(content)
    return spool.made(there, work)


@dataclass(eq=False)
class FakeLine:
    """Of an association that the test plays."""

    ended: bool = False
    released: bool = False
    moved: float = 0
    key: str = ""


# --- options ------------------------------------------------------------------------------------------------


@pytest.mark.whole
@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"title": "A" * 17}, "is not an AE title"), ({"title": ""}, "is not an AE title"),
        ({"title": "A\\B"}, "is not an AE title"), ({"allow": ("é",)}, "is not an AE title"),
        ({"out": None}, "has nowhere to put segmentations"), ({"port": 2**16}, "is not a port"),
        ({"host": "0.0.0.0"}, "anybody may send"), ({"to_tls": True}, "has no certificate"),
        ({"quiet": -1}, "is too small"), ({"associations": 0}, "is too small"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense(settings, changes, what):
    with pytest.raises(DataError, match=what):
        replace(settings, **changes)


def test_results_do_not_lie_in_the_spool(settings):
    with pytest.raises(DataError, match="lies in the spool"):
        replace(settings, out=settings.spool / "out")


def test_other_machines_need_a_list_or_certificates(settings, tmp_path):
    assert replace(settings, host="0.0.0.0", allow=("CT1",)).allow == ("CT1",)
    files = tmp_path / "a", tmp_path / "b"
    assert replace(settings, host="::", tls=Tls(*files, tmp_path / "ca")).host == "::"
    with pytest.raises(DataError, match="anybody may send"):
        replace(settings, host="::", tls=Tls(*files))


@pytest.mark.whole
@pytest.mark.parametrize("text", ["", "A", "A@B", "@h:1", "A@h:0", "A@h:65536", "A@h:x", "A@::1:104", "A@b/c:1"])
def test_addresses_that_are_none(text):
    with pytest.raises(DataError, match=r"AE@HOST:PORT|AE title"):
        Peer.parse(text)


# --- the spool: every step, and a kill before the next --------------------------------------------------------


def test_a_spool_is_private_and_of_one_node(settings):
    spool = Spool(settings.spool)
    with spool.opened():
        assert settings.spool.stat().st_mode & 0o777 == 0o700
        (settings.spool / "work/rest.dcm").write_bytes(b"left")
        with pytest.raises(EnvironmentProblem, match="is in use by process"), Spool(settings.spool).opened():
            pass
    with spool.opened():
        assert not list((settings.spool / "work").iterdir())


def test_a_folder_of_somebody_else_is_no_spool(tmp_path):
    (tmp_path / "scan.png").write_bytes(b"mine")
    mode = tmp_path.stat().st_mode
    with pytest.raises(DataError, match="holds something else"), Spool(tmp_path).opened():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["scan.png"] and tmp_path.stat().st_mode == mode


def test_what_was_made_before_a_kill_is_not_made_again(settings, segmentation, monkeypatch):
    """The kill: between the segmentations' place beside their images and the step to sending."""
    spool = Spool(settings.spool)
    monkeypatch.setattr(segmenting, "Worker", lambda model: SimpleNamespace(digest="d", ask=None))
    with spool.opened():
        with monkeypatch.context() as killed:
            killed.setattr(Spool, "to_send", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                to_send(spool, segmentation)
        assert len(spool.waiting()) == 1 and not spool.sending()
        assert Segmenter(settings, spool).step() is None
        assert not spool.waiting() and len(spool.sending()) == 1


def test_killed_between_sending_and_its_record_the_same_bytes_are_sent_again(settings, segmentation, monkeypatch):
    spool = Spool(settings.spool)
    with spool.opened(), archive() as to:
        sender = Sender(replace(settings, to=Peer("ARCHIVE", "127.0.0.1", to.port), out=None), spool)
        to_send(spool, segmentation)
        with monkeypatch.context() as killed:
            killed.setattr(Spool, "sent", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                sender.step()
        assert sender.step() == 0 and sender.step() is None
        first, second = to.got
        assert first == second and first.SOPInstanceUID == second.SOPInstanceUID


def test_killed_between_the_record_and_the_end_nothing_is_sent_again(settings, segmentation, monkeypatch):
    spool = Spool(settings.spool)
    with spool.opened(), archive() as to:
        sender = Sender(replace(settings, to=Peer("ARCHIVE", "127.0.0.1", to.port)), spool)
        to_send(spool, segmentation)
        with monkeypatch.context() as killed:
            killed.setattr(Spool, "finish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                sender.step()
        assert sender.step() == 0 and to.count == len(to.got) == 1
        assert not spool.sending() and len(list(settings.out.glob("*.dcm"))) == 1


def test_uids_follow_from_the_images_and_the_model(tmp_path):
    from pocketseg.data.volumes import open_volume, write_segmentation

    volume = open_volume(series(tmp_path, "uids", 2)[0].parent)
    voxels = (volume.voxels() > 500).astype("uint8")
    made = [
        pydicom.dcmread(write_segmentation(tmp_path / f"{at}.dcm", voxels, volume, ["a"], uid_seed=seed))
        for at, seed in enumerate(["one", "one", "two", ""])
    ]
    uids = [(each.SOPInstanceUID, each.SeriesInstanceUID) for each in made]
    assert uids[0] == uids[1] and len({uid for pair in uids for uid in pair}) == 6
    assert all(pydicom.uid.UID(uid).is_valid for pair in uids for uid in pair)


# --- what fails ------------------------------------------------------------------------------------------------


class Worker:
    """Answers as it is told, and counts."""

    said: list[Any]
    started = 0

    def __init__(self, _: Path) -> None:
        self.digest = "d"
        Worker.started += 1

    def ask(self, message: dict[str, str], _: float) -> dict[str, Any]:
        answer = Worker.said.pop(0)
        if answer is Died:
            raise Died
        for name in answer.get("files", ()):
            (Path(message["out"]) / name).write_bytes(b"made")
        return {"made": 0, "problems": [], "warnings": 0, "again": "", **answer}

    def end(self) -> None:
        pass


@pytest.fixture
def segmenter(settings, monkeypatch) -> Iterator[Segmenter]:
    monkeypatch.setattr(segmenting, "Worker", Worker)
    Worker.started, spool = 0, Spool(settings.spool)
    with spool.opened():
        there = settings.spool / "waiting/0-a/images"
        there.mkdir(parents=True)
        (there / "one.dcm").write_bytes(b"image")
        yield Segmenter(settings, spool)


def test_a_worker_that_dies_is_replaced_and_its_series_is_tried_again(segmenter):
    Worker.said = [Died, {"made": 1, "files": ["images.dcm"]}]
    assert [segmenter.step(), segmenter.step(), segmenter.step()] == [0, 0, None]
    assert Worker.started == 2 and len(segmenter.spool.sending()) == 1


def test_a_series_that_kills_every_worker_is_moved_aside(segmenter):
    Worker.said = [Died] * 3
    assert [segmenter.step() for _ in range(4)] == [0, 0, 0, None]
    (why,) = (segmenter.spool.place / "failed").glob("*/why.json")
    assert "ended the process" in json.loads(why.read_text())[0]["what"] and len(images_of(why.parent)) == 1


def test_a_full_disk_is_waited_out(segmenter):
    problem = {"what": "cannot be written (No space left on device)", "fix": "free some space"}
    Worker.said = [{"problems": [problem], "again": "later"}] * 5
    assert [segmenter.step() for _ in range(5)] == [segmenting.LATER] * 5
    assert len(segmenter.spool.waiting()) == 1


def test_a_node_that_ends_gives_no_series_up(segmenter):
    Worker.said = [Died] * 4
    segmenter.step()
    segmenter.step()
    segmenter.ending = True
    assert segmenter.step() == segmenting.LATER and len(segmenter.spool.waiting()) == 1


def test_what_is_made_of_a_part_is_sent_and_the_rest_is_moved_aside(segmenter, settings):
    problem = {"what": "is damaged", "fix": "export it again"}
    Worker.said = [{"made": 1, "files": ["images.dcm"], "problems": [problem]}]
    assert segmenter.step() == 0
    (series_,) = segmenter.spool.sending()
    (file,) = segmenter.spool.unsent(series_)
    segmenter.spool.sent(file)
    aside = segmenter.spool.finish(series_, keep=False)
    assert (
        aside is not None
        and aside.parent.name == "failed"
        and json.loads((aside / "why.json").read_text()) == [problem]
    )


def test_a_damaged_model_is_refused_at_the_start(tmp_path):
    from pocketseg.errors import ModelFileError

    (tmp_path / "m.pseg").write_bytes(MODEL.read_bytes()[:500])
    with pytest.raises(ModelFileError):
        segmenting.Worker(tmp_path / "m.pseg")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.usefixtures("collected")
def test_an_archive_that_is_away_or_full_gets_it_later(settings, segmentation, monkeypatch):
    monkeypatch.setattr(sending, "FIRST", 0.01)
    spool = Spool(settings.spool)
    with spool.opened():
        with archive() as gone:
            port = gone.port
        to_send(spool, segmentation)
        sender = Sender(replace(settings, to=Peer("ARCHIVE", "127.0.0.1", port), out=None), spool)
        waits = [sender.step(), sender.step(), sender.step()]
        assert waits == [0.01, 0.02, 0.04]
        with archive(port) as to:
            to.status = 0xA700
            assert sender.step() == 0.08 and len(spool.sending()) == 1
            to.status = 0xB000
            assert sender.step() == 0 and not spool.sending()


def test_a_segmentation_that_is_refused_is_moved_aside(settings, segmentation):
    spool = Spool(settings.spool)
    with spool.opened(), archive() as to:
        to.status = 0xC000
        to_send(spool, segmentation)
        sender = Sender(replace(settings, to=Peer("ARCHIVE", "127.0.0.1", to.port), out=None), spool)
        assert sender.step() == 0 and not spool.sending()
        (why,) = (spool.place / "failed").glob("*/why.json")
        assert json.loads(why.read_text())[0]["what"] == "was refused: status C000"
        assert sender.step() is None


# --- what comes in -----------------------------------------------------------------------------------------------


def test_only_what_can_be_read_is_accepted(settings):
    """Neither segmentations nor codings without a decoder; what stands beside them is accepted."""
    with receiver(settings) as node:
        asked = associate(node.port, contexts=[(CT,), (CT, HTJ2K), (CT, JPEG_2000), (SEGMENTATION,)])
        accepted = {(each.abstract_syntax, each.transfer_syntax[0]) for each in asked.accepted_contexts}
        asked.release()
    assert {name for name, _ in accepted} == {CT}
    assert {syntax for _, syntax in accepted} == {"1.2.840.10008.1.2.1", JPEG_2000}


def test_titles_are_checked(settings):
    with receiver(replace(settings, allow=("SENDER", "OTHER"))) as node:
        for called, calling, accepted in [("NODE", "OTHER", True), ("NOD", "OTHER", False), ("NODE", "ELSE", False)]:
            asked = associate(node.port, called, calling)
            assert (asked.is_established, asked.is_rejected) == (accepted, not accepted)
            if accepted:
                asked.release()


def test_instances_that_are_not_what_was_announced(settings, tmp_path):
    with receiver(settings) as node:
        file = tmp_path / "x"
        line = FakeLine(ended=True, released=True)
        (image,) = series(tmp_path, "s", 1)
        uids = CT, str(pydicom.dcmread(image).SOPInstanceUID)
        file.write_bytes(b"\0" * 128 + b"DICM" + b"rubbish" * 9)
        assert node.arrivals.store(line, file, *uids) == UNREADABLE
        assert node.arrivals.store(line, image, CT, "1.2.3") == MISMATCH
        without = pydicom.dcmread(image)
        del without.SeriesInstanceUID
        pydicom.dcmwrite(file, without)
        assert node.arrivals.store(line, file, *uids) == MISMATCH
        assert node.arrivals.complete() == []
        assert node.arrivals.store(line, image, *uids) == 0
        (found,) = node.arrivals.complete()
        assert images_of(found)[0].read_bytes() == image.read_bytes()


def test_a_full_disk_is_answered(settings, tmp_path, monkeypatch):
    (image,) = series(tmp_path, "s", 1)
    with receiver(settings) as node:
        with monkeypatch.context() as full:
            full.setattr(Spool, "free", lambda _: settings.min_free - 1)
            assert send(node.port, [image]) == [NO_ROOM]
        with monkeypatch.context() as full:
            full.setattr(
                shutil, "copyfileobj", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
            )
            assert send(node.port, [image]) == [NO_ROOM]
        assert send(node.port, [image]) == [0]
        assert not list((settings.spool / "work").iterdir())


def test_an_instance_is_on_the_disk_before_it_is_answered(settings, tmp_path, monkeypatch):
    """As a fault of the disk shows: what could not be flushed is not taken."""
    from pocketseg import files

    def broken(path: Path) -> None:
        raise OSError(5, "Input/output error")

    (image,) = series(tmp_path, "s", 1)
    with receiver(settings) as node:
        with monkeypatch.context() as fault:
            fault.setattr(files, "_sync", broken)
            assert send(node.port, [image]) == [NO_ROOM]
        assert node.arrivals.complete() == [] and not list((settings.spool / "receiving").rglob("*.dcm"))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.usefixtures("collected")
def test_an_instance_without_end_is_cut_off(settings, tmp_path):
    files = series(tmp_path, "s", 2)
    with receiver(replace(settings, max_instance=2**16)) as node:
        large = pydicom.dcmread(files[0])
        large.Rows, large.Columns, large.PixelData = 400, 400, b"\0" * 320_000
        asked = associate(node.port)
        assert not asked.send_c_store(large)
        wait_until(lambda: not asked.is_established, "that it ends")
        assert send(node.port, files) == [0, 0]  # each of them is counted by itself
        node.spool.tidy(-1)
        assert not list((settings.spool / "work").iterdir())


def test_a_large_instance_is_taken(settings, tmp_path):
    (file,) = series(tmp_path, "s", 1)
    large = pydicom.dcmread(file)
    large.Rows, large.Columns, large.PixelData = 1100, 1100, bytes(range(242)) * 10_000
    pydicom.dcmwrite(file, large)
    with receiver(settings) as node:
        assert send(node.port, [file]) == [0]
        wait_until(lambda: list((settings.spool / "receiving").rglob("*.dcm")) or node.arrivals.complete(), "it")
    (stored,) = settings.spool.rglob("*.dcm")
    assert pydicom.dcmread(stored) == pydicom.dcmread(file)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.usefixtures("collected")
def test_a_command_without_end_is_cut_off(settings):
    """What is held in memory is bounded more narrowly than what goes to the disk."""
    part = b"\1" + b"\1" + b"\0" * 60_000  # of a command, and not its last
    pdv = struct.pack(">L", len(part)) + part
    with receiver(settings) as node:
        asked = associate(node.port)
        for _ in range(40):
            asked.dul.socket.send(b"\4\0" + struct.pack(">L", len(pdv)) + pdv)
        wait_until(lambda: not asked.is_established, "that it ends")
        again = associate(node.port)
        assert again.is_established
        again.release()


def test_lengths_that_lie_and_connections_that_say_nothing(settings, monkeypatch):
    monkeypatch.setattr(receiving, "FOR_A_PDU", 0.5)
    monkeypatch.setattr(receiving, "TO_ASSOCIATE", 1)
    with receiver(settings) as node:
        for start, seconds in (
            (b"\1\0" + struct.pack(">L", 2**32 - 1), 0.4),
            (b"\1\0\0\0\1\0half", 5.0),
            (b"GET / HTTP", 5.0),
        ):
            began = time.monotonic()
            with socket.create_connection(("127.0.0.1", node.port), timeout=10) as made:
                made.sendall(start)
                found = b"-"
                try:
                    while found:
                        found = made.recv(100)
                except ConnectionResetError:
                    pass
            assert time.monotonic() - began < seconds + 1
        asked = associate(node.port)
        assert asked.is_established
        asked.release()


def test_associations_are_bounded(settings):
    with receiver(replace(settings, associations=2)) as node:
        open_ = [associate(node.port) for _ in range(2)]
        third = associate(node.port)
        assert [each.is_established for each in (*open_, third)] == [True, True, False]
        for each in open_:
            each.release()
        wait_until(lambda: all(line.ended for line in node.lines.values()), "that they end")
        again = associate(node.port)
        assert again.is_established
        again.release()


# --- when a series is complete ------------------------------------------------------------------------------------


def test_a_series_is_complete_after_its_quiet_time(settings, tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(receiving, "time", SimpleNamespace(monotonic=lambda: now))
    (image,) = series(tmp_path, "s", 1)
    uids = CT, str(pydicom.dcmread(image).SOPInstanceUID)
    spool = Spool(settings.spool)
    with spool.opened():
        arrivals = Arrivals(replace(settings, quiet=5), spool)
        one = FakeLine()
        arrivals.store(one, image, *uids)
        assert one.key == key_of(str(pydicom.dcmread(image).SeriesInstanceUID))
        now = 1004.9
        assert not arrivals.complete()
        one.moved, now = 1004.9, 1009.0  # a large instance of it is coming
        assert not arrivals.complete()
        one.moved, one.key = 1009.0, "another series"  # on the same association
        assert len(arrivals.complete()) == 1 and not arrivals.complete()


def test_without_a_quiet_time_a_series_is_complete_when_it_is_released(settings, tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(receiving, "time", SimpleNamespace(monotonic=lambda: now))
    files = series(tmp_path, "s", 2)
    spool = Spool(settings.spool)
    with spool.opened():
        arrivals = Arrivals(settings, spool)
        lines = [FakeLine(), FakeLine()]
        for each, file in zip(lines, files, strict=True):
            arrivals.store(each, file, CT, str(pydicom.dcmread(file).SOPInstanceUID))
        lines[0].ended = lines[0].released = True
        assert not arrivals.complete()
        lines[1].ended = True  # without a release: its sender may come again
        assert not arrivals.complete()
        now += receiving.AFTER_A_BREAK
        (found,) = arrivals.complete()
        assert len(images_of(found)) == 2


def test_what_came_before_a_kill_waits_for_its_sender_and_is_then_complete(settings, tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(receiving, "time", SimpleNamespace(monotonic=lambda: now))
    files = series(tmp_path, "s", 2)
    spool = Spool(settings.spool)
    uids = [(CT, str(pydicom.dcmread(file).SOPInstanceUID)) for file in files]
    with spool.opened():
        Arrivals(settings, spool).store(FakeLine(), files[0], *uids[0])
        (settings.spool / "receiving/empty/images").mkdir(parents=True)  # killed before its first image was there
        arrivals = Arrivals(settings, spool)
        assert not arrivals.complete()
        arrivals.store(again := FakeLine(), files[1], *uids[1])
        again.ended = again.released = True
        (found,) = arrivals.complete()
        assert len(images_of(found)) == 2
        now += receiving.AFTER_A_BREAK
        assert not arrivals.complete() and not list((settings.spool / "receiving").iterdir())


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls(tmp_path_factory) -> Tls:
    """A certificate for this machine, which is its own authority."""
    if shutil.which("openssl") is None:
        pytest.skip("missing tool: openssl (scripts/system-packages installs it)")
    place = tmp_path_factory.mktemp("tls")
    cert, key = place / "cert.pem", place / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return Tls(cert, key, cert)


def test_tls_both_ways_and_strangers_without_a_certificate(settings, segmentation, tls, tmp_path, monkeypatch):
    monkeypatch.setattr(receiving, "TO_ASSOCIATE", 2)
    files = series(tmp_path, "s", 2)
    with receiver(replace(settings, tls=tls)) as node:
        with socket.create_connection(("127.0.0.1", node.port)):  # says nothing: others are served all the same
            assert send(node.port, files, tls=(tls.client(), "127.0.0.1")) == [0, 0]
        stranger = ssl.create_default_context(cafile=str(tls.ca))
        plain = socket.create_connection(("127.0.0.1", node.port), timeout=10)
        with pytest.raises(OSError), stranger.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped:
            wrapped.sendall(b"\1\0\0\0\0\4abcd")
            if not wrapped.recv(10):
                raise ConnectionResetError
        wait_until(lambda: len(node.arrivals.complete()) == 1, "the series")
        with archive(tls=tls.server()) as to:
            to_send(node.spool, segmentation)
            peer = Peer("ARCHIVE", "127.0.0.1", to.port)
            assert Sender(replace(settings, to=peer, tls=tls, to_tls=True), node.spool).step() == 0
            assert to.count == 1


def test_files_for_tls_that_cannot_be_used(settings, tmp_path):
    (tmp_path / "no.pem").write_text("no certificate")
    with pytest.raises(DataError, match="cannot be used"):
        Tls(tmp_path / "no.pem", tmp_path / "no.pem").server()


def test_problems_are_named_without_paths(tmp_path):
    spool = Spool(tmp_path / "spool")
    with spool.opened():
        there = tmp_path / "spool/waiting/1-abc"
        (there / IMAGES).mkdir(parents=True)
        place = spool.fail(there, [Problem(str(there), "is odd", "look at it")])
        assert json.loads((place / "why.json").read_text()) == [{"what": "is odd", "fix": "look at it"}]
        assert not (place / MADE).exists()


# --- the worker -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    from pocketseg.server.worker import load

    return load(MODEL)


def test_images_without_a_place_in_a_patient_have_a_segmentation_each(tmp_path, model):
    """Those of ultrasound: they may differ in size, and one that fails does not keep the others back."""
    from pocketseg.node.worker import segmented

    place = series(tmp_path, "us", 3)[0].parent
    for at, file in enumerate(sorted(place.iterdir())):
        image = pydicom.dcmread(file)
        for key in ("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness"):
            delattr(image, key)
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
        image.Rows, image.PixelData = 24 - at, image.PixelData[: (24 - at) * 28 * 2]
        if at == 2:
            image.PixelData = b"\0\0"
        pydicom.dcmwrite(file, image, enforce_file_format=True)
    found = segmented(model, place, tmp_path / "out")
    made = [pydicom.dcmread(file) for file in sorted((tmp_path / "out").glob("*.dcm"))]
    assert found["made"] == 2 and [each.Rows for each in made] == [24, 23]
    assert len({each.SOPInstanceUID for each in made}) == 2 and "PatientOrientation" in made[0]
    (problem,) = found["problems"]
    assert "damaged or cut off" in problem["what"] and str(tmp_path) not in json.dumps(found)


def test_a_series_that_cannot_be_segmented_says_why(tmp_path, model):
    from pocketseg.node.worker import segmented

    place = series(tmp_path, "same", 2, step=0.0)[0].parent
    found = segmented(model, place, tmp_path / "out")
    assert (found["made"], found["again"]) == (0, "") and "same place" in found["problems"][0]["what"]
