"""Every kernel that fits, asked for by name: the bytes of the kernels that the library would choose."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.packed_models import asking, packed
from pocketseg.engine.library import kernel_names
from pocketseg.engine.session import Session
from pocketseg.nets import build
from pocketseg.packing.compile import file_of, program_of

pytestmark = pytest.mark.usefixtures("isa")

CODES = [
    ("thin_unet_w32_n4_separable", "w8a8"), ("thin_unet", "w1a1"), ("mk_unet", "residual w2a2"),
    ("fixed_point_unet", "fixed Q8.8/Q8.8"), ("thin_unet", "w4a4"),
]  # fmt: skip


def image(seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 1, 40, 24)).astype(np.float32)


def forced(plain: bytes) -> dict[str, Session]:
    """By name, the net with that kernel wherever it fits; names that fit nowhere are left out."""
    count = len(Session(plain, "here").kernels)
    found = {name: Session(asking(plain, dict.fromkeys(range(count), name)), "here", 2) for name in kernel_names()}
    return {name: session for name, session in found.items() if name in session.kernels}


@pytest.mark.parametrize("model", CODES, ids=str)
def test_codes(model, isa):
    plain = Session(packed(*model), "here")
    expected = plain(image())
    assert len(np.unique(expected)) > 20
    sessions = forced(packed(*model))
    assert {kernel for kernel in plain.kernels if kernel and "separable" not in kernel} - {plain.kernels[0]} <= set(
        sessions
    )
    for name, session in sessions.items():
        assert np.array_equal(session(image()), expected), name
    # Those of the sets before this one are among them; the image has one kernel only.
    sets = {name.split("/")[0] for name in sessions}
    assert isa in sets and "scalar" in sets
    assert ("avx2" in sets) == (isa in ("avx2", "avxvnni", "avx512")) <= ("sse41" in sets)


def test_signs_have_several_forms():
    fitting = forced(packed("thin_unet", "w1a1"))
    assert {"scalar/convolution_bits_bits", "scalar/convolution_codes", "scalar/convolution_wide"} <= set(fitting)
    isa = Session(packed(), "here").isa
    if isa != "scalar":
        counting = {"avxvnni": "avx2", "dotprod": "neon"}.get(isa, isa)
        assert {f"{counting}/convolution_bits", f"{isa}/convolution_codes"} <= set(fitting)


def float_net(conv: str) -> bytes:
    net = build("thin_unet", 1, 1, seed=2, width=8, blocks=2, conv=conv)
    return file_of(program_of(net.core.eval(), 1), {})


@pytest.mark.parametrize("conv", ["plain", "separable"])
def test_f32(conv):
    plain = float_net(conv)
    expected = Session(plain, "here")(image())
    sessions = forced(plain)
    assert len(sessions) >= 4 and len(np.unique(expected)) > 20
    for name, session in sessions.items():
        assert np.abs(session(image()) - expected).max() < 1e-4 * max(1, np.abs(expected).max()), name


def test_the_kernel_that_is_reported_is_the_one_that_runs(isa, monkeypatch):
    """Plain kernels, and those for SSE4.1, round every product of an f32 net; the others do not: results tell."""
    plain = float_net("plain")
    session = forced(plain)["scalar/convolution_float"]
    found, chosen = session(image()), Session(plain, "here")(image())
    monkeypatch.setenv("POCKETSEG_ISA", "scalar")
    assert np.array_equal(found, Session(plain, "here")(image()))
    assert np.array_equal(found, chosen) == (isa in ("scalar", "sse41"))
