"""The nets of the catalog, small enough that a test of each takes a second."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pocketseg.nets import NETS, AnySize, build

# Widths at which the exam takes a second; the encoders have theirs.
NARROW = {
    "thin_unet": 4, "unet": 4, "separable_unet": 4, "fixed_point_unet": 4, "encoder_unet": 4, "mobile_unet": 4,
    "tiny_unet": 32,
}  # fmt: skip

every_net = pytest.mark.parametrize("name", NETS)


def narrow(name: str) -> dict[str, Any]:
    """Options that make a net of the catalog small enough for the exam."""
    return {"width": NARROW.get(NETS[name].function.__name__, 8)}


def make(name: str, in_channels: int = 1, out_channels: int = 1, seed: int = 0) -> AnySize:
    return build(name, in_channels, out_channels, seed=seed, **narrow(name))


def picture(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
