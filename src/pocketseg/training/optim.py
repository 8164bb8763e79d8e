"""A recipe's optimizer and learning rate.

A rate depends on epoch, step and the validation history only, so a resumed run needs no scheduler state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from pocketseg.recipes.schema import EarlyStopSection, OptimizerSection, Schedule
from pocketseg.training import schedules

NO_SCALES: Mapping[int, float] = MappingProxyType({})


def make_optimizer(
    net: nn.Module, options: OptimizerSection, scales: Mapping[int, float] = NO_SCALES
) -> torch.optim.Optimizer:
    """The optimizer; kernels and the rest are two groups, so that decay can spare biases and norms.

    So it is for every factor of the rate, the factor 1 first; a group has it as `scale`.

    Args:
        net: whose parameters are trained.
        options: the recipe's.
        scales: id of a parameter -> factor of its learning rate, where that is not 1.
    """
    spared = options.weight_decay if options.decay == "all" else 0.0
    groups: list[dict[str, Any]] = []
    for scale in dict.fromkeys([1.0, *scales.values()]):
        own = [p for p in net.parameters() if p.requires_grad and scales.get(id(p), 1.0) == scale]
        kernels, others = [p for p in own if p.ndim > 1], [p for p in own if p.ndim <= 1]
        groups.append({"params": kernels, "weight_decay": options.weight_decay, "scale": scale, "kernels": True})
        groups.append({"params": others, "weight_decay": spared, "scale": scale, "kernels": False})
    if options.kind == "sgd":
        return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum, nesterov=options.nesterov)
    if options.kind == "rmsprop":
        return torch.optim.RMSprop(groups, lr=options.lr, momentum=options.momentum)
    if options.kind == "adam":
        return torch.optim.Adam(groups, lr=options.lr)
    return torch.optim.AdamW(groups, lr=options.lr)


def add_kernel_l2(optimizer: torch.optim.Optimizer, strength: float) -> None:
    """Add the gradient of strength · Σw² to the kernels' gradients, in place."""
    groups = (group["params"] for group in optimizer.param_groups if group["kernels"])
    kernels = [p for group in groups for p in group if p.grad is not None]
    if strength and kernels:
        torch._foreach_add_([p.grad for p in kernels], [p.detach() for p in kernels], alpha=2 * strength)


def rate_factor(schedule: Schedule, *, epoch: int, progress: float, epochs: int, scores: Sequence[float]) -> float:
    """What the learning rate is multiplied with.

    Args:
        schedule: the recipe's.
        epoch: epochs finished.
        progress: share of this epoch that is done, 0 to 1.
        epochs: epochs in all.
        scores: the validation score of every finished epoch, higher is better.

    Example:
        >>> from pocketseg.recipes.schema import StepSchedule
        >>> rate_factor(StepSchedule(every=2, factor=0.5), epoch=5, progress=0, epochs=9, scores=[])
        0.25
    """
    share = (epoch + progress) / epochs
    own = schedule.model_dump(exclude={"kind"})
    match schedule.kind:
        case "cosine":
            # Never zero: the first step counts too.
            return schedules.cosine(max(share, min(1 / (1000 * epochs), own["warmup"])), **own)
        case "step":
            return schedules.step(epoch, **own)
        case "multi-step":
            return schedules.multi_step(share, **own)
        case "interpolated":
            return schedules.interpolated(share, **own)
        case "step-restarts":
            return schedules.step_restarts(epoch, **own)
        case "constant-then-decay":
            return schedules.constant_then_decay(epoch, epochs, **own)
        case "plateau":
            return schedules.plateau(scores, **own)
    return 1.0


def should_stop(scores: Sequence[float], rule: EarlyStopSection | None) -> bool:
    """Whether the best epoch lies `patience` epochs back and `min_epochs` are done."""
    if rule is None or len(scores) < max(rule.min_epochs, 1):
        return False
    best = max(range(len(scores)), key=lambda epoch: (scores[epoch], -epoch))
    return len(scores) - 1 - best >= rule.patience
