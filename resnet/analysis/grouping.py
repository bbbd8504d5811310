"""Runs, found in folders and put into groups: those whose configs differ in nothing but the seed. Imports no torch."""

import json
import math
import operator
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

from resnet.analysis.intervals import Interval, t_interval
from resnet.config import UserError
from resnet.config.hashing import WITHOUT, completed
from resnet.config.suggest import nearest
from resnet.plain import plain, plain_values
from resnet.record.directory import CONFIG, FINISHED, METRICS, SUMMARY, Row, RunDirectory
from resnet.record.reading import Unreadable

IGNORED = {*WITHOUT, "seed"}  # keys that make no other group
MISSING = "missing"  # what a config says of a key that it lacks and that has no default; null is a value


@dataclass(frozen=True)
class Run:
    path: str  # as it is shown
    config: dict[str, Any]  # flat
    summary: dict[str, Any]
    folder: Path | None = None  # None: the path

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @property
    def rows(self) -> list[Row]:
        return self._read_rows[0]

    @property
    def rows_problem(self) -> str | None:
        """Why its curve is not there, where a metrics.csv is."""
        return self._read_rows[1]

    @cached_property
    def _read_rows(self) -> tuple[list[Row], str | None]:
        directory = RunDirectory(self.folder or self.path)
        try:
            return directory.metrics if (directory / METRICS).exists() else [], None
        except (Unreadable, OSError) as error:
            return [], str(error)

    def curve(self, metric: str) -> list[tuple[float, float]]:
        """Steps and finite values over training; empty where it was not recorded."""
        points = [(row.get("step"), row.get(metric)) for row in self.rows]
        return [(step, value) for step, value in points if step is not None and value is not None and math.isfinite(value)]

    def value(self, metric: str) -> float | None:
        """Of the checkpoint that was chosen on held-out data; None where the run has none."""
        part, name = metric.split("/")
        kept = self.summary.get("best") if part == "val" else self.summary.get("test")
        return (kept or {}).get(metric if part == "val" else name)

    def cost(self, name: str) -> float | None:
        """Parameters, seconds, or flops: operations of an image, forward."""
        found = self.summary.get(name)
        return found["forward"] if name == "flops" and found else found

    @property
    def row(self) -> dict[str, Any]:
        """Of a table of runs: where it lies, how it ended, its config, scores and costs."""
        scores = {"best_step" if key == "step" else key: value for key, value in (self.summary.get("best") or {}).items()}
        scores |= {f"test/{key}": value for key, value in self.summary.get("test", {}).items()}
        costs = {name: self.cost(name) for name in ("parameters", "flops", "seconds", "images_per_second")}
        return {"path": self.path, "status": self.summary["status"], **self.config, **scores, **costs}

    def setting(self, key: str) -> Any:
        """Of a key, or of a group with a _target_: its class in small letters, like sgd. MISSING where the config has neither."""
        if key in self.config:
            return self.config[key]
        target = self.config.get(f"{key}._target_")
        return MISSING if target is None else str(target).rsplit(".", 1)[-1].lower()


@dataclass(frozen=True)
class Group:
    """Runs that are compared as one; `values` by seed (and by what else they differ in, where a key is averaged over)."""

    differing: dict[str, Any]
    values: dict[str, float]
    runs: list[Run]  # those that count
    left_out: list[str] = field(default_factory=list)  # failed, interrupted and non-finite ones, by name

    @property
    def mean(self) -> float:
        return mean(self.values.values()) if self.values else math.nan

    @property
    def deviation(self) -> float | None:
        return stdev(self.values.values()) if len(self.values) > 1 else None

    @property
    def interval(self) -> Interval | None:
        """95 % t interval of the mean, from three seeds on: of two, the values themselves say more."""
        return None if len(self.values) < 3 else t_interval(list(self.values.values()))

    @property
    def name(self) -> str:
        return " ".join(f"{key}={text_of(value)}" for key, value in self.differing.items()) or "one config"


@dataclass(frozen=True)
class Found:
    runs: list[Run]
    unreadable: list[str]  # a line for each folder that holds something else, or a damaged run


def look_for_runs(paths: Iterable[Path]) -> Found:
    """In run directories, sweeps, and folders of them. Raises UserError where there are none that can be read."""
    found, unreadable = dict[Path, Run](), list[str]()
    for path in paths:
        folders, problems = _run_folders(path)
        unreadable += problems
        if not folders and not problems:
            raise UserError(f"{path}: no run in it; give run directories, sweeps, or folders of them")
        for folder in folders:
            try:
                found[folder.resolve()] = _read_run(folder)
            except UserError as error:
                unreadable.append(str(error))
    if not found:
        more = f"; and {len(unreadable) - 3} more" if len(unreadable) > 3 else ""
        raise UserError(f"no run that can be read: {'; '.join(unreadable[:3])}{more}")
    return Found(list(found.values()), unreadable)


def find_runs(paths: Iterable[Path]) -> list[Run]:
    return look_for_runs(paths).runs


