"""The module that trains with a quantizer, whatever its kind."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pocketseg.errors import RecipeError, TrainingError
from pocketseg.quant.codes import Codes, Planes, Spec, State, check_finite

# Weight of the newest batch in the moving average of activation ranges.
MOMENTUM = 0.1
# Values that a quantizer works on at a time on a CPU: a few MiB with all that is made of them.
CACHED = 2**20


class Quantizer(nn.Module):
    """Fake quantization with the spec's gradient in training; exactly `quantize(x).values()` in evaluation.

    Where the grid comes from:
    weights: measured on the weights themselves at every forward, so it is never stale, and nothing is held;
    activations: a moving average over training batches, held in the buffer `measured`, until `observing` is False;
    learned scale or gammas, of either: the parameter `scale`, which the first training batch (or `observe`) starts.

    Args:
        spec: the kind and its numbers.
        of: what is quantized.
        channels: length of the spec's axis, needed where state is held for channels.
        identity: pass the gradient of what is quantized on unchanged, whatever the spec says.

    Example:
        >>> from pocketseg.quant import Int
        >>> quantizer = Quantizer(Int(8, affine=True), of="activations")
        >>> _ = quantizer(torch.tensor([0.0, 2.55]))
        >>> quantizer.eval().quantize(torch.tensor([0.0, 0.01, 1.0, 9.0])).codes
        tensor([  0,   1, 100, 255], dtype=torch.int32)
    """

    measured: Tensor
    started: Tensor

    def __init__(
        self,
        spec: Spec,
        *,
        of: Literal["weights", "activations"],
        channels: int | None = None,
        identity: bool = False,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.of = of
        self.identity = identity
        self.observing = True
        self.held = spec.learned or (of == "activations" and spec.measures > 0)
        if not self.held:
            return
        if spec.axis is not None and channels is None:
            raise RecipeError(
                f"quant: {spec}", "has a scale for each channel, their number is missing", "give channels"
            )
        measured = torch.zeros(spec.measures, *([channels] if spec.axis is not None and channels else []))
        self.register_buffer("measured", measured)
        self.register_buffer("started", torch.tensor(False))
        if spec.learned:
            self.scale = nn.Parameter(torch.zeros_like(spec.state(measured).scale))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.quantize(x).values()
        if self.held and self.observing and not (self.spec.learned and self.started):
            self.observe(x)
        state = self.state(x)
        out: Tensor = _FakeQuantize.apply(  # type: ignore[no-untyped-call]
            x, state.scale, self.spec, _detached(state), self._scale_slope(x), self.identity
        )
        return out

    def quantize(self, x: Tensor) -> Codes | Planes:
        """The integer codes; an error where x is not finite, or no data was seen yet."""
        return self.spec.quantize(x, _detached(self.state(x)))

    def state(self, x: Tensor) -> State:
        """The grid that x would be quantized on."""
        if not self.held or (self.training and self.spec.by_batch):
            return self.spec.state(self.spec.measure(x))
        if not self.started:
            raise TrainingError(
                f"quantizer {self.spec}",
                "has seen no data, its scale is unknown",
                "run training batches through it first",
            )
        state = self.spec.state(self.measured)
        if not self.spec.learned:
            return state
        # The magnitude, with slope +1 at 0, where abs would hold a parameter forever.
        scale = torch.where(self.scale < 0, -self.scale, self.scale)
        return dataclasses.replace(state, scale=scale.clamp(min=self.spec.smallest_scale))

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Takes a batch into the moving average; the first one sets it, and starts what is learned."""
        measured = self.spec.measure(x)
        # One bad batch would stay in the average; these few numbers tell of any nan or inf in x.
        check_finite(measured)
        if not self.started:
            self.measured.copy_(measured)
            self.started.fill_(True)
            if self.spec.learned:
                self.scale.copy_(self.spec.state(measured).scale)
        elif not self.spec.learned:
            self.measured.lerp_(measured, MOMENTUM)

    def extra_repr(self) -> str:
        return f"{self.spec}, of={self.of!r}"

    def _scale_slope(self, x: Tensor) -> float:
        """What multiplies the gradient of the scale; the batch does not count among the values that share it."""
        if not self.spec.learned:
            return 1.0
        count = x[0].numel() if self.of == "activations" else x.numel()
        return self.spec.scale_slope(count // (1 if self.spec.axis is None else x.shape[self.spec.axis]))


class _FakeQuantize(torch.autograd.Function):
    """Values forward, the spec's stated gradient backward; it is computed from x, which saves the memory of masks."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, spec: Spec, state: State, scale_slope: float, identity: bool
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.spec, ctx.state, ctx.scale_slope, ctx.identity = spec, state, scale_slope, identity
        out = torch.empty_like(x)
        for part, of_part in zip(_parts(x, spec), _parts(out, spec), strict=True):
            of_part.copy_(spec.fake(part, state))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None, None, None]:
        (x,) = ctx.saved_tensors
        by_x, by_scale = torch.empty_like(x), None
        parts = (_parts(tensor, ctx.spec) for tensor in (x, grads[0], by_x))
        for part, grad, by_part in zip(*parts, strict=True):
            found, scale = ctx.spec.gradient(grad, part, ctx.state)
            by_part.copy_(grad if ctx.identity else found)
            by_scale = scale if by_scale is None else by_scale + scale
        return by_x, None if by_scale is None else by_scale * ctx.scale_slope, None, None, None, None


def _parts(x: Tensor, spec: Spec) -> tuple[Tensor, ...]:
    """Slices of the first axis that fit a cache of the CPU, for many passes over each; whole where it is the axis."""
    if spec.axis == 0 or x.device.type != "cpu" or x.ndim == 0 or x.numel() <= CACHED:
        return (x,)
    return torch.split(x, max(1, CACHED // x[0].numel()))


def _detached(state: State) -> State:
    return dataclasses.replace(state, scale=state.scale.detach())
