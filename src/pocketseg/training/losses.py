"""Losses on logits."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pocketseg.recipes.models import LossSection

# Added to both sides of the Dice ratio, in pixels: an empty prediction of an empty mask costs nothing.
DICE_SMOOTHING = 1.0


def segmentation_loss(logits: Tensor, target: Tensor, weights: LossSection) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of a recipe's loss parts.

    Args:
        logits: (n, 1, h, w) for one class, (n, classes + 1, h, w) for several; computed with in f32.
        target: class indices (n, h, w), any integer dtype.
        weights: weight of each part.

    Returns:
        The sum, and each part before its weight.
    """
    logits, target = logits.float(), target.long()
    parts: dict[str, Tensor] = {}
    if weights.bce or weights.ce:
        parts["bce" if weights.bce else "ce"] = cross_entropy(logits, target, weights.class_weights)
    if weights.dice or weights.batch_dice:
        probability, truth = foreground(logits, target)
        if weights.dice:
            parts["dice"] = dice_loss(probability, truth, dims=(2, 3))
        if weights.batch_dice:
            parts["batch_dice"] = dice_loss(probability, truth, dims=(0, 2, 3))
    total = torch.stack([getattr(weights, name) * value for name, value in parts.items()]).sum()
    return total, parts


def cross_entropy(logits: Tensor, target: Tensor, class_weights: list[float] | None = None) -> Tensor:
    """Binary (one logit) or categorical cross-entropy: mean over pixels, each times its class's weight."""
    weights = None if class_weights is None else logits.new_tensor(class_weights)
    if logits.shape[1] == 1:
        pixel_weights = None if weights is None else weights[target].unsqueeze(1)
        return F.binary_cross_entropy_with_logits(logits, target.unsqueeze(1).float(), weight=pixel_weights)
    pixels = F.cross_entropy(logits, target, weight=weights, reduction="none")
    return pixels.mean()


def foreground(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and 0/1 truth of the foreground classes, both (n, k, h, w)."""
    if logits.shape[1] == 1:
        return torch.sigmoid(logits), target.unsqueeze(1).float()
    truth = F.one_hot(target, logits.shape[1]).movedim(-1, 1).float()
    return torch.softmax(logits, 1)[:, 1:], truth[:, 1:]


def dice_loss(probability: Tensor, truth: Tensor, dims: tuple[int, ...]) -> Tensor:
    """1 − (2 Σpt + s) / (Σp + Σt + s), sums over `dims`, mean over the rest.

    The soft Dice of Milletari, Navab and Ahmadi (2016), without their squares.
    """
    both = (probability * truth).sum(dims)
    either = probability.sum(dims) + truth.sum(dims)
    return (1 - (2 * both + DICE_SMOOTHING) / (either + DICE_SMOOTHING)).mean()
