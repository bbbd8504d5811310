"""Makes the pictures and the page of a run or a sweep from its directory, at its end or later on request."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from resnet.analysis.page import REPORT, report_on
from resnet.analysis.runs import Run, look_for_runs
from resnet.config import UserError
from resnet.config.hashing import flatten
from resnet.record.curves import draw_curves, draw_probes
from resnet.record.directory import CURVES, FINISHED, PROBES, DirectoryError, RunDirectory, run_ids, shortest
from resnet.record.lines import percent
from resnet.record.metrics import chosen_by, read_metrics


def drawings(directory: RunDirectory, summary: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """Returns a function per file that makes this file of one run. A run without probes gets no picture of them."""
    path = shortest(directory.path)
    title = " ".join(summary["overrides"]) or summary["name"] or path
    result = f"test accuracy {percent(summary['test']['accuracy'])}" if summary["status"] == FINISHED else summary["status"]

    def write_page() -> None:
        report_on([Path(path)], [Run(path, flatten(directory.config), summary)], directory / REPORT)

    return {
        CURVES: lambda: draw_curves(directory, f"{result}: {title}", read_metrics([summary])[chosen_by([summary])]),
        PROBES: lambda: draw_probes(directory, title),
        **({REPORT: write_page} if summary["status"] == FINISHED else {}),
    }


def missing(directory: RunDirectory, drawn: Mapping[str, Any]) -> list[str]:
    """Returns the missing files among those that every finished run has."""
    return [name for name in drawn if name != PROBES and not (directory / name).exists()]


def draw(paths: Sequence[Path]) -> tuple[list[str], list[str]]:
    """Draws runs and sweeps again: the pictures and the page of a run, the page of a sweep. Returns the files, and a line for each
    failure."""
    made, problems = [], []
    for path in paths:
        try:
            drawn = _of_run(RunDirectory(path)) if RunDirectory(path).exists else {REPORT: _of_sweep(path)}
        except (UserError, DirectoryError) as error:
            problems.append(str(error))
            continue
        for name, make in drawn.items():
            try:
                make()
            except (UserError, DirectoryError) as error:
                problems.append(f"{shortest(path / name)} is not drawn: {error}")
            else:
                made += [shortest(path / name)] if (path / name).exists() else []
    return made, problems


def _of_run(directory: RunDirectory) -> dict[str, Callable[[], object]]:
    directory.check_inside()
    return drawings(directory, directory.summary)


def _of_sweep(path: Path) -> Callable[[], object]:
    if not (path.is_dir() and run_ids(path)):
        raise UserError(f"{path}: neither a run directory nor the folder of a sweep: it holds no config.yaml, and no folder in it does")
    found = look_for_runs([path])
    return lambda: report_on([Path(shortest(path))], found.runs, path / REPORT, found.unreadable)
