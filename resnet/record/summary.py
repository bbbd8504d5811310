"""The format of summary.json. An older file may lack keys that were added later; their values are unknown."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet.plain import plain_values
from resnet.record.reading import Unreadable, read_json

RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"


@dataclass(frozen=True)
class Kind:
    wanted: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(SOME.fits, value))


TEXT = Kind("text", lambda value: isinstance(value, str))
TRUTH = Kind("true or false", lambda value: isinstance(value, bool))
COUNT = Kind("a whole number from 0", lambda value: type(value) is int and value >= 0)
SOME = Kind("a whole number from 1", lambda value: type(value) is int and value >= 1)
SIZE = Kind("a whole number from 1, or two of them", lambda value: SOME.fits(value) or _is_size(value))
METRIC = Kind("a number", _is_number)  # may be infinite or NaN
FINITE = Kind("a finite number", lambda value: _is_number(value) and math.isfinite(value))
ABOVE_0 = Kind("a finite number above 0", lambda value: _is_number(value) and 0 < value < math.inf)
STATUS = Kind("running, finished, failed or interrupted", lambda value: value in (RUNNING, FINISHED, FAILED, INTERRUPTED))
UNIT = Kind("% or nothing", lambda value: value in ("%", ""))
DIRECTION = Kind("maximize or minimize", lambda value: value in ("maximize", "minimize"))
SHAPE = {
    "status": STATUS,
    "error": TEXT,
    "name": TEXT,
    "overrides": [TEXT],
    "notes": [TEXT],
    "best": {"step": COUNT, "val/accuracy": METRIC, "val/loss": METRIC},
    "last": {"step": COUNT, "epoch": METRIC, "train/loss": METRIC, "train/accuracy": METRIC, "val/loss": METRIC, "val/accuracy": METRIC},
    "test": {"accuracy": METRIC, "loss": METRIC, "images": COUNT},
    "never_predicted": [{"class": TEXT, "images": COUNT}],  # on the test images
    "ended_early": {"step": COUNT, "of": COUNT, "evaluations": SOME},  # by early_stop
    "choose_by": TEXT,
    "metrics": {},  # direction and unit, by name
    "seconds": FINITE,
    "training_seconds": FINITE,
    "images_per_second": FINITE,
    "parameters": COUNT,
    "flops": {"forward": COUNT, "training": COUNT},
    "seed": COUNT,
    "config_hash": TEXT,
    "wandb_run": TEXT,
    "versions": {},
    "commit": {"sha": TEXT, "dirty": TRUTH},
    "code": {"modules": {}},
    "directory": TEXT,
    "wandb_folder": TEXT,
    "device": TEXT,
    "threads": SOME,
    "data": {
        "train": COUNT,
        "val": COUNT,
        "test": COUNT,
        "classes": [TEXT],
        "channels": SOME,
        "image_size": SIZE,
        "pictures": TEXT,
        "notes": [TEXT],
        "mean": [FINITE],
        "std": [ABOVE_0],
        "class_counts": [COUNT],
        "digest": TEXT,
    },
    "input_size": SIZE,
    "sessions": [{"step": COUNT, "started": TEXT, "threads": SOME, "processes": SOME, "device": TEXT, "torch": TEXT, "extended": [TEXT]}],
}
# Values of the keys that every summary must have, if they are unknown.
UNKNOWN: dict[str, Any] = {"error": None, "name": "", "overrides": [], "best": None, "config_hash": None, "commit": None, "sessions": []}


def read_summary(path: Path) -> dict[str, Any]:
    """Reads and checks a summary and makes its text plain. Keeps unknown keys. Raises Unreadable, naming the wrong key."""
    summary = _fitting(path, read_json(path), SHAPE, "")
    if "status" not in summary:
        raise Unreadable(path, "it has no status")
    for key, needed in (("test", ("accuracy", "loss")), ("best", ("val/accuracy", "val/loss"))):
        is_wanted = summary["status"] == FINISHED if key == "test" else key in summary
        if lacks := [name for name in needed if is_wanted and name not in summary.get(key, {})]:
            raise Unreadable(path, f"it has no {key}.{lacks[0]}")
    summary |= {"metrics": _metrics(path, summary)}
    chosen = summary.get("choose_by", "val/accuracy")
    if summary.get("best") and chosen not in summary["best"]:
        raise Unreadable(path, f"it has no best.{chosen}")
    return {**UNKNOWN, **summary}


def _metrics(path: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """Returns the direction and unit of each metric. Raises Unreadable if a metric's value is no number."""
    read = {
        name: _fitting(path, value, {"direction": DIRECTION, "unit": UNIT}, f"metrics.{name}")
        for name, value in summary.get("metrics", {}).items()
    }
    for part, prefix in (("best", "val/"), ("last", "val/"), ("test", "")):
        for name in read:
            if f"{prefix}{name}" in summary.get(part, {}):
                _fitting(path, summary[part][f"{prefix}{name}"], METRIC, f"{part}.{prefix}{name}")
    return read


def _fitting(path: Path, value: Any, shape: Any, key: str) -> Any:
    """Checks a value against its shape. null means unknown, so such a key is left out."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise Unreadable(path, f"{key}: keys and values are needed")
        known = {name: item for name, item in value.items() if item is not None}
        return {plain_values(name): _fitting(path, item, shape.get(name), f"{key}.{name}".strip(".")) for name, item in known.items()}
    if isinstance(shape, list):
        if not isinstance(value, list):
            raise Unreadable(path, f"{key}: a list is needed")
        return [_fitting(path, item, shape[0], f"{key}[{index}]") for index, item in enumerate(value)]
    if isinstance(shape, Kind) and not shape.fits(value):
        raise Unreadable(path, f"{key}: {shape.wanted} is needed")
    return plain_values(value)
