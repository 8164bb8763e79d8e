"""Which set of kernels is chosen for this processor, and what is said where the plain one runs."""

from __future__ import annotations

import logging
import platform
import sys
from pathlib import Path

import pytest

from helpers.packed_models import packed
from pocketseg.engine.session import Session
from pocketseg.flows.inspect_packed import inspect_packed
from pocketseg.predictors import load_pseg, open_pseg, pseg, warn_if_plain

MODEL = ("thin_unet_w32_n4_separable", "w8a8")
GOLDEN = Path(__file__).parents[2] / "golden/0.1.0/w8a8.pseg"
SSE41 = {"ssse3", "sse4_1"}
AVX2 = {"avx2", "fma", "popcnt"}
AVXVNNI = AVX2 | {"avx_vnni"}
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_vpopcntdq"}


@pytest.fixture(autouse=True)
def nothing_said_yet():
    warn_if_plain.cache_clear()
    yield
    warn_if_plain.cache_clear()


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="reads /proc/cpuinfo of x86-64")
def test_the_best_set_of_this_processor_runs(monkeypatch):
    """A compiler's own test of the processor said nothing was there, and the plain kernels ran in silence."""
    monkeypatch.delenv("POCKETSEG_ISA", raising=False)
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    flags = set(next(line for line in cpuinfo if line.startswith("flags")).split())
    sets = {"avx512": AVX512, "avxvnni": AVXVNNI, "avx2": AVX2, "sse41": SSE41, "scalar": set()}
    best = next(name for name, needs in sets.items() if flags >= needs)
    assert Session(packed(*MODEL), "here").isa in (best, *(["amx"] if "amx_int8" in flags else []))


def test_plain_kernels_are_reported_once(monkeypatch, caplog):
    monkeypatch.setenv("POCKETSEG_ISA", "scalar")
    with caplog.at_level(logging.WARNING, "pocketseg"):
        load_pseg(GOLDEN)
        open_pseg(GOLDEN)
        assert dict(inspect_packed(GOLDEN).metadata)["kernels"] == "scalar"
    assert [record.message.partition(": ")[2] for record in caplog.records] == ["POCKETSEG_ISA asks for them; unset it"]


@pytest.mark.parametrize(
    ("names", "why"),
    [(["scalar/max_pool"], "built without others"), (["avx2/max_pool", "scalar/max_pool"], "has no SSE4.1")],
)
def test_why_plain_kernels_run(names, why, monkeypatch, caplog):
    monkeypatch.delenv("POCKETSEG_ISA", raising=False)
    monkeypatch.setattr(pseg, "kernel_names", lambda: names)
    with caplog.at_level(logging.WARNING, "pocketseg"):
        warn_if_plain("scalar")
    assert why in caplog.text


def test_nothing_is_said_of_fast_kernels(caplog):
    session = Session(packed(*MODEL), "here")
    if session.isa == "scalar":
        pytest.skip("this machine has no fast set")
    with caplog.at_level(logging.WARNING, "pocketseg"):
        assert f"engine, {session.isa} kernels" in load_pseg(GOLDEN).runtime
        assert dict(inspect_packed(GOLDEN).metadata)["kernels"] == session.isa
    assert not caplog.records
