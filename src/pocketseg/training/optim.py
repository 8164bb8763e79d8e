"""A recipe's optimizer and learning rate.

A rate depends on epoch, step and the validation history only, so a resumed run needs no scheduler state.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from pocketseg.recipes.schema import EarlyStopSection, OptimizerSection, Schedule
from pocketseg.training import schedules


def make_optimizer(net: nn.Module, options: OptimizerSection) -> torch.optim.Optimizer:
    """The optimizer; kernels and the rest are two groups, so that decay can spare biases and norms."""
    kernels = [p for p in net.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in net.parameters() if p.requires_grad and p.ndim <= 1]
    spared = options.weight_decay if options.decay == "all" else 0.0
    groups = [
        {"params": kernels, "weight_decay": options.weight_decay},
        {"params": others, "weight_decay": spared},
    ]
    if options.kind == "sgd":
        return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum, nesterov=options.nesterov)
    if options.kind == "rmsprop":
        return torch.optim.RMSprop(groups, lr=options.lr, momentum=options.momentum)
    if options.kind == "adam":
        return torch.optim.Adam(groups, lr=options.lr)
    return torch.optim.AdamW(groups, lr=options.lr)


def add_kernel_l2(optimizer: torch.optim.Optimizer, strength: float) -> None:
    """Add the gradient of strength · Σw² to the kernels' gradients, in place."""
    kernels = [p for p in optimizer.param_groups[0]["params"] if p.grad is not None]
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