def _run_folders(path: Path) -> tuple[list[Path], list[str]]:
    """Folders that look like runs, in order, and those that cannot be looked into. Other programs have a config.yaml too."""
    if RunDirectory(path).exists:
        return [path], []
    found, unreadable = list[Path](), list[str]()

    def note(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            unreadable.append(str(Unreadable(Path(error.filename), error.strerror)))

    for folder, inside, files in os.walk(path, onerror=note):
        inside.sort()
        if {SUMMARY, CONFIG} <= {*files, *inside}:
            found.append(Path(folder))
    return sorted(found), unreadable


def _read_run(folder: Path) -> Run:
    directory = RunDirectory(folder)
    config = {plain(key): plain_values(value) for key, value in completed(directory.config).items()}
    if type(config["seed"]) is not int:
        raise Unreadable(directory / CONFIG, f"seed={config['seed']} is no whole number")
    return Run(plain(str(folder)), config, directory.summary, folder)


def _same(value: Any, wanted: Any) -> bool:
    """What the tables show, rounded as it may be, finds its run."""
    return value == wanted or text_of(value) == text_of(wanted)


CONDITION = re.compile(r"([\w.]+)(<=|>=|!=|=|<|>)(.+)")
OPERATORS = {
    "=": _same,
    "!=": lambda value, wanted: not _same(value, wanted),
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


def filter_runs(runs: Sequence[Run], conditions: str) -> list[Run]:
    """Those that meet all conditions, like `lr>0.1 optimizer=sgd`. Raises UserError where one cannot be read or has no such key."""
    kept = list(runs)
    for text in re.sub(r",\s+", ",", conditions).split():
        match = CONDITION.fullmatch(text)
        if match is None:
            raise UserError(f"filter {text}: cannot be read; write KEY=VALUE, with one of {' '.join(OPERATORS)}")
        key, sign, wanted = match[1], match[2], _value(match[3], text)
        _check_known(key, f"filter {text}", runs)
        kept = [run for run in kept if _meets(run.setting(key), OPERATORS[sign], wanted)]
    return kept


def _value(text: str, condition: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # a date or a number that cannot be, brackets by the thousand
        raise UserError(f"filter {condition}: {text} is no value; write a number, a word, or a list like [2,2,2]") from None
    with suppress(ValueError):  # YAML takes 1e-3 for a word
        return float(value) if isinstance(value, str) else value
    return value


def _meets(value: Any, holds: Callable[[Any, Any], bool], wanted: Any) -> bool:
    try:
        return holds(value, wanted)
    except TypeError:  # null, or text against a number
        return False


def _check_known(key: str, asked: str, runs: Sequence[Run]) -> None:
    if all(run.setting(key) is MISSING for run in runs):
        known = sorted({name for run in runs for name in run.config})
        raise UserError(f"{asked}: no run has the key {key}{nearest(key, known)}")


def group_runs(runs: Sequence[Run], metric: str, by: Sequence[str] = ()) -> list[Group]:
    """In the order in which they were found; runs that share all but the seed are one group, or those that share the keys `by`.

    A seed that is there twice counts once: the run that is finished, else the first. Raises UserError where no run has a key.
    """
    for key in by:
        _check_known(key, f"group-by {key}", runs)
    kept: dict[str, list[int]] = {}
    for number, run in enumerate(runs):
        kept.setdefault(_identity(run, by), []).append(number)
    members = list(kept.values())
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
    """What tells a run from the others of its group: its seed, and what `by` does not hold fixed."""
    return " ".join([str(run.seed), *(f"{key}={text_of(value)}" for key, value in differing.items() if key not in by)])


def is_ignored(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in IGNORED)


def differing(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each flat config the keys that not all share, in short: `optimizer=adam` stands for the class and what comes with it."""
    varied = varying(configs)
    groups = {key.removesuffix("._target_") for key in varied if key.endswith("._target_")}
    shown = [key for key in varied if key != "optimizer.lr" and not _comes_with_class(key, groups, configs)]  # optimizer.lr is lr
    return [{_short(key): _class(config, key) for key in shown} for config in configs]


def varying(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = [key for key in dict.fromkeys(key for config in configs for key in config) if not is_ignored(key)]
    return [key for key in keys if len({repr(config.get(key, MISSING)) for config in configs}) > 1]


def _comes_with_class(key: str, groups: set[str], configs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a setting follows from its group's class: adam's betas say nothing that optimizer=adam does not."""
    group, _, name = key.rpartition(".")
    if group not in groups or name == "_target_":
        return False
    pairs = {(config.get(f"{group}._target_"), repr(config.get(key, MISSING))) for config in configs}
    return len(pairs) == len({target for target, _ in pairs})


def _short(key: str) -> str:
    return key.removesuffix("._target_")


def _class(config: Mapping[str, Any], key: str) -> Any:
    value = config.get(key, MISSING)
    return str(value).rsplit(".", 1)[-1].lower() if key.endswith("._target_") else value


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
        if len({session[key] for run in runs for session in run.summary.get("sessions", [])[-1:] if key in session}) > 1:
            told.append(f"different {'torch versions' if key == 'torch' else 'devices'}")
    return told


def without_curve(runs: Sequence[Run]) -> list[str]:
    """Whose metrics.csv is damaged; their results, which the summary has, count."""
    return [f"{run.rows_problem}; its curve is left out" for run in runs if run.rows_problem]


def unmatched(groups: Sequence[Group]) -> list[str]:
    """Which groups lack seeds that others have."""
    seeds = dict.fromkeys(seed for group in groups for seed in group.values)
    lacking: dict[str, list[str]] = {}
    for group in groups:
        if missing := sorted((seed for seed in seeds if seed not in group.values), key=seed_order):
            lacking.setdefault(", ".join(missing), []).append(group.name)
    return [f"unmatched seeds: {_first_of(names)} {missing}" for missing, names in lacking.items()]


def _first_of(names: Sequence[str]) -> str:
    others = len(names) - 1
    return f"{names[0]} and {others} other group{'s' * (others > 1)} lack" if others else f"{names[0]} lacks"


def seed_order(member: str) -> tuple[int, str]:
    return int(member.split()[0]), member


def text_of(value: Any) -> str:
    """As it is shown; numbers to six significant digits, as a search proposes some with 17."""
    if isinstance(value, float):
        value = float(f"{value:.6g}")
    return "null" if value is None else str(value).replace(" ", "") if isinstance(value, list) else str(value)
