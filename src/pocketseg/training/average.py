"""Averaged weights: the net that is validated and kept is a running mean of those that the optimizer made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """An exponential moving average of every number of a net, running statistics of norms included.

    average ← d · average + (1 − d) · weights after step t, with d = min(decay, (1 + t) / (10 + t)), so that the random
    weights of the start fade in short trainings too. Averages of the iterates of gradient descent: Polyak and Juditsky
    (1992).

    Args:
        net: whose numbers are averaged; it stays as it is.
        decay: d, of long trainings.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        # Views of the net's own numbers, which training changes in place.
        self.live = {name: value for name, value in net.state_dict().items() if value.is_floating_point()}
        self.tensors = {name: value.clone() for name, value in self.live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after a step, counted from 1, into the average."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.tensors.values()), list(self.live.values()), 1 - decay)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from an average that was saved."""
        self._put(tensors, self.tensors)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The net has the averaged numbers for the length of a block."""
        before = {name: value.clone() for name, value in self.live.items()}
        self._put(self.tensors, self.live)
        try:
            yield
        finally:
            self._put(before, self.live)

    @staticmethod
    @torch.no_grad()
    def _put(values: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
        for name, value in into.items():
            value.copy_(values[name])
