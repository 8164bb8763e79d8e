"""One image, one answer: in tiles and whole, in torch and in ONNX Runtime, with and without VNNI."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import pocketseg
from pocketseg.data import Cases
from pocketseg.pipeline import to_probabilities

SIDE = 256


def reach(forward, multiple: int) -> int:
    """How far an input pixel is felt, in steps of the net's stride."""
    rng = np.random.default_rng(0)
    one = rng.standard_normal((1, 1, SIDE, SIDE), np.float32)
    other = one.copy()
    other[:, :, :, : SIDE // 4] = rng.standard_normal((1, 1, SIDE, SIDE // 4), np.float32)
    felt = np.nonzero((forward(one) != forward(other)).any((0, 1, 2)))[0].max() - SIDE // 4 + 1
    return -(-int(felt) // multiple) * multiple


@pytest.mark.row("N05")
@pytest.mark.parametrize(("backend", "allowed"), [("pseg", 0.0), ("torch", 1e-5)])
def test_a_tile_is_its_part_of_the_whole(trained_run, backend, allowed):
    """Where the overlap is as wide as the net sees. Tiles lie on its stride."""
    model = pocketseg.load(trained_run, backend=backend, threads=1)
    forward, multiple = model.forward, model.pipeline.multiple
    margin = reach(forward, multiple)
    assert 0 < margin < SIDE // 4
    image = np.random.default_rng(1).standard_normal((1, 1, SIDE, SIDE), np.float32)
    whole = forward(image)
    for top, left in ((0, 0), (multiple, 5 * multiple), (SIDE - 160, SIDE - 160)):
        part = forward(np.ascontiguousarray(image[:, :, top : top + 160, left : left + 160]))
        inner = (..., slice(margin, 160 - margin), slice(margin, 160 - margin))
        expected = whole[:, :, top : top + 160, left : left + 160][inner]
        assert part[inner].size > 1000 and expected.std() > 0
        assert np.abs(part[inner] - expected).max() <= allowed
        sure = np.abs(to_probabilities(expected) - 0.5) > allowed
        assert np.array_equal((part[inner] >= 0)[sure], (expected >= 0)[sure])


@pytest.mark.row("N05")
@pytest.mark.parametrize(("backend", "allowed"), [("pseg", 0.0), ("torch", 1e-5)])
def test_an_image_alone_is_what_it_is_among_others(trained_run, backend, allowed):
    forward = pocketseg.load(trained_run, backend=backend, threads=1).forward
    batch = np.random.default_rng(1).standard_normal((8, 1, 32, 32), np.float32)
    together = forward(batch)
    for image, logits in zip(batch, together, strict=True):
        assert np.abs(forward(image[None])[0] - logits).max() <= allowed


@pytest.mark.row("N10")
def test_onnx_gives_what_torch_gives(trained_run, exported, phantom_data):
    """100 noise images and 100 phantoms: absolute differences of logits, and pixels only where it is a tie."""
    torch, onnx = (pocketseg.load(trained_run, backend=name, threads=1) for name in ("torch", "onnx"))
    rng = np.random.default_rng(0)
    cases = Cases.open(phantom_data)
    phantoms = [np.roll(cases.image(cases[index % len(cases)]), index, 1) for index in range(100)]
    images = [*rng.integers(0, 256, (100, 48, 48)).astype(np.uint8), *phantoms]
    batch = np.stack([torch.pipeline.prepare(image) for image in images])
    ours, theirs = torch.forward(batch), onnx.forward(batch)
    assert np.isfinite(ours).all() and np.isfinite(theirs).all() and ours.std() > 0.1
    assert np.abs(ours - theirs).max() <= 1e-4
    differs = (ours >= 0) != (theirs >= 0)
    assert differs.mean() <= 1e-5
    assert (np.abs(to_probabilities(ours) - 0.5)[differs] < 1e-4).all()


# --- int8 without VNNI --------------------------------------------------------------------------------------

RUN = """
import sys
import numpy as np
from pathlib import Path
from pocketseg.predictors import load_onnx, load_openvino
from pocketseg.predictors.int8 import saturates
batch = np.load("batch.npy")
found = [load(Path("model.onnx"), 1).forward(batch) for load in (load_onnx, load_openvino)]
np.savez(sys.argv[1], saturates=saturates(), onnx=found[0], openvino=found[1])
"""


@pytest.mark.slow("Python and two runtimes in an emulator")
@pytest.mark.row("N13")
def test_int8_in_runtimes_with_and_without_vnni(tmp_path, tool):
    """An emulated Haswell has AVX2 and no VNNI, so pairs of 8-bit products saturate: runtimes then compute in f32."""
    emulator = tool("qemu-x86_64")
    from helpers.quantized_nets import picture, trained
    from pocketseg.exporters import export_onnx
    from pocketseg.pipeline import Pipeline
    from pocketseg.quant import integer_net

    whole = integer_net(trained("thin_unet", "w8a8").core)
    export_onnx(whole, Pipeline(size=(32, 48)), {"quant": {"scheme": "w8a8"}}, tmp_path / "model.onnx")
    np.save(tmp_path / "batch.npy", np.clip(picture(4, 1, 32, 48, seed=3).numpy() * 3, -10, 10))
    found = {}
    for name, before in (("here", []), ("haswell", [emulator, "-cpu", "Haswell"])):
        command = [*before, sys.executable, "-c", RUN, f"{name}.npz"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=300)
        found[name] = np.load(tmp_path / f"{name}.npz")
    assert found["haswell"]["saturates"]
    for runtime in ("onnx", "openvino"):
        assert np.isfinite(found["haswell"][runtime]).all()
        # What rounds to another code beside a tie differs a little; saturated sums moved 4 to 9 % of these pixels.
        assert ((found["here"][runtime] >= 0) != (found["haswell"][runtime] >= 0)).mean() <= 0.002
