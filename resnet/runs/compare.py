"""Compares runs: grouped by all that decides a result but the seed, with intervals that are honest for few seeds. Imports no torch."""

import json
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

from resnet.config import UserError
from resnet.config.hashing import WITHOUT, flatten
from resnet.config.suggest import nearest
from resnet.runs.directory import FINISHED, RunDirectory

METRICS = ("val/accuracy", "val/loss", "test/accuracy", "test/loss")
IGNORED = {*WITHOUT, "seed", "data.path"}  # keys that make no other group: the seed, paths and hosts
LEVEL = 0.95


@dataclass(frozen=True)
class Run:
    path: str
    config: dict[str, Any]  # flat
    summary: dict[str, Any]

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    def curve(self, metric: str) -> list[float]:
        """The metric over training; empty where it was not recorded."""
        try:
            rows = RunDirectory(self.path).metrics
        except OSError:
            return []
        return [value for row in rows if (value := row.get(metric)) is not None]

    def value(self, metric: str) -> float | None:
        """Of the checkpoint that was chosen on held-out data; None where the run has none."""
        part, name = metric.split("/")
        kept = self.summary.get("best") if part == "val" else self.summary.get("test")
        return (kept or {}).get(metric if part == "val" else name)


@dataclass(frozen=True)
class Group:
    """Runs of one config that differ in their seed."""

    differing: dict[str, Any]
    values: dict[int, float]  # by seed
    runs: list[Run]
    left_out: list[str] = field(default_factory=list)  # failed, interrupted and non-finite ones, by name

    @property
    def mean(self) -> float:
        return mean(self.values.values()) if self.values else math.nan

    @property
    def deviation(self) -> float | None:
        return stdev(self.values.values()) if len(self.values) > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % t interval of the mean, from three seeds on: of two, the values themselves say more."""
        if len(self.values) < 3:
            return None
        return t_interval(list(self.values.values()), LEVEL)

    @property
    def name(self) -> str:
        return " ".join(f"{key}={text_of(value)}" for key, value in self.differing.items()) or "all"


@dataclass(frozen=True)
class Difference:
    """A group against the baseline; `interval` is None where too few seeds are there."""

    value: float
    interval: tuple[float, float] | None
    is_paired: bool
    higher: int  # of the common seeds, where paired
    seeds: int

    @property
    def is_resolved(self) -> bool:
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def find_runs(paths: Iterable[Path]) -> list[Run]:
    """Of run directories, sweeps, and folders of them. Raises UserError where there are none."""
    found = {}
    for path in paths:
        configs = [path / "config.yaml"] if (path / "config.yaml").is_file() else sorted(path.rglob("config.yaml"))
        if not configs:
            raise UserError(f"{path}: no run in it; give run directories, sweeps, or folders of them")
        for config in configs:
            directory = RunDirectory(config.parent)
            try:
                found[config.parent.resolve()] = Run(str(config.parent), flatten(directory.config), directory.summary)
            except (yaml.YAMLError, json.JSONDecodeError, AttributeError) as error:
                raise UserError(f"{config.parent}: cannot be read ({str(error).splitlines()[0]})") from None
    return list(found.values())


CONDITION = re.compile(r"([\w.]+)(<=|>=|!=|=|<|>)(.+)")
OPERATORS = {"=": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge}


def filter_runs(runs: Sequence[Run], conditions: str) -> list[Run]:
    """Those that meet all conditions, like `lr>0.1 optimizer=sgd`. Raises UserError where one cannot be read or has no such key."""
    kept = list(runs)
    for text in conditions.split():
        match = CONDITION.fullmatch(text)
        if match is None:
            raise UserError(f"filter {text}: cannot be read; write KEY=VALUE, with one of {' '.join(OPERATORS)}")
        key, sign, wanted = match[1], match[2], yaml.safe_load(match[3])
        if not any(_has(run, key) for run in runs):
            known = sorted({name for run in runs for name in run.config})
            raise UserError(f"filter {text}: no run has the key {key}{nearest(key, known)}")
        kept = [run for run in kept if _meets(_value(run, key), OPERATORS[sign], wanted)]
    return kept


def _has(run: Run, key: str) -> bool:
    return key in run.config or f"{key}._target_" in run.config


def _value(run: Run, key: str) -> Any:
    """Of a group with a _target_, its class in small letters: sgd."""
    return run.config[key] if key in run.config else str(run.config.get(f"{key}._target_", "")).rsplit(".", 1)[-1].lower()


def _meets(value: Any, holds: Callable[[Any, Any], bool], wanted: Any) -> bool:
    try:
        return holds(value, wanted)
    except TypeError:  # null, or text against a number
        return False


def group_runs(runs: Sequence[Run], metric: str) -> list[Group]:
    """In the order in which they were found. A seed that is there twice counts once: the run that is finished, else the first."""
    kept: dict[str, list[Run]] = {}
    for run in runs:
        identity = {key: value for key, value in run.config.items() if not is_ignored(key)}
        kept.setdefault(json.dumps(identity, sort_keys=True), []).append(run)
    members = list(kept.values())
    differing = _differing([group[0].config for group in members])
    return [_group(row, group, metric) for row, group in zip(differing, members, strict=True)]


def is_ignored(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in IGNORED)


def _differing(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    keys = [key for key in dict.fromkeys(key for config in configs for key in config) if not is_ignored(key)]
    varied = [key for key in keys if len({repr(config.get(key, "missing")) for config in configs}) > 1]
    shown = [key for key in varied if key != "optimizer.lr"]  # it is lr
    return [{key: config.get(key, "missing") for key in shown} for config in configs]


def _group(differing: dict[str, Any], runs: list[Run], metric: str) -> Group:
    values: dict[int, float] = {}
    left_out = []
    for run in runs:
        value = run.value(metric)
        if run.summary["status"] != FINISHED:
            left_out.append(f"{run.path}: {run.summary['status']}")
        elif value is None or not math.isfinite(value):
            left_out.append(f"{run.path}: no finite {metric}")
        else:
            values.setdefault(run.seed, value)
    return Group(differing, values, runs, left_out)


def t_interval(values: Sequence[float], level: float) -> tuple[float, float]:
    """Of the mean of independent values (Student's t)."""
    return _around(mean(values), stdev(values) / math.sqrt(len(values)), len(values) - 1, level)


def _around(middle: float, error: float, freedom: float, level: float) -> tuple[float, float]:
    from scipy.stats import t

    half = float(t.ppf((1 + level) / 2, freedom)) * error
    return middle - half, middle + half


def compare(group: Group, baseline: Group, num_comparisons: int) -> Difference:
    """Paired over the seeds where both have the same ones, Welch's otherwise; widened for the number of comparisons (Bonferroni)."""
    level = 1 - (1 - LEVEL) / num_comparisons
    one, other = group.values, baseline.values
    if one.keys() == other.keys():
        differences = [one[seed] - other[seed] for seed in one]
        interval = t_interval(differences, level) if len(differences) > 1 else None
        return Difference(mean(differences), interval, True, sum(value > 0 for value in differences), len(differences))
    value, seeds = group.mean - baseline.mean, min(len(one), len(other))
    if seeds < 2:
        return Difference(value, None, False, 0, seeds)
    parts = [stdev(values.values()) ** 2 / len(values) for values in (one, other)]
    error = math.sqrt(sum(parts))
    weights = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (one, other), strict=True))
    interval = _around(value, error, sum(parts) ** 2 / weights, level) if weights else (value, value)
    return Difference(value, interval, False, 0, seeds)


