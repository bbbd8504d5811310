"""Reads saved runs: finds them in folders, each with its config, its scores and its curve. Imports no torch."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from resnet.config import UserError
from resnet.config.hashing import completed
from resnet.plain import plain, plain_values
from resnet.record.directory import CONFIG, METRICS, SUMMARY, Row, RunDirectory
from resnet.record.reading import Unreadable

MISSING = "missing"  # stands for a key that a config lacks and that has no default; null is a value


@dataclass(frozen=True)
class Run:
    path: str  # as it is shown
    config: dict[str, Any]  # flat
    summary: dict[str, Any]
    folder: Path | None = None  # None: the same as `path`

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @property
    def rows(self) -> list[Row]:
        return self._read_rows[0]

    @property
    def rows_problem(self) -> str | None:
        """Why the curve is missing although there is a metrics.csv."""
        return self._read_rows[1]

    @cached_property
    def _read_rows(self) -> tuple[list[Row], str | None]:
        directory = RunDirectory(self.folder or self.path)
        try:
            return directory.metrics if (directory / METRICS).exists() else [], None
        except (Unreadable, OSError) as error:
            return [], str(error)

    def curve(self, metric: str) -> list[tuple[float, float]]:
        """Returns steps and finite values over training; empty if the metric was not recorded."""
        points = [(row.get("step"), row.get(metric)) for row in self.rows]
        return [(step, value) for step, value in points if step is not None and value is not None and math.isfinite(value)]

    def value(self, metric: str) -> float | None:
        """Returns the value of the checkpoint that was chosen on held-out data, or None if the run has none."""
        part, name = metric.split("/")
        scores = self.summary.get("best") if part == "val" else self.summary.get("test")
        return (scores or {}).get(metric if part == "val" else name)

    def cost(self, name: str) -> float | None:
        """Returns parameters, seconds, or flops (operations of the forward pass of one image)."""
        found = self.summary.get(name)
        return found["forward"] if name == "flops" and found else found

    @property
    def row(self) -> dict[str, Any]:
        """A row in a table of runs: path, status, config, scores and costs."""
        scores = {"best_step" if key == "step" else key: value for key, value in (self.summary.get("best") or {}).items()}
        scores |= {f"test/{key}": value for key, value in self.summary.get("test", {}).items()}
        costs = {name: self.cost(name) for name in ("parameters", "flops", "seconds", "images_per_second")}
        return {"path": self.path, "status": self.summary["status"], **self.config, **scores, **costs}

    def setting(self, key: str) -> Any:
        """Returns the value of a key. For a group with a _target_, returns its class in lower case, like sgd. Returns MISSING if the config
        has neither.
        """
        if key in self.config:
            return self.config[key]
        target = self.config.get(f"{key}._target_")
        return MISSING if target is None else str(target).rsplit(".", 1)[-1].lower()


@dataclass(frozen=True)
class Found:
    runs: list[Run]
    unreadable: list[str]  # a line for each folder with a damaged run or something else


def look_for_runs(paths: Iterable[Path]) -> Found:
    """Finds runs in run directories, sweeps, and folders of them. Raises UserError if there is none that can be read."""
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


def _run_folders(path: Path) -> tuple[list[Path], list[str]]:
    """Returns the folders that look like runs, sorted, and messages about unreadable folders. A config.yaml alone may belong to another
    program.
    """
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
