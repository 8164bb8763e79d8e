"""The session: types, shapes, memory, threads, and what it says when something is wrong."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from helpers.packed_models import packed
from pocketseg.engine import library as native
from pocketseg.engine.session import Session
from pocketseg.engine.verification import generated, recorded, verified
from pocketseg.errors import DataError, EnvironmentProblem, ModelFileError


def image(height=16, width=24, seed=1):
    return generated(1, height, width, seed)[None]


def test_facts():
    session = Session(packed(), "here")
    assert (session.in_channels, session.out_channels, session.multiple) == (1, 1, 4)
    assert session.isa in ("avx512", "avxvnni", "avx2", "sse41", "dotprod", "neon", "scalar")


@pytest.mark.parametrize(
    ("batch", "what"),
    [
        (np.zeros((1, 1, 16, 16)), r"float64 \(1, 1, 16, 16\)"),
        (np.zeros((1, 16, 16), np.float32), r"takes float32 \(n, c, h, w\)"),
        (np.zeros((1, 3, 16, 16), np.float32), "has 3 channels"),
        (np.zeros((1, 1, 15, 16), np.float32), "needs multiples of 4"),
        (np.zeros((1, 1, 0, 16), np.float32), "sides are 1 to"),
        (np.zeros((0, 1, 65536, 4), np.float32), "sides are 1 to"),
        ([[1.0]], "is list"),
    ],
)
def test_wrong_input_is_reported(batch, what):
    with pytest.raises(DataError, match=what):
        Session(packed(), "here")(batch)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_reported(value):
    session = Session(packed(), "here")
    batch = image()
    expected = session(batch)
    batch[0, 0, 3, 3] = value
    with pytest.raises(DataError, match="nan or inf"):
        session(batch)
    assert np.array_equal(session(image()), expected)


def test_a_view_with_gaps_and_no_image_at_all():
    session = Session(packed(), "here")
    wide = np.repeat(image(), 2, axis=3)
    assert np.array_equal(session(wide[..., ::2]), session(image()))
    assert session(np.zeros((0, 1, 8, 8), np.float32)).shape == (0, 1, 8, 8)


@pytest.mark.row("N05")
def test_images_of_a_batch_do_not_meet():
    session = Session(packed("mk_unet", "w8a8"), "here")
    batch = np.concatenate([image(seed=seed) for seed in range(3)])
    together = session(batch)
    for index in range(3):
        assert np.array_equal(together[index], session(batch[index : index + 1])[0])


class Raw:
    """The C interface without the session: memory at any place, of any content."""

    def __init__(self, content: bytes, height: int, width: int, threads: int = 1) -> None:
        self.library, self.model, size = native.library(), ctypes.c_void_p(), ctypes.c_size_t()
        assert self.library.pseg_open(content, len(content), ctypes.byref(self.model)) == 0
        assert self.library.pseg_plan(self.model, height, width, threads, ctypes.byref(size)) == 0
        self.arena_bytes = size.value

    def run(self, image, offset: int, fill: int, short: int = 0):
        """The status, the logits, and the guards before and behind the arena."""
        memory = np.full(self.arena_bytes + 256, fill, np.uint8)
        start = 64 - memory.ctypes.data % 64 + offset
        memory[:start] = memory[start + self.arena_bytes :] = 0x5A
        logits = np.full_like(image, 7)
        size = self.arena_bytes - short
        status = self.library.pseg_run(
            self.model, image.ctypes.data, logits.ctypes.data, memory.ctypes.data + start, size
        )
        guards = np.concatenate([memory[:start], memory[start + self.arena_bytes :]])
        return status, logits, guards, memory[start : start + self.arena_bytes]


@pytest.mark.row("N06", "N07")
@pytest.mark.parametrize("model", [("thin_unet", "w2a8"), ("mk_unet", "residual w2a2"), ("mk_unet", "w4")], ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_the_arena_is_as_large_as_was_said(model, threads):
    """Guards stay whole, whatever lay in the memory and wherever it begins; all but its slack was needed."""
    raw = Raw(packed(*model), 16, 24, threads)
    expected = Session(packed(*model), "here")(image())[0, 0]
    for offset in range(64) if threads == 3 else (0, 1, 7, 32, 63):
        for fill in (0x00, 0xAA, 0xFF):
            status, logits, guards, inside = raw.run(image()[0, 0], offset, fill)
            assert status == 0 and np.array_equal(logits, expected)
            assert (guards == 0x5A).all()
    touched = np.flatnonzero(inside != fill)
    assert touched.min() < 64 + 64 and raw.arena_bytes - touched.max() < 64 + 64 + 256 * threads
    assert raw.run(image()[0, 0], 0, 0, short=1)[0] == native.BAD_ARGUMENT


@pytest.mark.row("N07")
def test_images_and_logits_begin_anywhere():
    """At each of the 16 places that an f32 may have in 64 bytes."""
    raw = Raw(packed("mk_unet", "w4"), 16, 24)
    expected = Session(packed("mk_unet", "w4"), "here")(image())[0, 0]
    for first in range(16):
        for second in range(16):
            memory, logits = np.zeros(16 * 24 + 32, np.float32), np.zeros(16 * 24 + 32, np.float32)
            start, end = (-memory.ctypes.data // 4 + first) % 16, (-logits.ctypes.data // 4 + second) % 16
            memory[start : start + 16 * 24] = image().reshape(-1)
            arena = np.empty(raw.arena_bytes, np.uint8)
            places = (each.ctypes.data + 4 * at for each, at in ((memory, start), (logits, end)))
            assert raw.library.pseg_run(raw.model, *places, arena.ctypes.data, arena.size) == 0
            assert np.array_equal(logits[end : end + 16 * 24].reshape(16, 24), expected)
            assert not logits[:end].any() and not logits[end + 16 * 24 :].any()


@pytest.mark.row("N04")
@pytest.mark.parametrize("model", [("thin_unet", "w2a8"), ("mk_unet", "w4")], ids=str)
def test_any_number_of_threads_gives_the_same_bytes(model):
    batch = image(40, 56)
    expected = Session(packed(*model), "here")(batch).tobytes()
    for threads in (2, 3, 4, 8, 16):
        session = Session(packed(*model), "here", threads)
        assert all(session(batch).tobytes() == expected for _ in range(20))


@pytest.mark.row("S15", "N07")
def test_arrays_of_every_kind():
    """Read-only, overlapping, turned, with gaps, of another byte order, of no size: the same bytes, or an error."""
    session = Session(packed("mk_unet", "w4"), "here")
    batch = np.concatenate([image(seed=seed) for seed in (1, 2)])
    expected = session(batch)
    fixed = batch.copy()
    fixed.flags.writeable = False
    assert np.array_equal(session(fixed), expected)
    assert np.array_equal(session(batch[::-1]), expected[::-1])
    assert np.array_equal(session(np.asfortranarray(batch)), expected)
    assert np.array_equal(session(np.ascontiguousarray(batch.transpose(2, 3, 0, 1)).transpose(2, 3, 0, 1)), expected)
    same = np.lib.stride_tricks.as_strided(batch, strides=(0, *batch.strides[1:]))
    assert np.array_equal(session(same), expected[[0, 0]])
    rows = np.lib.stride_tricks.as_strided(batch, (1, 1, 16, 24), (0, 0, 4, 4))
    assert np.array_equal(session(rows), session(rows.copy()))
    for wrong in (batch.astype(">f4"), batch.astype(np.float16), batch.astype(object), np.zeros((0,), np.float32)):
        with pytest.raises(DataError, match="the engine takes float32"):
            session(wrong)


@pytest.mark.row("S11")
def test_a_file_that_says_it_has_more_than_2_gib():
    library, model = native.library(), ctypes.c_void_p()
    assert library.pseg_open(packed(), 2**31 + 1, ctypes.byref(model)) == native.TOO_LARGE
    library.pseg_close(model)


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.row("S15")
@pytest.mark.skipif(sys.platform != "linux", reason="memory is looked up in /proc")
@pytest.mark.parametrize("times", [2_000, pytest.param(100_000, marks=pytest.mark.slow("more of the same"))])
def test_opening_and_freeing_leaves_nothing(times):
    """Good files and bad ones, planned and run; after some hundred the memory grows no more."""
    content, damaged = packed(), packed()[:-1]

    def cycle(number: int) -> None:
        session = Session(content, "here", 1 + number % 100 // 99)
        if number % 10 == 0:
            session(image(8, 8))
        with pytest.raises(ModelFileError):
            Session(damaged, "here")

    for number in range(500):
        cycle(number)
    gc.collect()
    before = rss_bytes()
    for number in range(times):
        cycle(number)
    gc.collect()
    assert rss_bytes() - before < 4 * 2**20


def test_run_before_plan_and_null_pointers():
    library, model = native.library(), ctypes.c_void_p()
    assert library.pseg_open(packed(), len(packed()), ctypes.byref(model)) == 0
    assert library.pseg_run(model, None, None, None, 0) == native.BAD_ARGUMENT
    assert b"pseg_plan comes first" in library.pseg_error(model)
    assert library.pseg_plan(model, 8, 8, 0, ctypes.byref(ctypes.c_size_t())) == native.BAD_ARGUMENT
    assert library.pseg_plan(model, 8, 8, 1, None) == native.BAD_ARGUMENT
    assert library.pseg_plan(None, 8, 8, 1, None) == native.BAD_ARGUMENT
    library.pseg_close(model)
    library.pseg_close(None)


def test_kernels_of_what_is_not_there():
    library, model = native.library(), ctypes.c_void_p()
    assert library.pseg_open(b"x", 1, ctypes.byref(model)) == native.NOT_A_MODEL
    assert library.pseg_kernel(model, 0) == library.pseg_kernel(None, 0) == b""
    library.pseg_close(model)
    count = len(Session(packed(), "here").kernels)
    assert library.pseg_open(packed(), len(packed()), ctypes.byref(model)) == 0
    assert library.pseg_kernel(model, count - 1) == library.pseg_isa(model) + b"/logits"
    assert library.pseg_kernel(model, count) == library.pseg_kernel(model, 2**32 - 1) == b""
    library.pseg_close(model)
    assert library.pseg_kernel_name(2**32 - 1) == b""


def test_memory_grows_with_the_image():
    session = Session(packed(), "here")
    sizes = [session.arena_bytes(side, side) for side in (32, 64, 128, 512, 1024)]
    assert sizes == sorted(sizes) and 1.9 < sizes[4] / sizes[3] < 4.1
    with pytest.raises(ModelFileError, match=r"needs [0-9]* bytes: too much"):
        session.arena_bytes(32768, 32768)


def test_codes_take_less_memory_than_f32():
    assert Session(packed("thin_unet", "w8a8"), "x").arena_bytes(64, 64) < 0.6 * Session(
        packed("thin_unet", "w4"), "x"
    ).arena_bytes(64, 64)


@pytest.mark.row("S15")
def test_one_session_in_many_threads():
    session = Session(packed("mk_unet", "w8a8"), "here")
    images = [image(seed=seed) for seed in range(16)]
    expected = [session(each) for each in images]
    found: list[object] = [None] * 16

    def work(index: int) -> None:
        for _ in range(5):
            found[index] = session(images[index])

    workers = [threading.Thread(target=work, args=(index,)) for index in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_sessions_are_freed():
    closed = []
    session = Session(packed(), "here")
    import weakref

    weakref.finalize(session, closed.append, True)
    del session
    gc.collect()
    assert closed
    for _ in range(200):
        Session(packed(), "here")


@pytest.mark.parametrize(("value", "good"), [("scalar", True), ("abacus", False)])
def test_forced_kernels(monkeypatch, value, good):
    monkeypatch.setenv("POCKETSEG_ISA", value)
    if good:
        assert Session(packed(), "here").isa == "scalar"
    else:
        with pytest.raises(EnvironmentProblem, match="POCKETSEG_ISA=abacus is not offered"):
            Session(packed(), "here")


def test_threads_are_counted():
    for threads in (0, 257):
        with pytest.raises(DataError, match="take 1 to 256"):
            Session(packed(), "here", threads)


def test_the_engine_needs_no_torch():
    code = "import sys, pocketseg.engine.session, pocketseg.predictors; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_library_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(native, "library_file", lambda: tmp_path / "libpocketseg.so")
    native.library.cache_clear()
    with pytest.raises(EnvironmentProblem, match="install pocketseg again"):
        Session(packed(), "here")
    native.library.cache_clear()


# --- verification -----------------------------------------------------------------------------------------


def test_verified_exactly():
    session = Session(packed(), "here")
    record = recorded(session, exact=True)
    found = verified(session, record)
    assert found.exact and found.difference == 0
    other = Session(packed("thin_unet", "w8a8"), "there")
    with pytest.raises(ModelFileError, match="there: gives other bytes"):
        verified(other, record)


def test_verified_within_a_tolerance():
    session = Session(packed(), "here")
    record = recorded(session, exact=False)
    assert verified(session, record).difference == 0
    record["logits"][1][5] += record["tolerance"] / 2
    assert 0 < verified(session, record).difference <= record["tolerance"]
    record["logits"][1][5] += record["tolerance"] * 2
    with pytest.raises(ModelFileError, match=r"differ by .* \(allowed 1"):
        verified(session, record)
    record["logits"][0][5] = float("nan")
    with pytest.raises(ModelFileError, match="differ by nan"):
        verified(session, record)


@pytest.mark.parametrize(
    "change",
    [{"sizes": []}, {"sizes": [[4096, 4096]]}, {"kind": "other"}, {"sizes": None}, {"logits": [[1.0]]}, {"logits": []}],
    ids=str,
)
def test_records_that_are_none(change):
    session = Session(packed(), "here")
    with pytest.raises(ModelFileError, match="no valid verification"):
        verified(session, {**recorded(session, exact=False), **change})


@pytest.mark.parametrize(
    "change",
    [
        {"tolerance": float("inf")},
        {"tolerance": 1.0},
        {"tolerance": float("nan")},
        {"tolerance": -1.0},
        {"sizes": [[float("inf"), 32]]},
        {"sizes": [[-32, 32]]},
        {"sizes": [[True, 32]]},
        {"sizes": [["32", 32]]},
        {"sizes": [[1024, 1024]] * 5},
        {"seed": float("nan")},
        {"seed": "1"},
        {"logits": [[1.0], [1.0]]},
        {"logits": [[float("nan")] * 64] * 2},
    ],
    ids=lambda change: str(change)[:50],
)
def test_a_record_cannot_make_everything_equal(change):
    session = Session(packed(), "here")
    with pytest.raises(ModelFileError):
        verified(session, {**recorded(session, exact=False), **change})


@pytest.mark.row("P13")
def test_a_net_that_gives_nan_gets_no_record():
    class Broken:
        where, in_channels, multiple = "here", 1, 4

        def __call__(self, batch):
            return np.full_like(batch, np.nan)

    for exact in (True, False):
        with pytest.raises(ModelFileError, match="NaN"):
            recorded(Broken(), exact)
