"""Losses on logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "boundary_loss",
    "cross_entropy",
    "dice_loss",
    "foreground",
    "object_rims",
    "segmentation_loss",
    "soft_cross_entropy",
    "soft_dice_loss",
    "total_variation",
]
# Keeps the boundary ratio away from 0/0 (Vaze et al. 2020).
BOUNDARY_SMOOTHING = 0.01


def segmentation_loss(
    logits: Tensor,
    target: Tensor,
    *,
    bce: float = 0.0,
    ce: float = 0.0,
    dice: float = 0.0,
    batch_dice: float = 0.0,
    tv: float = 0.0,
    boundary: float = 0.0,
    dice_smoothing: float = 1.0,
    class_weights: Sequence[float] | None = None,
    pixel_weights: Tensor | None = None,
    shares: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """A weighted sum of parts, as the `loss` of a recipe.

    Args:
        logits: (n, 1, h, w) for one class, (n, classes + 1, h, w) for several, (n, classes, h, w) for several that may
            overlap; computed with in f32.
        target: class indices (n, h, w), any integer dtype; planes (n, classes, h, w) where classes may overlap.
        bce, ce: weight of the cross-entropy, whose kind logits and target decide; one of them.
        dice, batch_dice: weight of the soft Dice loss of each image, and of the whole batch.
        tv, boundary: weight of the total variation, and of the boundary loss.
        dice_smoothing: pixels that both Dice losses add to numerator and denominator.
        class_weights: of background and each class in the cross-entropy.
        pixel_weights: (n, h, w), of the pixels in the cross-entropy.
        shares: (n, classes, h, w), what each foreground class covers of a pixel: the target of cross-entropy and Dice
            instead of `target`, which the boundary loss keeps.

    Returns:
        The sum, and each part that has a weight before it is multiplied by it.

    Example:
        >>> logits, target = torch.zeros(1, 1, 2, 2), torch.tensor([[[0, 1], [0, 1]]])
        >>> total, parts = segmentation_loss(logits, target, bce=1, dice=0.5)
        >>> {name: round(part.item(), 3) for name, part in parts.items()}
        {'bce': 0.693, 'dice': 0.4}
    """
    logits, target = logits.float(), target.long()
    parts: dict[str, Tensor] = {}
    if bce or ce:
        parts["bce" if bce else "ce"] = (
            cross_entropy(logits, target, class_weights, pixel_weights)
            if shares is None
            else soft_cross_entropy(logits, shares, class_weights, pixel_weights)
        )
    if dice or batch_dice or tv or boundary:
        probability, reference = foreground(logits, target)
        overlap, goal = (dice_loss, reference) if shares is None else (soft_dice_loss, shares)
        if dice:
            parts["dice"] = overlap(probability, goal, dims=(2, 3), smoothing=dice_smoothing)
        if batch_dice:
            parts["batch_dice"] = overlap(probability, goal, dims=(0, 2, 3), smoothing=dice_smoothing)
        if tv:
            parts["tv"] = total_variation(probability)
        if boundary:
            parts["boundary"] = boundary_loss(probability, reference)
    weights = {"bce": bce, "ce": ce, "dice": dice, "batch_dice": batch_dice, "tv": tv, "boundary": boundary}
    return torch.stack([weights[name] * value for name, value in parts.items()]).sum(), parts


def cross_entropy(
    logits: Tensor, target: Tensor, class_weights: Sequence[float] | None = None, pixel_weights: Tensor | None = None
) -> Tensor:
    """Binary (one logit) or categorical cross-entropy: mean over pixels, each times its own and its class's weight.

    Of classes that may overlap (a target of planes) the mean of their binary ones; those have no weights of classes.
    """
    if target.ndim == logits.ndim:
        pixels = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none").mean(1)
        return (pixels if pixel_weights is None else pixels * pixel_weights).mean()
    if logits.shape[1] == 1:
        pixels = F.binary_cross_entropy_with_logits(logits[:, 0], target.float(), reduction="none")
    else:
        pixels = F.cross_entropy(logits, target, reduction="none")
    if class_weights is not None:
        pixels = pixels * logits.new_tensor(class_weights)[target]
    return (pixels if pixel_weights is None else pixels * pixel_weights).mean()


def soft_cross_entropy(
    logits: Tensor, shares: Tensor, class_weights: Sequence[float] | None = None, pixel_weights: Tensor | None = None
) -> Tensor:
    """−Σ w_k t_k log p_k over background and classes, the mean over pixels; with shares of 0 and 1 `cross_entropy`.

    Args:
        logits: as for `segmentation_loss`; of classes that may overlap the mean of their binary cross-entropies.
        shares: t of the foreground classes, (n, classes, h, w); what is left of a pixel is background.
        class_weights: w of background and each class.
        pixel_weights: (n, h, w).
    """
    if 1 < logits.shape[1] == shares.shape[1]:
        pixels = F.binary_cross_entropy_with_logits(logits, shares, reduction="none").mean(1)
        return (pixels if pixel_weights is None else pixels * pixel_weights).mean()
    whole = torch.cat([(1 - shares.sum(1, keepdim=True)).clamp_min(0), shares], 1)
    single = logits.shape[1] == 1
    log_p = F.logsigmoid(torch.cat([-logits, logits], 1)) if single else F.log_softmax(logits, 1)
    if class_weights is not None:
        whole = whole * logits.new_tensor(class_weights)[:, None, None]
    pixels = -(whole * log_p).sum(1)
    return (pixels if pixel_weights is None else pixels * pixel_weights).mean()


def foreground(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and 0/1 reference of the foreground classes, both (n, k, h, w)."""
    if target.ndim == logits.ndim:
        return torch.sigmoid(logits), target.float()
    if logits.shape[1] == 1:
        return torch.sigmoid(logits), target.unsqueeze(1).float()
    reference = F.one_hot(target, logits.shape[1]).movedim(-1, 1).float()
    return torch.softmax(logits, 1)[:, 1:], reference[:, 1:]


