"""How sure a mean is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def bootstrap_interval(
    values: Sequence[float], groups: Sequence[str], *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean, drawing whole groups (Davison and Hinkley 1997, 3.8).

    Cases of one patient are alike, so the patient is what is drawn; drawing cases would make the interval too
    narrow.

    Args:
        values: one number a case; nan is left out.
        groups: the group of each case.
        level: coverage.
        draws: bootstrap samples.
        seed: of the draws.

    Returns:
        Lower and upper bound; nan where no value is left.

    Example:
        >>> bootstrap_interval([0.5, 0.5], ["a", "b"])
        (0.5, 0.5)
    """
    numbers = np.asarray(values, np.float64)
    valid = ~np.isnan(numbers)
    if not valid.any():
        return float("nan"), float("nan")
    _, index = np.unique(np.asarray(groups, dtype=object)[valid].astype(str), return_inverse=True)
    sums = np.bincount(index, weights=numbers[valid])
    counts = np.bincount(index)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (draws, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
