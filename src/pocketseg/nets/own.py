"""A net that somebody else wrote, made ready to be packed and run beside those of the catalog."""

from __future__ import annotations

import copy
import io
from contextlib import redirect_stderr

import torch
from torch import Tensor, nn

from pocketseg.errors import ModelFileError
from pocketseg.text import counted

# Strides that are looked for; a net with more poolings leaves nothing of a small image.
STRIDES = (1, 2, 4, 8, 16, 32, 64, 128)


class OwnNet(nn.Module):
    """A net and what height and width of its images are multiples of, which it need not know itself."""

    def __init__(self, net: nn.Module, stride: int) -> None:
        super().__init__()
        self.net, self.stride = net, stride

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits


def own_net(module: nn.Module, in_channels: int, out_channels: int) -> OwnNet:
    """A copy of a segmentation net, in evaluation on the CPU in f32, with its stride.

    Args:
        module: images (n, in_channels, h, w) to logits (n, out_channels, h, w); it stays as it is.
        in_channels: of its images.
        out_channels: 1 for one class, classes + 1 for several, background first.

    Raises:
        ModelFileError: it gives something else, for images of every size that was tried.
    """
    return with_stride(copy.deepcopy(module).cpu().float().eval(), in_channels, out_channels)


def with_stride(net: nn.Module, in_channels: int, out_channels: int) -> OwnNet:
    """The net with its stride; args and errors: as `own_net`. It stays as it is, its running statistics too."""
    training = net.training
    try:
        return OwnNet(net.eval(), _stride(net, in_channels, out_channels)).train(training)
    finally:
        net.train(training)


@torch.inference_mode()
def _stride(net: nn.Module, in_channels: int, out_channels: int) -> int:
    """What height and width have to be multiples of: the smallest number that works for images of any shape."""
    what = ""
    for stride in STRIDES:
        shapes = [(2 * stride, 3 * stride), (3 * stride, 5 * stride)]
        try:
            with redirect_stderr(io.StringIO()):  # a traced module prints its code there
                found = [net(torch.zeros(2, in_channels, *shape)) for shape in shapes]
        except Exception as error:  # whatever a foreign forward raises for a size that it cannot take
            what = what or f"cannot run on an image of {counted(in_channels, 'channel')} ({str(error).splitlines()[0]})"
            continue
        wanted = [(2, out_channels, *shape) for shape in shapes]
        if all(isinstance(each, Tensor) for each in found):
            if [tuple(each.shape) for each in found] == wanted:
                return stride
            what = f"gives {tuple(found[0].shape)} for images {(2, in_channels, *shapes[0])}, not {wanted[0]}"
        else:
            what = f"gives a {type(found[0]).__name__}, not a tensor of logits"
    fix = "give a net of images (n, c, h, w) to logits (n, k, h, w), with k 1 for one class, classes + 1 for several"
    raise ModelFileError(type(net).__name__, what, fix)