def dice_loss(probability: Tensor, reference: Tensor, dims: tuple[int, ...], smoothing: float = 1.0) -> Tensor:
    """1 − (2 Σpt + s) / (Σp + Σt + s), sums over `dims`, mean over the rest.

    The soft Dice of Milletari, Navab and Ahmadi (2016), without their squares.
    """
    both = (probability * reference).sum(dims)
    either = probability.sum(dims) + reference.sum(dims)
    return (1 - (2 * both + smoothing) / (either + smoothing)).mean()


def soft_dice_loss(probability: Tensor, shares: Tensor, dims: tuple[int, ...], smoothing: float = 1.0) -> Tensor:
    """As `dice_loss` with Σ min(p, t) for Σpt, which is the same where t is 0 or 1.

    Its smallest value, 0, is at p = t, while Σpt is best for a p of 0 or 1 (Wang et al. 2023, Dice semimetric losses).
    """
    both = torch.minimum(probability, shares).sum(dims)
    either = probability.sum(dims) + shares.sum(dims)
    return (1 - (2 * both + smoothing) / (either + smoothing)).mean()


def total_variation(probability: Tensor) -> Tensor:
    """√Σ(differences to the right and lower neighbor)², for each image and class; the mean over images.

    Li et al. (2021) add 0.005 of it to 0.995 of the binary cross-entropy. Where nothing varies, the gradient is 0.

    Args:
        probability: (n, k, h, w) of the foreground classes, whose variations are added up.
    """
    down = probability.diff(dim=2).flatten(2)
    right = probability.diff(dim=3).flatten(2)
    # A norm, and no root of a sum, since the root has an infinite slope at 0.
    variations: Tensor = torch.linalg.vector_norm(torch.cat([down, right], 2), dim=2)
    return variations.sum(1).mean()


def boundary_loss(probability: Tensor, reference: Tensor) -> Tensor:
    """−Σpb / (√(Σb² + Σp²) + 0.01), sums over the batch, the mean over classes (Vaze, Xie and Namburete 2020).

    b is 1 on the pixels of an object that touch its outside, −1 on outside pixels that touch the object, 0 elsewhere.

    Args:
        probability: (n, k, h, w) of the foreground classes.
        reference: 0 or 1, of the same shape.
    """
    rims = object_rims(reference)
    both = (probability * rims).sum((0, 2, 3))
    norm: Tensor = torch.linalg.vector_norm(torch.stack([probability, rims]), dim=(0, 1, 3, 4))
    return (-both / (norm + BOUNDARY_SMOOTHING)).mean()


def object_rims(reference: Tensor) -> Tensor:
    """1 on the inner rim of objects, −1 on the outer, 0 elsewhere; by 4-neighbors, so one pixel wide on each side.

    Dilation − erosion is 1 on both rims; 2·reference − dilation − erosion is that with its sign. What lies beyond the
    image is unknown, so an object has no rim where the border cuts it off.

    Args:
        reference: 0 or 1, (n, k, h, w).

    Example:
        >>> object_rims(torch.tensor([[[[0.0, 0, 1, 1, 1]]]])).int().tolist()
        [[[[0, -1, 1, 0, 0]]]]
    """
    return 2 * reference - _dilated(reference) + _dilated(-reference)


def _dilated(planes: Tensor) -> Tensor:
    """The largest of each pixel and its 4-neighbors; max_pool2d pads with −∞."""
    along = F.max_pool2d(planes, (1, 3), 1, (0, 1))
    return torch.maximum(along, F.max_pool2d(planes, (3, 1), 1, (1, 0)))
