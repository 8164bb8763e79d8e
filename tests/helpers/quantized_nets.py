"""Five small nets under every scheme, each trained once in a process."""

from __future__ import annotations

import copy
from functools import cache

import torch
from torch.nn.utils import clip_grad_norm_

from helpers.nets import picture
from pocketseg.nets import AnySize, build
from pocketseg.quant import Scheme, calibrate, quantize_net

NETS = {
    "thin_unet": {"width": 6, "blocks": 2},
    "thin_unet_w32_n4_separable": {"width": 8, "blocks": 2},
    "fixed_point_unet": {"width": 4, "levels": 2},
    "mk_unet": {"width": 4, "levels": 2},
    "mobilenet_v1_025_unet": {"width": 4, "levels": 2, "encoder_blocks": 3},
}
SCHEMES = [
    "w8a8", "w4a8", "w2a8", "wint2a8", "w4a4", "w1a8", "w2a1", "w1a1", "fixed Q0.4/Q6.0", "fixed Q8.8/Q8.8",
    "power-of-two Q0.4/Q6.0", "power-of-two Q1.8/Q4.4", "residual w2a2", "residual w3a3",
]  # fmt: skip
# Which no engine carries.
PUBLISHED = ["compat int 4/6", "compat fixed Q0.4/Q6.0", "compat powers Q0.4/Q6.0", "compat bnn"]


def trained(name: str, text: str) -> AnySize:
    return copy.deepcopy(_trained(name, text))


@cache
def _trained(name: str, text: str) -> AnySize:
    return lived(name, Scheme(text))


def lived(name: str, scheme: Scheme) -> AnySize:
    """A net with a life behind it: float steps, quantized, calibrated, and steps with its quantizers.

    The same one each time: what its dropout takes has a seed, and no step is so long that numbers overflow.
    """
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return _lived(name, scheme)


def _lived(name: str, scheme: Scheme) -> AnySize:
    net = build(name, 1, 1, seed=7, **NETS[name])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for quantized in (False, True):
        if quantized:
            quantize_net(net.core, scheme)
            calibrate(net.core, [picture(4, 1, 16, 24, seed=seed) for seed in range(3)])
            optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        for seed in range(4):
            images = picture(4, 1, 16, 24, seed=seed)
            net.train()(images).sub(images).square().mean().backward()
            clip_grad_norm_(net.parameters(), 100)
            optimizer.step()
            optimizer.zero_grad()
    return net
