"""Optimizers, and learning rates as pure functions of where training stands.

A rate depends on epoch, step and the validation history only, so a resumed run needs no scheduler state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from pocketseg.recipes.schema import EarlyStopSection, OptimizerSection, Schedule


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
    match schedule.kind:
        case "cosine":
            if share < schedule.warmup:
                # Never zero: the first step counts too.
                return min(max(share, 1 / (1000 * epochs)) / schedule.warmup, 1.0)
            rest = (share - schedule.warmup) / (1 - schedule.warmup)
            return schedule.floor + (1 - schedule.floor) * (1 + math.cos(math.pi * min(rest, 1))) / 2
        case "step":
            return float(schedule.factor ** (epoch // schedule.every))
        case "multi-step":
            return float(schedule.factor ** sum(share >= at for at in schedule.at))
        case "step-restarts":
            return float(schedule.factor ** ((schedule.first + epoch % schedule.cycle) // schedule.every))
        case "constant-then-decay":
            return float(schedule.factor ** max(0, epoch - int(schedule.constant * epochs)))
        case "plateau":
            return max(schedule.floor, schedule.factor ** _plateaus(scores, schedule.patience))
    return 1.0


def _plateaus(scores: Sequence[float], patience: int) -> int:
    """How often the best score stayed the best for more than `patience` epochs."""
    count, best, waited = 0, -math.inf, 0
    for score in scores:
        if score > best:
            best, waited = score, 0
        else:
            waited += 1
        if waited > patience:
            count, waited = count + 1, 0
    return count


def should_stop(scores: Sequence[float], rule: EarlyStopSection | None) -> bool:
    """Whether the best epoch lies `patience` epochs back and `min_epochs` are done."""
    if rule is None or len(scores) < max(rule.min_epochs, 1):
        return False
    best = max(range(len(scores)), key=lambda epoch: (scores[epoch], -epoch))
    return len(scores) - 1 - best >= rule.patience
