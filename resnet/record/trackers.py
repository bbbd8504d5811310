"""The interface of a tracker, and what it is told at the start and at the end of a run."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet.record.directory import DirectoryError
from resnet.record.rows import Row, RowSum

# Every column of metrics.csv; blank where a record lacks it.
COLUMNS = ("step", "epoch", "train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr", "images_per_second", "seconds")


class TrackerError(Exception):
    """One line: why a tracker could not be started, and what to do."""


@dataclass(frozen=True, kw_only=True)
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
    measured: Mapping[str, bool] = field(default_factory=dict)  # metrics besides loss and accuracy, and whether they are shares
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

    failed = ""  # what is to be said of the run where the tracker fails
    again = ""  # and how to make up for it

    def start(self, facts: RunFacts) -> None: ...

    def advance(self, step: int) -> None: ...

    def record(self, step: int, epoch: float, metrics: dict[str, float]) -> None: ...

    def finish(self, summary: dict[str, Any], report: TestReport) -> None: ...

    def fail(self, summary: dict[str, Any]) -> None:
        """The run failed or was interrupted, as the summary says."""

    def close(self) -> None:
        """It has failed, and hears no more: it lets go of what it holds."""


class Trackers(Tracker):
    """The record and its mirrors, told in order. Only the record can fail the run: a mirror that fails is told of once, and left out."""

    def __init__(self, local: Tracker, mirrors: Sequence[Tracker], warn: Callable[[str], None]) -> None:
        self.local, self.mirrors, self.warn = local, list(mirrors), warn

    def start(self, facts: RunFacts) -> None:
        self._tell(lambda tracker: tracker.start(facts))

    def advance(self, step: int) -> None:
        self._tell(lambda tracker: tracker.advance(step))

    def record(self, step: int, epoch: float, metrics: dict[str, float]) -> None:
        self._tell(lambda tracker: tracker.record(step, epoch, metrics))

    def finish(self, summary: dict[str, Any], report: TestReport) -> None:
        for tracker in (self.local, *self.mirrors):  # the summary is written: the log too can only warn
            self._guard(tracker, lambda tracker: tracker.finish(summary, report))

    def fail(self, summary: dict[str, Any]) -> None:
        with suppress(OSError, DirectoryError):  # which may be what the run failed of
            self.local.fail(summary)
        for mirror in tuple(self.mirrors):
            self._guard(mirror, lambda mirror: mirror.fail(summary))

    def _tell(self, call: Callable[[Tracker], None]) -> None:
        call(self.local)
        for mirror in tuple(self.mirrors):
            self._guard(mirror, call)

    def _guard(self, tracker: Tracker, call: Callable[[Tracker], None]) -> None:
        try:
            call(tracker)
        except Exception as error:  # of W&B, matplotlib, the screen: whatever it is, it is not the run's
            with suppress(ValueError):
                self.mirrors.remove(tracker)
            with suppress(Exception):
                tracker.close()
            self.warn("; ".join(filter(None, [f"{tracker.failed}: {reason(error)}", tracker.again])))


def reason(error: BaseException) -> str:
    """One line; an error that is not ours says its kind too."""
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, TrackerError | DirectoryError) else f"{type(error).__name__}: {text}".rstrip(": ")


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
