"""How sure a mean is, whether two models differ, and how much a seed matters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from pocketseg.metrics.optional import scipy_part

NORMAL = NormalDist()
# Up to so many groups every combination of signs is tried.
EXACT_GROUPS = 13


def bootstrap_interval(
    values: Sequence[float], groups: Sequence[str], *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """BCa bootstrap interval of the mean, drawing whole groups (Efron 1987; Davison and Hinkley 1997, 3.8 and 5.3).

    Cases of one patient are alike, so the patient is what is drawn; drawing cases would make the interval too
    narrow. BCa (bias-corrected, accelerated) shifts the percentiles where the means are skewed, as those of Dice are;
    the acceleration comes from leaving out one group at a time.

    Args:
        values: one number a case; nan is left out.
        groups: the group of each case.
        level: coverage.
        draws: bootstrap samples.
        seed: of the draws.

    Returns:
        Lower and upper bound; nan where no value is left; the mean twice where one group is left, which tells nothing.

    Example:
        >>> bootstrap_interval([0.5, 0.5], ["a", "b"])
        (0.5, 0.5)
    """
    sums, counts = _by_group(values, groups)
    if not sums.size:
        return math.nan, math.nan
    drawn = np.random.default_rng(seed).integers(0, len(sums), (draws, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(
        means, [_shifted(share, sums, counts, means) for share in ((1 - level) / 2, (1 + level) / 2)]
    )
    return float(low), float(high)


def two_way_interval(
    values: Sequence[Sequence[float]],
    groups: Sequence[str],
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap interval of the mean over seeds and cases, drawing seeds and whole groups independently (Owen 2007).

    It holds for another training on other patients, where `bootstrap_interval` holds for this training on others.

    Args:
        values: a row for each seed (or other repetition), a number for each case; nan is left out.
        groups: the group of each case.
        level: coverage.
        draws: bootstrap samples.
        seed: of the draws.

    Returns:
        Lower and upper percentile of the means; nan where no value is left.

    Example:
        >>> low, high = two_way_interval([[0.7, 0.9], [0.6, 0.8]], ["a", "b"])
        >>> round(low, 2), round(high, 2)
        (0.6, 0.9)
    """
    numbers = np.asarray(values, np.float64).reshape(len(values), -1)
    valid = ~np.isnan(numbers)
    if not valid.any():
        return math.nan, math.nan
    names, index = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    # Sum and number of each seed's values in each group.
    sums, counts = np.zeros((len(numbers), len(names))), np.zeros((len(numbers), len(names)))
    for at, (row, there) in enumerate(zip(numbers, valid, strict=True)):
        sums[at] = np.bincount(index[there], weights=row[there], minlength=len(names))
        counts[at] = np.bincount(index[there], minlength=len(names))
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(draws):
        # How often each seed and each group is drawn.
        rows = np.bincount(rng.integers(0, len(sums), len(sums)), minlength=len(sums))
        columns = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
        if count := rows @ counts @ columns:
            means.append(rows @ sums @ columns / count)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _by_group(values: Sequence[float], groups: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum and number of the values of each group, nan left out."""
    numbers = np.asarray(values, np.float64)
    valid = ~np.isnan(numbers)
    _, index = np.unique(np.asarray(groups, dtype=object)[valid].astype(str), return_inverse=True)
    return np.bincount(index, weights=numbers[valid]).astype(np.float64), np.bincount(index)


def _shifted(share: float, sums: NDArray[np.float64], counts: NDArray[np.int64], means: NDArray[np.float64]) -> float:
    """The percentile BCa reads in place of `share`."""
    if len(sums) == 1:
        return share
    mean = sums.sum() / counts.sum()
    # Means that equal the observed one count half, as many do where values repeat; sums in another order differ a bit.
    ties = np.isclose(means, mean, rtol=1e-12, atol=0)
    below = np.mean((means < mean) & ~ties) + np.mean(ties) / 2
    edge = 1 / (len(means) + 1)
    bias = NORMAL.inv_cdf(float(np.clip(below, edge, 1 - edge)))
    without = (sums.sum() - sums) / (counts.sum() - counts)
    away = without.mean() - without
    spread = float(np.square(away).sum()) ** 1.5
    acceleration = float((away**3).sum()) / (6 * spread) if spread else 0.0
    at = bias + NORMAL.inv_cdf(share)
    return NORMAL.cdf(bias + at / (1 - acceleration * at))


@dataclass(frozen=True)
class Description:
    """Numbers of a metric over cases; nan where no case has a value.

    Attributes:
        count: cases with a value.
        mean, low, high: mean and its 95 % interval over groups.
        median, lower_quartile, upper_quartile: of the cases.
    """

    count: int
    mean: float
    low: float
    high: float
    median: float
    lower_quartile: float
    upper_quartile: float


def describe(values: Sequence[float], groups: Sequence[str]) -> Description:
    """Mean with interval, median and quartiles (interpolated linearly); nan is left out.

    Example:
        >>> found = describe([0.0, 1.0, float("nan"), 0.5], ["a", "b", "c", "d"])
        >>> found.count, found.mean, found.median, found.lower_quartile
        (3, 0.5, 0.5, 0.25)
    """
    numbers = np.asarray(values, np.float64)
    valid = numbers[~np.isnan(numbers)]
    if not valid.size:
        return Description(0, *[math.nan] * 6)
    quartiles = [float(each) for each in np.quantile(valid, [0.5, 0.25, 0.75])]
    return Description(len(valid), float(valid.mean()), *bootstrap_interval(values, groups), *quartiles)


@dataclass(frozen=True)
class PairedDifference:
    """What a second model changes on the same cases: second minus first.

    Attributes:
        cases: that have a value of both.
        groups: they belong to.
        mean, low, high: mean difference over cases and its 95 % interval over groups.
        p_value: of Wilcoxon's signed-rank test on the mean differences of the groups, two-sided.
        effect: rank-biserial correlation of the same ranks (Kerby 2014): 1 where every group has the larger value with
            the second model, −1 where every group has it with the first, 0 where neither is ahead.
        permutation_p: of a test of the mean itself: how often a difference as large would come about if the two models
            had been swapped at random in each group, two-sided (Fisher 1935; Pitman 1937).
    """

    cases: int
    groups: int
    mean: float
    low: float
    high: float
    p_value: float
    effect: float
    permutation_p: float

    def non_inferior(self, margin: float) -> bool:
        """Whether the second model is worse by less than a margin, which was stated before; larger values are better.

        The lower bound of the 95 % interval lies above −margin: a one-sided test at 2.5 %. Without a difference that
        could be shown nothing is said of this. One group alone shows nothing: its interval is its mean.
        """
        return self.groups > 1 and self.low > -margin


def paired_difference(
    first: Sequence[float], second: Sequence[float], groups: Sequence[str], *, seed: int = 0
) -> PairedDifference:
    """Compare two models case by case; a case that lacks a value of either is left out.

    The test takes one number a group, since cases of one patient are not independent; groups without a difference are
    left out of it (Wilcoxon 1945).

    Args:
        first: one number a case.
        second: one number a case, in the same order.
        groups: the group of each case.
        seed: of the bootstrap.

    Raises:
        EnvironmentProblem: SciPy is not installed.

    Example:
        >>> found = paired_difference([0.5, 0.6, 0.7], [0.6, 0.8, 0.9], ["a", "b", "c"])
        >>> round(found.mean, 3), found.p_value, found.effect
        (0.167, 0.25, 1.0)
    """
    differences = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    sums, counts = _by_group(differences.tolist(), groups)
    if not sums.size:
        return PairedDifference(0, 0, *[math.nan] * 6)
    low, high = bootstrap_interval(differences.tolist(), groups, seed=seed)
    changed = sums[sums != 0] / counts[sums != 0]
    p_value, effect = 1.0, 0.0
    if changed.size:
        stats = scipy_part("stats")
        p_value = float(stats.wilcoxon(changed).pvalue)
        ranks = stats.rankdata(np.abs(changed))
        effect = float((ranks * np.sign(changed)).sum() / ranks.sum())
    mean = float(sums.sum() / counts.sum())
    return PairedDifference(int(counts.sum()), len(sums), mean, low, high, p_value, effect, _sign_flips(sums, seed))


def seeds_difference(
    first: Sequence[Sequence[float]],
    second: Sequence[Sequence[float]],
    groups: Sequence[str],
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> PairedDifference:
    """Compare two models of which there may be several seeds each, on the same cases.

    The interval draws groups and the seeds of each model independently (Owen 2007): it holds for other trainings and
    other patients. Few seeds know little of how far seeds lie apart; with two or three it is rather too narrow than too
    wide. The tests are those of the seeds' means: they hold for these trainings. With one seed of each model all is as
    `paired_difference` has it.

    Args:
        first: a row for each seed, a number for each case.
        second: the same of the other model; it may have another number of seeds.
        groups: the group of each case.
        level: coverage of the interval.
        draws: bootstrap samples.
        seed: of the draws.

    Example:
        >>> found = seeds_difference([[0.5, 0.6, 0.7]], [[0.6, 0.8, 0.9], [0.6, 0.6, 0.7]], ["a", "b", "c"])
        >>> round(found.mean, 3), found.cases
        (0.1, 3)
    """
    models = [np.asarray(rows, np.float64).reshape(len(rows), -1) for rows in (first, second)]
    one, other = (rows.mean(axis=0).tolist() for rows in models)
    alone = paired_difference(one, other, groups, seed=seed)
    if max(map(len, models)) == 1 or not alone.cases:
        return alone
    # A case that one seed of either lacks is left out.
    valid = ~np.isnan(np.concatenate(models)).any(axis=0)
    _, index = np.unique(np.asarray(groups, dtype=object)[valid].astype(str), return_inverse=True)
    counts = np.bincount(index)
    sums = [np.stack([np.bincount(index, weights=row[valid]) for row in rows]) for rows in models]
    rng = np.random.default_rng(seed)
    # How often each group, and each seed, is drawn.
    groups_drawn = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), draws)
    totals = [
        np.einsum("ds,sg,dg->d", rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), draws) / len(rows), rows,
                  groups_drawn, optimize=True)
        for rows in sums
    ]  # fmt: skip
    low, high = np.quantile((totals[1] - totals[0]) / (groups_drawn @ counts), [(1 - level) / 2, (1 + level) / 2])
    return replace(alone, low=float(low), high=float(high))


def _sign_flips(sums: NDArray[np.float64], seed: int, draws: int = 10_000) -> float:
    """Share of all signs of the groups' sums (or of random ones, their own counted too) that give as large a total."""
    if len(sums) <= EXACT_GROUPS:
        signs = 1.0 - 2 * ((np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1)
    else:
        drawn = np.random.default_rng(seed).integers(0, 2, (draws, len(sums)))
        signs = np.vstack([np.ones(len(sums)), 1.0 - 2 * drawn])
    # Sums in another order differ a bit.
    return float((np.abs(signs @ sums) >= abs(sums.sum()) * (1 - 1e-12)).mean())


@dataclass(frozen=True)
class SeedSpread:
    """Results of the same recipe with several seeds; the standard deviation is nan for a single one."""

    seeds: int
    mean: float
    standard_deviation: float
    lowest: float
    highest: float


def seed_spread(results: Sequence[float]) -> SeedSpread:
    """How far results lie apart; the standard deviation divides by n − 1.

    Example:
        >>> found = seed_spread([0.70, 0.74, 0.72])
        >>> round(found.mean, 3), round(found.standard_deviation, 3)
        (0.72, 0.02)
    """
    numbers = np.asarray(results, np.float64)
    if not numbers.size:
        raise ValueError("at least one result is needed")
    deviation = float(numbers.std(ddof=1)) if len(numbers) > 1 else math.nan
    return SeedSpread(len(numbers), float(numbers.mean()), deviation, float(numbers.min()), float(numbers.max()))