def in_words(difference: Difference, metric: str) -> str:
    is_share = metric.endswith("accuracy")
    scale, unit = (100, " points") if is_share else (1, "")
    digits = 2 if is_share else 4
    text = f"{scale * difference.value:+.{digits}f}{unit}"
    if difference.interval is None:
        return f"{text}, one seed, no interval"
    low, high = (f"{scale * bound:+.{digits}f}" for bound in difference.interval)
    seeds = f", {difference.higher} of {difference.seeds} seeds higher" if difference.is_paired else ""
    verdict = f"{'higher' if difference.value > 0 else 'lower'} in this setup"
    end = verdict if difference.is_resolved else f"not resolved with {difference.seeds} seeds"
    return f"{text}, 95 % interval [{low}, {high}]{seeds}: {end}"


def seeds_to_settle(group: Group, baseline: Group, num_comparisons: int) -> int | None:
    """How many seeds would resolve a difference as large as the one seen, if it and its spread stay; None from 100 on."""
    if group.values.keys() != baseline.values.keys() or len(group.values) < 2:
        return None
    differences = [group.values[seed] - baseline.values[seed] for seed in group.values]
    spread, size = stdev(differences), abs(mean(differences))
    level = 1 - (1 - LEVEL) / num_comparisons
    for seeds in range(len(differences) + 1, 100):
        low, _ = _around(size, spread / math.sqrt(seeds), seeds - 1, level)
        if low > 0:
            return seeds
    return None


def cautions(runs: Sequence[Run]) -> list[str]:
    """What makes these runs hard to compare."""
    commits = {json.dumps(run.summary.get("commit")) for run in runs}
    told = [f"{len(commits)} different commits"] if len(commits) > 1 else []
    if any((run.summary.get("commit") or {}).get("dirty") for run in runs):
        told.append("files differed from their commit")
    for key, name in (("data.split_seed", "data splits"), ("data.val_size", "held-out sizes"), ("epochs", "numbers of epochs")):
        if len({repr(run.config.get(key)) for run in runs}) > 1:
            told.append(f"different {name}")
    for key in ("torch", "device"):
        if len({session[key] for run in runs for session in run.summary.get("sessions", [])[-1:]}) > 1:
            told.append(f"different {'torch versions' if key == 'torch' else 'devices'}")
    return told


def text_of(value: Any) -> str:
    return "null" if value is None else str(value).replace(" ", "")
