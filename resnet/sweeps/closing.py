"""After the last job, however the sweep ended: a ranked table read from the run directories, and what is still to do."""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from resnet.config import UserError
from resnet.config.schema import OBJECTIVES
from resnet.runs.directory import FAILED, FINISHED, DirectoryError, RunDirectory, run_ids, shortest
from resnet.runs.grouping import find_runs
from resnet.sweeps.grid import Sweep, differing
from resnet.tracking.lines import duration, percent
from resnet.tracking.wandb_record import own_folders


def close(sweep: Sweep, jobs: Mapping[str, Sequence[str]], refused: Sequence[str]) -> bool:
    """Shows the jobs, overrides by id (of a sweep that was not checked first: all that are there); True where all are finished.

    `refused`: jobs that could not start, each with its mistake.
    """
    directory = sweep.directory
    runs = {name: RunDirectory(directory / name) for name in jobs or run_ids(directory)}
    known = {name: run.summary for name, run in runs.items() if run.exists}
    finished = [name for name, summary in known.items() if summary["status"] == FINISHED]
    overrides = [jobs.get(name) or known.get(name, {}).get("overrides", []) for name in runs]
    rows = dict(zip(runs, differing(overrides), strict=True))
    screen = Console(highlight=False)
    screen.print()
    if finished:
        screen.print(_ranking({name: (rows[name], known[name]) for name in finished}, sweep.settings.objective))
        screen.print()
    for name in runs:
        if name not in finished:
            screen.print(_open_line(name, rows[name], known.get(name)), markup=False, soft_wrap=True)
    for line in refused:
        screen.print(f"{FAILED}: {line}", markup=False, soft_wrap=True)
    where, count = shortest(directory.resolve()), len(runs) + len(refused)
    left = [name for name in runs if name not in finished and not (sweep.is_search and known.get(name, {}).get("status") == FAILED)]
    rest = f"; the same command, with sweep.name={sweep.name}, skips these and goes on with the others" if left else ""
    screen.print(f"{where}: {len(finished)} of {count} jobs finished{rest}", markup=False, soft_wrap=True)
    screen.print(f"report: {_report(directory, sweep.settings.objective)}", markup=False, soft_wrap=True)
    if len(finished) > 1:
        screen.print(f"compare: python -m resnet compare {where}", markup=False, soft_wrap=True)
    for folder in sorted(
        {own.parent for name, summary in known.items() for own in own_folders(summary, runs[name].path, Path("wandb").absolute())}
    ):
        shown = shlex.quote(shortest(folder))
        screen.print(f"W&B, all runs: wandb leet {shown}; upload: wandb sync {shown}/offline-run-*", markup=False, soft_wrap=True)
    return len(finished) == count


def _report(directory: Path, objective: str) -> str:
    """The path of the page, or why there is none; of all runs in the sweep's folder, those of earlier and larger grids too."""
    from resnet.runs.report import REPORT, report_on

    paths = [Path(shortest(directory.resolve()))]
    try:
        report_on(paths, find_runs(paths), objective, directory / REPORT)
    except UserError:
        return "none: no run has finished"
    except DirectoryError as error:
        return f"none: {error}"
    return shortest((directory / REPORT).resolve())


def _ranking(runs: dict[str, tuple[dict[str, str], dict[str, Any]]], objective: str) -> Table:
    sign = 1 if OBJECTIVES[objective] == "minimize" else -1
    held_out = any(summary["best"] for _, summary in runs.values())
    keys = list(next(iter(runs.values()))[0])
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("", "job", *keys, f"held-out {objective.removeprefix('val/')}", "test accuracy", "time"):
        table.add_column(name, justify="left" if name in ("job", *keys) else "right", overflow="fold")
    ranked = sorted(runs.items(), key=lambda item: sign * item[1][1]["best"][objective] if item[1][1]["best"] else 0)
    for rank, (name, (row, summary)) in enumerate(ranked, 1):
        value = summary["best"][objective] if summary["best"] else None
        shown = "" if value is None else percent(value) if objective == "val/accuracy" else f"{value:.4f}"
        test = percent(summary["test"]["accuracy"])
        table.add_row(str(rank) if held_out else "", name, *map(_short, row.values()), shown, test, duration(summary["seconds"]))
    return table


def _short(value: str) -> str:
    """For a column: a search proposes numbers of 17 digits."""
    with suppress(ValueError):
        return value if len(value) < 8 or value.isdigit() else f"{float(value):.4g}"
    return escape(value)


def _open_line(name: str, row: dict[str, str], summary: dict[str, Any] | None) -> str:
    chosen = "".join(f" {key}={value}" for key, value in row.items())
    if summary is None:
        return f"waiting: {name}{chosen}"
    return f"{summary['status']}: {name}{chosen}" + (f": {summary['error']}" if summary.get("error") else "")
