"""The record in the run directory: metrics.csv and train.log, written at once so that a kill loses nothing."""

import csv
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from resnet.plain import plain
from resnet.record import lines
from resnet.record.directory import LOG, METRICS, DirectoryError, RunDirectory, shortest
from resnet.record.trackers import RunFacts, TestReport, Tracker


class LocalRecord(Tracker):
    failed = "train.log lacks its last lines"

    def __init__(self, directory: RunDirectory, columns: Sequence[str]) -> None:
        self.directory, self.columns = directory, columns

    def start(self, facts: RunFacts) -> None:
        self.facts = facts
        for name, text in lines.header(facts):
            self._log(f"{name}: {text}")

    def record(self, step: int, epoch: float, metrics: dict[str, float]) -> None:
        with self.directory.append(METRICS) as file:
            csv.DictWriter(file, self.columns, restval="").writerow({"step": step, "epoch": epoch, **metrics})
        if "train/loss" in metrics:
            self._log(lines.epoch_line(step, epoch, self.facts, metrics))

    def finish(self, summary: dict[str, Any], report: TestReport) -> None:
        for name, text in lines.closing(summary):
            self._log(f"{name}: {text}")

    def fail(self, summary: dict[str, Any]) -> None:
        self._log(f"{summary['status']}: {summary['error']}")

    def _log(self, text: str) -> None:
        log(self.directory, text)


def log(directory: RunDirectory, text: str) -> None:
    with directory.append(LOG) as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {plain(text)}\n")


def warn(directory: RunDirectory, text: str) -> None:
    """Warns on the screen and in train.log: a mirror or a picture failed, but the run did not."""
    line = plain(f"warning: {shortest(directory.path)}: {text}")
    print(line, file=sys.stderr, flush=True)
    with suppress(DirectoryError):
        log(directory, line)
