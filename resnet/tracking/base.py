"""The interface of a tracker, and what it is told at the start and at the end of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet.runs.rows import Row, RowSum

# Every column of metrics.csv; blank where a record lacks it.
COLUMNS = ("step", "epoch", "train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr", "images_per_second", "seconds")


class TrackerError(Exception):
    """One line: why a tracker could not be started, and what to do."""


@dataclass(frozen=True)
class RunFacts:
    """What is known before the first step. `flops` count two per multiply-add, for one image forward."""

    name: str
    overrides: Sequence[str]
    config: dict[str, Any]
    directory: Path
    model: str
    parameters: int
    flops: int
    data: str
    device: str
    steps: int
    steps_per_epoch: int
    start_step: int = 0
    continued: str = ""  # from where, and what differs from before


@dataclass(frozen=True)
class Mistake:
    """A test image (H, W, C) uint8 that the model got wrong, and the probability that it gave to its answer."""

    image: NDArray[np.uint8]
    label: str
    answer: str
    probability: float


@dataclass(frozen=True)
class TestReport:
    """The test set's labels and answers (N,), and the mistakes that the model was surest of."""

    labels: NDArray[np.int64]
    answers: NDArray[np.int64]
    classes: Sequence[str]
    worst: Sequence[Mistake]


class Tracker:
    """Hears what a run does; each method may be left out."""

    def start(self, facts: RunFacts) -> None: ...

    def advance(self, step: int) -> None: ...

    def record(self, step: int, epoch: float, metrics: dict[str, float]) -> None: ...

    def finish(self, summary: dict[str, Any], report: TestReport) -> None: ...

    def fail(self, summary: dict[str, Any]) -> None:
        """The run failed or was interrupted, as the summary says."""


class Trackers(Tracker):
    """Several as one, told in order."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self.trackers = trackers

    def start(self, facts: RunFacts) -> None:
        for tracker in self.trackers:
            tracker.start(facts)

    def advance(self, step: int) -> None:
        for tracker in self.trackers:
            tracker.advance(step)

    def record(self, step: int, epoch: float, metrics: dict[str, float]) -> None:
        for tracker in self.trackers:
            tracker.record(step, epoch, metrics)

    def finish(self, summary: dict[str, Any], report: TestReport) -> None:
        for tracker in self.trackers:
            tracker.finish(summary, report)

    def fail(self, summary: dict[str, Any]) -> None:
        for tracker in self.trackers:
            tracker.fail(summary)


class Recorded(Tracker):
    """Keeps the latest value of each metric that a tracker is told, and the sum of all rows, beginning with those that are there."""

    def __init__(self, tracker: Tracker, rows: Sequence[Row]) -> None:
        self.tracker = tracker
        self.last: dict[str, float] = {}
        self.rows = RowSum()
        for row in rows:
            self._keep({key: value for key, value in row.items() if value is not None})

    def advance(self, step: int) -> None:
        self.tracker.advance(step)

    def record(self, step: int, epoch: float, metrics: dict[str, float]) -> None:
        self._keep({"step": step, "epoch": epoch, **metrics})
        self.tracker.record(step, epoch, metrics)

    def _keep(self, metrics: dict[str, float]) -> None:
        self.rows.add(metrics)
        self.last |= {key: int(value) if key == "step" else value for key, value in metrics.items() if key in COLUMNS}
