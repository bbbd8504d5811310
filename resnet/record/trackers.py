"""The interface of a tracker, and what it gets at the start and at the end of a run."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet.record.directory import DirectoryError
from resnet.record.rows import Row, RowSum

# All columns of metrics.csv; a cell is blank if its record lacks the metric.
COLUMNS = ("step", "epoch", "train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr", "images_per_second", "seconds")


class TrackerError(Exception):
    """A tracker could not be started. The message is one line: the reason, and what to do."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Facts known before the first step. `flops` are of the forward pass of one image; a multiply-add counts as two."""

    name: str
    overrides: Sequence[str]
    config: dict[str, Any]
    directory: Path
    model: str
    parameters: int
    flops: int
    memory: int  # bytes that a step of one process needs, about
    data: str
    device: str
    steps: int
    steps_per_epoch: int
    measured: Mapping[str, bool] = field(default_factory=dict)  # metrics besides loss and accuracy, and whether each is a share
    start_step: int = 0
    notes: Sequence[str] = ()  # what the user should know of before training
    continued: str = ""  # the step it continues from, and what has changed


@dataclass(frozen=True)
class Mistake:
    """A misclassified test image (H, W, C) uint8, with the probability of the predicted class."""

    image: NDArray[np.uint8]
    label: str
    answer: str
    probability: float


@dataclass(frozen=True)
class TestReport:
    """Labels and predictions of the test set (N,), and the mistakes with the highest predicted probability."""

    labels: NDArray[np.int64]
    answers: NDArray[np.int64]
    classes: Sequence[str]
    worst: Sequence[Mistake]


class Tracker:
    """Receives the events of a run; every method is optional."""

    failed = ""  # what the user reads if the tracker fails
    again = ""  # how to make up for the failure

    def start(self, facts: RunFacts) -> None: ...

    def advance(self, step: int) -> None: ...

    def record(self, step: int, epoch: float, metrics: dict[str, float]) -> None: ...

    def finish(self, summary: dict[str, Any], report: TestReport) -> None: ...

    def fail(self, summary: dict[str, Any]) -> None:
        """Called if the run failed or was interrupted; the summary says which."""

    def close(self) -> None:
        """Called after the tracker itself failed, so that it frees its resources. It gets no further calls."""


class Trackers(Tracker):
    """The local record and its mirrors, called in order. Only the record can fail the run; a mirror that fails causes one warning and is
    dropped.
    """

    def __init__(self, local: Tracker, mirrors: Sequence[Tracker], warn: Callable[[str], None]) -> None:
        self.local, self.mirrors, self.warn = local, list(mirrors), warn

    def start(self, facts: RunFacts) -> None:
        self._tell(lambda tracker: tracker.start(facts))

    def advance(self, step: int) -> None:
        self._tell(lambda tracker: tracker.advance(step))

    def record(self, step: int, epoch: float, metrics: dict[str, float]) -> None:
        self._tell(lambda tracker: tracker.record(step, epoch, metrics))

    def finish(self, summary: dict[str, Any], report: TestReport) -> None:
        for tracker in (self.local, *self.mirrors):  # the summary is already written, so even a failing log only warns
            self._guard(tracker, lambda tracker: tracker.finish(summary, report))

    def fail(self, summary: dict[str, Any]) -> None:
        with suppress(OSError, DirectoryError):  # this error may be why the run failed
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
        except Exception as error:  # e.g. of W&B, matplotlib or the screen; no mirror may fail the run
            with suppress(ValueError):
                self.mirrors.remove(tracker)
            with suppress(Exception):
                tracker.close()
            self.warn("; ".join(filter(None, [f"{tracker.failed}: {reason(error)}", tracker.again])))


def reason(error: BaseException) -> str:
    """Returns the error in one line, with its type if it is not one of our errors."""
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, TrackerError | DirectoryError) else f"{type(error).__name__}: {text}".rstrip(": ")


class Recorded(Tracker):
    """Passes the calls on to a tracker. Keeps the latest value of each metric and the checksum of all rows, including earlier ones."""

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
