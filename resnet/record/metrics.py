"""How to read the metrics of runs: their direction and unit, from the summaries. Older summaries have only accuracy and loss."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from resnet.config.measured import READ

DEFAULT = "val/accuracy"
Summary = Mapping[str, Any]


@dataclass(frozen=True)
class Metric:
    """A metric; `key` is val/NAME or test/NAME."""

    key: str
    is_share: bool = True  # shown in per cent
    is_lowest: bool = False  # lower is better

    def show(self, value: float) -> str:
        return show(value, self.is_share)

    @property
    def title(self) -> str:
        return f"{self.key} (%)" if self.is_share else self.key


def show(value: float, is_share: bool) -> str:
    return f"{100 * value:.2f} %" if is_share else f"{value:.4f}"


def read_metrics(summaries: Iterable[Summary]) -> dict[str, Metric]:
    """Returns by key the held-out and test metrics that at least one of the summaries has."""
    read: dict[str, Mapping[str, str]] = dict(READ)
    for summary in summaries:
        read |= summary.get("metrics", {})
    order = sorted(read, key=["accuracy", "loss"].count, reverse=True)
    return {
        f"{part}/{name}": Metric(f"{part}/{name}", read[name].get("unit") == "%", read[name].get("direction") == "minimize")
        for part in ("val", "test")
        for name in order
    }


def is_share(summary: Summary, name: str) -> bool:
    return {**READ, **summary.get("metrics", {})}.get(name, {}).get("unit") == "%"


def others(summary: Summary) -> list[str]:
    """Returns the names of the metrics besides loss and accuracy."""
    return [name for name in summary.get("metrics", {}) if name not in READ]


def chosen_by(summaries: Iterable[Summary]) -> str:
    """Returns the metric that chose the runs' checkpoints if they all agree, else the default."""
    found = {summary.get("choose_by", DEFAULT) for summary in summaries}
    return found.pop() if len(found) == 1 else DEFAULT
