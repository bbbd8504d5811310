"""Groups runs: those whose configs differ only in the seed, or those that share the given keys."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any

from resnet.analysis.filtering import check_known
from resnet.analysis.intervals import Interval, t_interval
from resnet.analysis.naming import differing, is_ignored, text_of
from resnet.analysis.runs import Run
from resnet.record.directory import FINISHED


@dataclass(frozen=True)
class Group:
    """Runs that are compared as one. `values` is by seed, and by other differing keys if the group averages over them."""

    differing: dict[str, Any]
    values: dict[str, float]
    runs: list[Run]  # the runs that count
    left_out: list[str] = field(default_factory=list)  # failed, interrupted and non-finite runs, with the reason

    @property
    def mean(self) -> float:
        return mean(self.values.values()) if self.values else math.nan

    @property
    def deviation(self) -> float | None:
        return stdev(self.values.values()) if len(self.values) > 1 else None

    @property
    def interval(self) -> Interval | None:
        """95 % t interval of the mean, if there are at least three values; two values say more by themselves."""
        return None if len(self.values) < 3 else t_interval(list(self.values.values()), overlap=self.overlap)

    @property
    def overlap(self) -> float:
        """Test images divided by training images if the runs are folds of a cross-validation, else 0."""
        folds = [number for run in self.runs if (number := run.config.get("data.folds")) is not None]
        return 1 / (min(folds) - 1) if folds else 0.0

    @property
    def name(self) -> str:
        return " ".join(f"{key}={text_of(value)}" for key, value in self.differing.items()) or "one config"


def group_runs(runs: Sequence[Run], metric: str, by: Sequence[str] = ()) -> list[Group]:
    """Groups runs that differ only in the seed, or that share the keys `by`, in the order found.

    A seed that appears twice counts once: the finished run, else the first one. Raises UserError if no run has a key.
    """
    for key in by:
        check_known(key, f"group-by {key}", runs)
    numbers_by_group: dict[str, list[int]] = {}
    for number, run in enumerate(runs):
        numbers_by_group.setdefault(_identity(run, by), []).append(number)
    members = list(numbers_by_group.values())
    apart = differing([run.config for run in runs]) if by else [{} for _ in runs]
    names = [{key: runs[numbers[0]].setting(key) for key in by} for numbers in members]
    names = names if by else differing([runs[numbers[0]].config for numbers in members])
    return [
        _group(name, [(_member(runs[number], apart[number], by), runs[number]) for number in numbers], metric)
        for name, numbers in zip(names, members, strict=True)
    ]


def _identity(run: Run, by: Sequence[str]) -> str:
    if by:
        return json.dumps([run.setting(key) for key in by])
    return json.dumps({key: value for key, value in run.config.items() if not is_ignored(key)}, sort_keys=True)


def _member(run: Run, differing: Mapping[str, Any], by: Sequence[str]) -> str:
    """Returns what distinguishes a run within its group: its seed, its fold, and the differing keys that are not in `by`."""
    fold = [f"fold={run.config.get('data.fold')}"] if run.config.get("data.folds") is not None else []
    return " ".join([str(run.seed), *fold, *(f"{key}={text_of(value)}" for key, value in differing.items() if key not in by)])


def _group(name: dict[str, Any], members: Sequence[tuple[str, Run]], metric: str) -> Group:
    counted: dict[str, tuple[float, Run]] = {}
    left_out = []
    for member, run in members:
        value = run.value(metric)
        if run.summary["status"] != FINISHED:
            error = run.summary.get("error")
            left_out.append(f"{run.path}: {run.summary['status']}" + (f": {error}" if error else ""))
        elif value is None or not math.isfinite(value):
            left_out.append(f"{run.path}: no finite {metric}")
        elif member in counted:
            left_out.append(f"{run.path}: the same config and seed as {counted[member][1].path}, which counts")
        else:
            counted[member] = value, run
    return Group(name, {member: value for member, (value, _) in counted.items()}, [run for _, run in counted.values()], left_out)
