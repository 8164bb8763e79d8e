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
        self.net, self.decay = net, decay
        self.tensors = {name: value.detach().clone() for name, value in self._numbers().items()}

    def _numbers(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.net.state_dict().items() if value.is_floating_point()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after a step, counted from 1, into the average."""
        numbers = self._numbers()
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.tensors.values()), [numbers[name] for name in self.tensors], 1 - decay)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from an average that was saved."""
        for name, value in self.tensors.items():
            value.copy_(tensors[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The net has the averaged numbers for the length of a block."""
        numbers = self._numbers()
        before = {name: value.detach().clone() for name, value in numbers.items()}
        self._put(self.tensors, numbers)
        try:
            yield
        finally:
            self._put(before, numbers)

    @staticmethod
    @torch.no_grad()
    def _put(values: Mapping[str, Tensor], numbers: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            numbers[name].copy_(value)
