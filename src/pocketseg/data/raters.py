"""One mask from the masks of several raters."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Fusion = Literal["majority", "staple"]
Raters = Literal["majority", "staple", "each"]

STEPS = 100
# The EM ends when no probability moves by more than this.
SETTLED = 1e-6
FIRST_AGREEMENT = 0.99
RATERS_AND_PLANES = 4


def fuse(masks: NDArray[np.uint8], classes: int, fusion: Fusion) -> NDArray[np.uint8]:
    """A mask from those of several raters: class indices (r, h, w), or planes (r, k, h, w), fused one by one."""
    if masks.ndim == RATERS_AND_PLANES:
        return np.stack([fuse(plane, 1, fusion) for plane in masks.swapaxes(0, 1)])
    return majority(masks, classes) if fusion == "majority" else staple(masks, classes)


def majority(masks: NDArray[np.uint8], classes: int) -> NDArray[np.uint8]:
    """The class that most raters chose; in a tie the lowest index, so that half of the raters are not a majority.

    Example:
        >>> majority(np.array([[[1, 1]], [[1, 0]], [[0, 0]]], np.uint8), 1).tolist()
        [[1, 0]]
    """
    votes = np.stack([(masks == index).sum(axis=0) for index in range(classes + 1)])
    most: NDArray[np.uint8] = votes.argmax(axis=0).astype(np.uint8)
    return most


def staple(masks: NDArray[np.uint8], classes: int) -> NDArray[np.uint8]:
    """The most probable class of each pixel, raters weighed by how they agree (Warfield, Zou and Wells 2004).

    Expectation-maximization for several categories. With D_j(i) the decision of rater j at pixel i, a prior f(s) that
    is the share of all decisions for class s, and θ_j(d, s) the probability that rater j says d where s is true:

        W_i(s) ∝ f(s) Π_j θ_j(D_j(i), s)        θ_j(d, s) = Σ_{i: D_j(i) = d} W_i(s) / Σ_i W_i(s)

    Pixels with the same decisions share one W, so the work grows with the number of different decisions.

    Args:
        masks: uint8 (r, h, w), values 0..classes.
        classes: number of foreground classes.

    Returns:
        uint8 (h, w); the lowest index in a tie.
    """
    raters = len(masks)
    decisions, which, counts = np.unique(masks.reshape(raters, -1), axis=1, return_inverse=True, return_counts=True)
    said = np.stack([decisions == index for index in range(classes + 1)]).astype(np.float64)  # (d, r, kinds)
    prior = (said * counts).sum(axis=(1, 2)) / (raters * counts.sum())
    agreement = np.full((raters, classes + 1, classes + 1), (1 - FIRST_AGREEMENT) / classes)
    agreement[:, range(classes + 1), range(classes + 1)] = FIRST_AGREEMENT
    reference = _expected(said, agreement, prior)
    for _ in range(STEPS):
        weight = reference * counts
        agreement = np.einsum("drk,sk->rds", said, weight) / np.maximum(weight.sum(axis=1), 1e-300)
        before, reference = reference, _expected(said, agreement, prior)
        if np.abs(reference - before).max() < SETTLED:
            break
    fused: NDArray[np.uint8] = reference.argmax(axis=0).astype(np.uint8)[which].reshape(masks.shape[1:])
    return fused


def _expected(
    said: NDArray[np.float64], agreement: NDArray[np.float64], prior: NDArray[np.float64]
) -> NDArray[np.float64]:
    """W (s, kinds): probability of each class, given what the raters said."""
    with np.errstate(divide="ignore"):
        logs = np.log(np.einsum("drk,rds->rsk", said, agreement)).sum(axis=0) + np.log(prior)[:, None]
    powers = np.exp(logs - logs.max(axis=0))
    out: NDArray[np.float64] = powers / powers.sum(axis=0)
    return out
