"""Compares groups of runs with intervals that are valid for few seeds, in words that do not claim more. Imports no torch."""

import math
from dataclasses import dataclass
from statistics import mean, stdev

from resnet.analysis.grouping import Group
from resnet.analysis.intervals import LEVEL, Interval, around, t_interval, welch_interval


@dataclass(frozen=True)
class Difference:
    """The difference of a group from the baseline. `interval` is None if there are too few runs, or no spread between them."""

    value: float
    interval: Interval | None
    is_paired: bool
    higher: int  # if paired: in how many of the common seeds the group is higher
    runs: int  # runs per group; of the smaller group if the seeds differ

    @property
    def is_resolved(self) -> bool:
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def compare(group: Group, baseline: Group, num_comparisons: int) -> Difference:
    """Compares the means: paired if both groups have the same seeds, else by Welch's t. Intervals are widened for the number of comparisons
    (Bonferroni).
    """
    level = 1 - (1 - LEVEL) / num_comparisons
    one, other = group.values, baseline.values
    if one.keys() == other.keys():
        differences = [one[seed] - other[seed] for seed in one]
        higher = sum(value > 0 for value in differences)
        return Difference(mean(differences), t_interval(differences, level, group.overlap), True, higher, len(differences))
    interval = welch_interval(list(one.values()), list(other.values()), level, max(group.overlap, baseline.overlap))
    return Difference(group.mean - baseline.mean, interval, False, 0, min(len(one), len(other)))


def in_words(difference: Difference, is_share: bool, unit_of_runs: str = "seeds") -> str:
    scale, unit = (100, " points") if is_share else (1, "")
    digits = 2 if is_share else 4
    text = f"{scale * difference.value:+.{digits}f}{unit}"
    if difference.interval is None:
        one = f"one {unit_of_runs.removesuffix('s')}{'' if difference.is_paired else ' in one of the two'}"
        reason = one if difference.runs == 1 else f"no spread over {difference.runs} {unit_of_runs}"
        return f"{text}, {reason}, no interval"
    low, high = (f"{scale * bound:+.{digits}f}" for bound in difference.interval)
    paired = f", {difference.higher} of {difference.runs} {unit_of_runs} higher" if difference.is_paired else ""
    verdict = f"{'higher' if difference.value > 0 else 'lower'} in this setup"
    end = verdict if difference.is_resolved else f"not resolved with {difference.runs} {unit_of_runs}"
    return f"{text}, 95 % interval [{low}, {high}]{paired}: {end}"


def seeds_to_settle(group: Group, baseline: Group, num_comparisons: int) -> int | None:
    """Returns how many seeds would resolve the observed difference, if it and its spread stay the same. Returns None from 100 on."""
    if group.values.keys() != baseline.values.keys() or len(group.values) < 2:
        return None
    differences = [group.values[seed] - baseline.values[seed] for seed in group.values]
    spread, size = stdev(differences), abs(mean(differences))
    level = 1 - (1 - LEVEL) / num_comparisons
    for seeds in range(len(differences) + 1, 100):
        low, _ = around(size, spread * math.sqrt(1 / seeds + group.overlap), seeds - 1, level)
        if low > 0:
            return seeds
    return None
