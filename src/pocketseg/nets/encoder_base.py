"""What every encoder has. It publishes what a decoder needs: the channels of its feature maps, from half the image's
size down, one for every halving.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """Base of the encoders.

    Attributes:
        in_channels: of the image.
        levels: how many times the image is halved.
        out_channels: of the feature maps, from half the image's size down.
        published: name of the published weight file, or None.
        package: the package that brings the file, and the extra that brings the package; None: it is downloaded.
        first: name of the first convolution's kernel, which depends on the image's channels.
        head: how the names of the classifier begin, which an encoder leaves out.
    """

    in_channels: int
    levels: int
    out_channels: tuple[int, ...]
    published: str | None = None
    package: tuple[str, str] | None = None
    first: str = ""
    head: tuple[str, ...] = ("fc.", "classifier.")

    @property
    def whole(self) -> bool:
        """Whether nothing of the published net but its classifier is missing."""
        return self.levels == 5

    def translate(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Published tensors under this encoder's names: no classifier, today's spelling, this many input channels.

        A shallow encoder takes what it has a place for; a whole one keeps unknown names, so that they are reported.
        """
        own = self.state_dict()
        # Files of 2017 write norm.1 for DenseNet's norm1, and are older than the norms' counters.
        found = {re.sub(r"\.(norm|relu|conv)\.([12])\.", r".\1\2.", name): value for name, value in tensors.items()}
        counters = {name: torch.zeros_like(own[name]) for name in own if name.endswith("num_batches_tracked")}
        found = {
            name: value
            for name, value in (counters | found).items()
            if name in own or (self.whole and not name.startswith(self.head))
        }
        if self.first in found and found[self.first].ndim == 4:
            found[self.first] = adapt_input_channels(found[self.first], self.in_channels)
        return found


def adapt_input_channels(kernel: Tensor, channels: int) -> Tensor:
    """RGB filters (o, 3, k, k) for images of another number of channels.

    One channel: their sum; two: red and green times 1.5; more than three: repeated in turn, times 3 / channels. So a
    gray image in every channel gives the same response each time.
    """
    if kernel.shape[1] != 3 or channels == 3:
        return kernel
    if channels == 1:
        return kernel.sum(1, keepdim=True)
    turns = [channel % 3 for channel in range(channels)]
    return kernel[:, turns] * (3 / channels)


def init_he_fan_out(net: nn.Module) -> None:
    """Normal kernels by the outputs that an input reaches (He et al. 2015), as the sources have it."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
