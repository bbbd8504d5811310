"""The pictures and the page of a run or a sweep, made from what lies in its directory, at its end or whenever they are asked for."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from resnet.config import UserError
from resnet.config.hashing import flatten
from resnet.runs.curves import draw_curves, draw_probes
from resnet.runs.directory import CURVES, FINISHED, PROBES, RunDirectory, run_ids, shortest
from resnet.runs.grouping import Run, find_runs
from resnet.runs.report import REPORT, report_on


def drawings(directory: RunDirectory, summary: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """By file, what makes it of one run. A run without probes has no picture of them."""
    path = shortest(directory.path)
    title = " ".join(summary["overrides"]) or summary["name"]
    result = f": test accuracy {100 * summary['test']['accuracy']:.2f} %" if summary["status"] == FINISHED else f" ({summary['status']})"

    def write_page() -> None:
        report_on([Path(path)], [Run(path, flatten(directory.config), summary)], "val/accuracy", directory / REPORT)

    return {
        CURVES: lambda: draw_curves(directory, title + result),
        PROBES: lambda: draw_probes(directory, title),
        **({REPORT: write_page} if summary["status"] == FINISHED else {}),
    }


def missing(directory: RunDirectory, drawn: Mapping[str, Any]) -> list[str]:
    """Of the files that every finished run has."""
    return [name for name in drawn if name != PROBES and not (directory / name).exists()]


def draw(path: Path) -> Sequence[str]:
    """Of a run its pictures and its page anew, of a sweep its page. Returns the files.

    Raises:
        UserError: it is neither of the two, or has no finished run for a page.
    """
    directory = RunDirectory(path)
    if not directory.exists:
        return [_draw_sweep(path)]
    directory.check_inside()
    drawn = drawings(directory, directory.summary)
    for make in drawn.values():
        make()
    return [shortest(directory / name) for name in drawn if (directory / name).exists()]


def _draw_sweep(path: Path) -> str:
    ids = run_ids(path) if path.is_dir() else []
    if not ids:
        raise UserError(f"{path}: neither a run directory nor the folder of a sweep: it holds no config.yaml, and no folder in it does")
    settings = RunDirectory(path / ids[0]).config.get("sweep") or {}
    report_on([Path(shortest(path))], find_runs([path]), settings.get("objective", "val/accuracy"), path / REPORT)
    return shortest(path / REPORT)
