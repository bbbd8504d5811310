"""Where a run reports to: its directory, the screen, Weights & Biases; all through one small interface."""

from resnet.tracking.base import RunFacts, TestReport, Tracker, Trackers
from resnet.tracking.console import Console
from resnet.tracking.local import LocalRecord

__all__ = ["Console", "LocalRecord", "RunFacts", "TestReport", "Tracker", "Trackers"]
