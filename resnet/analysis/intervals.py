"""Confidence intervals of means and shares that are valid for few values."""

import math
from collections.abc import Sequence
from statistics import mean, stdev

LEVEL = 0.95
Interval = tuple[float, float]
Share = dict[str, float | None]  # value, low, high; low and high are None if unknown, as for a single image


def t_interval(values: Sequence[float], level: float = LEVEL, overlap: float = 0.0) -> Interval | None:
    """Returns the interval of a mean (Student's t), or None if there are too few values or they have no spread.

    `overlap`: 0 for independent values. For cross-validation it is the number of test images divided by that of training images: models of
    other folds share most of their training images (Nadeau and Bengio 2003, the corrected resampled t-test).
    """
    if len(values) < 2 or not has_spread(values):
        return None
    return around(mean(values), stdev(values) * math.sqrt(1 / len(values) + overlap), len(values) - 1, level)


def welch_interval(one: Sequence[float], other: Sequence[float], level: float, overlap: float = 0.0) -> Interval | None:
    """Returns the interval of the difference of two means with different spreads (Welch's t), or None as in t_interval."""
    if min(len(one), len(other)) < 2 or not (has_spread(one) or has_spread(other)):
        return None
    parts = [stdev(values) ** 2 * (1 / len(values) + overlap) for values in (one, other)]
    weights = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (one, other), strict=True))
    return around(mean(one) - mean(other), math.sqrt(sum(parts)), sum(parts) ** 2 / weights, level)


def has_spread(values: Sequence[float]) -> bool:
    """True if the values differ by more than rounding."""
    return not math.isclose(min(values), max(values), rel_tol=1e-9, abs_tol=1e-12)


def around(middle: float, error: float, freedom: float, level: float) -> Interval:
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    half = float(stdtrit(freedom, (1 + level) / 2)) * error
    return middle - half, middle + half


def share(successes: int, trials: int) -> Share:
    """Returns a share with its Wilson interval."""
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(LEVEL, "wilson")
    return {"value": successes / trials, "low": float(interval.low), "high": float(interval.high)}
