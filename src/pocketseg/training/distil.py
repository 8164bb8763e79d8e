"""What a student loses against its teacher: soft targets on logits, and hints on what layers say.

Everything is computed in f32, and each loss gives one number an image, so that a batch's is their mean.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pocketseg.training.losses import object_rims

SoftKind = Literal["bce", "kl", "mse"]
HintKind = Literal["l1", "l2", "cosine", "attention"]
# Probabilities from files are kept this far from 0 and 1, whose logits are infinite.
NEAREST = 1e-5


def soft_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    kind: SoftKind = "bce",
    temperature: float = 2.0,
    per: Literal["pixel", "region"] = "pixel",
    boundary: float = 0.0,
) -> Tensor:
    """T² Σ_p ω_p ℓ_p / Σ_p ω_p over the pixels p of an image; the mean over images (Hinton, Vinyals and Dean 2015).

    With s and t the probabilities after a temperature T, ℓ is the cross-entropy −Σ_c t_c log s_c (`bce`), that minus
    the teacher's own entropy (`kl`), or Σ_c (s_c − t_c)² over the foreground classes (`mse`). ω is 1, plus `boundary`
    on both sides of the teacher's contours; with `per: region` it is divided by its sum over the pixel's region, which
    is the background or a class in the teacher's mask.

    Args:
        student: logits (n, 1, h, w) or (n, classes + 1, h, w).
        teacher: logits of the same shape, without a gradient.
        kind: `bce`, `kl` or `mse`, see above.
        temperature: T.
        per: `region` gives background and each class of the teacher's mask equal weight in an image.
        boundary: additional weight of the pixels on both sides of the teacher's contours.
    """
    student, teacher = student.float() / temperature, teacher.float() / temperature
    pixels = _pixel_losses(student, teacher, kind)
    mask = teacher.argmax(1) if teacher.shape[1] > 1 else (teacher[:, 0] >= 0).long()
    weights = torch.ones_like(pixels)
    if boundary:
        weights = weights + boundary * _rims(mask, max(2, teacher.shape[1]))
    if per == "region":
        weights = _by_region(weights, mask, max(2, teacher.shape[1]))
    images = (weights * pixels).sum((1, 2)) / weights.sum((1, 2))
    return temperature**2 * images.mean()


def _pixel_losses(student: Tensor, teacher: Tensor, kind: SoftKind) -> Tensor:
    """ℓ of each pixel, (n, h, w), from logits that were divided by the temperature."""
    if teacher.shape[1] == 1:
        if kind == "mse":
            return (torch.sigmoid(student) - torch.sigmoid(teacher)).square()[:, 0]
        target = torch.sigmoid(teacher)
        cross = F.binary_cross_entropy_with_logits(student, target, reduction="none")
        own = F.binary_cross_entropy_with_logits(teacher, target, reduction="none") if kind == "kl" else 0.0
        return (cross - own)[:, 0]
    if kind == "mse":
        return (torch.softmax(student, 1) - torch.softmax(teacher, 1))[:, 1:].square().sum(1)
    target = torch.softmax(teacher, 1)
    cross = -(target * F.log_softmax(student, 1)).sum(1)
    return cross + (target * F.log_softmax(teacher, 1)).sum(1) if kind == "kl" else cross


def _rims(mask: Tensor, classes: int) -> Tensor:
    """1 on both sides of every contour of a mask of class indices (n, h, w)."""
    planes = F.one_hot(mask, classes).movedim(-1, 1).float()
    return object_rims(planes).abs().amax(1)


def _by_region(weights: Tensor, mask: Tensor, classes: int) -> Tensor:
    """Weights that sum to 1 over each region of each image."""
    flat, regions = weights.flatten(1), mask.flatten(1)
    sums = torch.stack([(flat * (regions == index)).sum(1) for index in range(classes)], 1)
    return (flat / sums.gather(1, regions)).view_as(weights)


def hint_loss(student: Tensor, teacher: Tensor, kind: HintKind) -> Tensor:
    """How far what a student's layer says is from what the teacher's says, for each image.

    `l1` and `l2` are the mean absolute and squared difference (Vaze et al. 2020; Romero et al. 2015), `cosine` is the
    mean over pixels of 1 − the cosine between the vectors of channels, `attention` Σ_p (a_p − b_p)², where a and b are
    the sums of squares over the channels, divided by their norm over the image (Zagoruyko and Komodakis 2017).

    Args:
        student: (n, c, h, w).
        teacher: of the same shape; for `attention` the channels may differ.

    Returns:
        (n,).
    """
    if kind in ("l1", "l2"):
        distance: Tensor = _Distance.apply(student, teacher, kind == "l2")  # type: ignore[no-untyped-call]
        return distance
    student, teacher = student.float(), teacher.float()
    if kind == "cosine":
        return (1 - F.cosine_similarity(student, teacher, dim=1)).flatten(1).mean(1)
    return (_attention(student) - _attention(teacher)).square().sum(1)


class _Distance(torch.autograd.Function):
    """The mean absolute or squared difference of each image, computed in f32.

    Its gradient is made at once, while an image's maps lie in the cache: hints of full resolution are large.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, squared: bool) -> Tensor:
        slope = torch.empty_like(student)
        losses = []
        for mine, theirs, into in zip(student, teacher, slope, strict=True):
            apart = mine.float() - theirs.float()
            losses.append((apart.square() if squared else apart.abs()).mean())
            into.copy_((apart.mul_(2) if squared else apart.sign_()).div_(apart.numel()))
        ctx.save_for_backward(slope)
        return torch.stack(losses)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * grads[0].to(slope.dtype)[:, None, None, None], None, None


def _attention(maps: Tensor) -> Tensor:
    return F.normalize(maps.square().sum(1).flatten(1), dim=1)


def logits_of(probabilities: Tensor) -> Tensor:
    """Logits whose sigmoid or softmax gives foreground probabilities (n, k, h, w): (n, 1, h, w) or (n, k + 1, h, w)."""
    p = probabilities.float()
    if p.shape[1] == 1:
        return torch.logit(p.clamp(NEAREST, 1 - NEAREST))
    whole = torch.cat([1 - p.sum(1, keepdim=True), p], 1).clamp_min(NEAREST)
    return torch.log(whole / whole.sum(1, keepdim=True))
