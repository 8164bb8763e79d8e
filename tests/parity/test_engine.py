"""The engine beside torch's evaluation on integers, to the bit: every scheme on four nets, fused and not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exact import exact

from helpers.quantized_nets import NETS, SCHEMES, picture, trained
from pocketseg.engine import program as p
from pocketseg.engine.codec import decode, encode
from pocketseg.engine.session import Session
from pocketseg.halves import from_halves, to_halves
from pocketseg.nets import build
from pocketseg.packing.compile import file_of, program_of
from pocketseg.packing.lower import lowered
from pocketseg.packing.passes import PASSES, optimized
from pocketseg.packing.schedule import scheduled
from pocketseg.quant import Scheme, calibrate, integer_net, quantize_net

every_net = pytest.mark.parametrize("name", NETS)
every_scheme = pytest.mark.parametrize("text", [*SCHEMES, "w4", "residual w2", "w32a8"])

pytestmark = pytest.mark.usefixtures("isa")


def session(program, threads=1):
    return Session(file_of(program, {}), "here", threads)


@pytest.mark.row("N01")
@every_net
@every_scheme
def test_the_engine_equals_the_integer_net(name, text):
    whole = integer_net(trained(name, text).core)
    images = picture(2, 1, 24, 16, seed=9) * (20 if "Q6.0" in text else 1)
    logits = session(program_of(whole, 1))(images.numpy())
    with torch.no_grad():
        expected = exact(whole)(images).numpy()
    assert np.array_equal(logits, expected)
    # With Q0.4 most weights are 0.
    assert len(np.unique(logits)) > 20 or "Q0.4" in text


@pytest.mark.row("N01")
@pytest.mark.parametrize("text", ["w8a8", "w1a1", "residual w2a2", "w4"])
@pytest.mark.parametrize("up", ["nearest-conv", "transposed", "bilinear-corners"])
def test_every_way_up(text, up):
    """The four nets have neither a padding of its own, nor a transposed convolution, nor aligned corners."""
    net = build("unet", 1, 1, seed=3, width=4, levels=2, up=up)
    quantize_net(net.core, Scheme(text))
    calibrate(net.core, [picture(4, 1, 16, 24)])
    whole = integer_net(net.core)
    images = picture(1, 1, 16, 24, seed=8)
    logits = session(program_of(whole, 1))(images.numpy())
    with torch.no_grad():
        if up == "transposed":
            # torch's transposed convolution sums in an order of its own, and a code behind it may fall the other way.
            assert np.median(np.abs(logits - whole(images).numpy())) < 1e-5
        else:
            assert np.array_equal(logits, exact(whole)(images).numpy())


@every_net
@pytest.mark.parametrize("text", ["w8a8", "w2a1", "residual w2a2", "power-of-two Q1.8/Q4.4", "w32a8"])
def test_no_pass_changes_a_bit(name, text):
    """One more pass at a time, and neither fusion nor concatenation in place."""
    graph = lowered(integer_net(trained(name, text).core), 1)
    images = picture(1, 1, 16, 24, seed=3).numpy()
    plain = session(scheduled(graph, fuse=False))(images)
    shorter = [len(scheduled(graph, fuse=False).instructions)]
    for step in PASSES:
        graph = step(graph)
        for fuse in (False, True):
            program = scheduled(graph, fuse=fuse)
            assert np.array_equal(session(program)(images), plain), (step.__name__, fuse)
        shorter.append(len(program.instructions))
    assert shorter[-1] <= shorter[0] / 2


@every_net
@pytest.mark.parametrize("text", ["w8a8", "residual w2a2"])
def test_constants_in_16_bits_mean_what_was_rounded(name, text):
    whole = integer_net(trained(name, text).core)
    images = picture(1, 1, 16, 24, seed=6)
    program = program_of(whole, 1, constants="f16")
    plain_section, plain_data = encode(program_of(whole, 1))
    for module in whole.modules():
        for key in ("m", "b", "a", "c"):
            values = getattr(module, key, None)
            if isinstance(values, torch.Tensor):
                rows = [from_halves(*to_halves(row)) for row in values.reshape(-1, values.shape[-1]).numpy()]
                values.copy_(torch.from_numpy(np.stack(rows)).reshape(values.shape))
    rounded = integer_net(trained(name, text).core, "f16")
    assert all(torch.equal(values, rounded.state_dict()[key]) for key, values in whole.state_dict().items())
    # What is rounded in the net already needs no option of the packer.
    assert encode(program_of(rounded, 1)) == encode(program)
    with torch.no_grad():
        expected = exact(whole)(images).numpy()
    logits = session(program)(images.numpy())
    assert np.array_equal(logits, expected)
    assert sum(map(len, encode(program))) < len(plain_section) + len(plain_data)


@pytest.mark.parametrize("text", ["w8a8", "residual w3a3"])
def test_threads_change_nothing(text):
    program = program_of(integer_net(trained("mk_unet", text).core), 1)
    images = picture(1, 1, 40, 24, seed=4).numpy()
    first = session(program)(images)
    for threads in (2, 3, 16):
        assert np.array_equal(session(program, threads)(images), first)


@every_net
@pytest.mark.parametrize("text", ["w8a8", "w2a1", "residual w3a3", "fixed Q8.8/Q8.8"])
def test_program_and_bytes(name, text):
    program = program_of(integer_net(trained(name, text).core), 1)
    section, data = encode(program)
    assert encode(decode(section, data, "here")) == (section, data)


def test_codes_go_where_they_are_used():
    """No tensor between quantized convolutions of a plain net is f32; only what meets an upsampled one is copied."""
    program = program_of(integer_net(trained("thin_unet", "w8a8").core), 1)
    floats = [buffer for buffer in program.buffers if buffer.grid is None]
    assert len(floats) == 1 and floats[0].channels == program.out_channels
    assert not any(isinstance(each.operation, p.Pad) for each in program.instructions)

    def written(kind):
        return {each.writes[0].buffer for each in program.instructions if isinstance(each.operation, kind)}

    assert written(p.Copy) == written(p.Nearest)


def test_optimized_is_all_passes():
    net = build("unet", 1, 1, seed=1, width=4)
    graph = lowered(net.core.eval(), 1)
    assert len(optimized(graph).nodes) < len(graph.nodes)
