"""After the last job, however the sweep ended: a ranked table read from the run directories, and what is still to do."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from resnet.runs.directory import FINISHED, DirectoryError, RunDirectory, shortest
from resnet.runs.grouping import find_runs
from resnet.sweeps.grid import differing
from resnet.tracking.lines import duration, percent


def close(directory: Path, ids: Sequence[str], objective: str) -> bool:
    """Shows the jobs with these ids (of a sweep that was not checked first: all that are there); True where all are finished."""
    runs = {name: RunDirectory(directory / name) for name in ids or sorted(path.parent.name for path in directory.glob("*/config.yaml"))}
    known = {name: run.summary for name, run in runs.items() if run.exists}
    finished = [name for name, summary in known.items() if summary["status"] == FINISHED]
    rows = dict(zip(known, differing([summary.get("overrides", []) for summary in known.values()]), strict=True))
    screen = Console(highlight=False)
    screen.print()
    if finished:
        screen.print(_ranking({name: (rows[name], known[name]) for name in finished}, objective))
        screen.print()
    for name in runs:
        if name not in finished:
            screen.print(_open_line(name, rows.get(name, {}), known.get(name)), markup=False, soft_wrap=True)
    where = shortest(directory.resolve())
    rest = "" if len(finished) == len(runs) else "; the same command skips these and goes on with the others"
    screen.print(f"{where}: {len(finished)} of {len(runs)} jobs finished{rest}", markup=False, soft_wrap=True)
    if finished:
        screen.print(f"report: {_report(directory, objective)}", markup=False, soft_wrap=True)
    if len(finished) > 1:
        screen.print(f"compare: python -m resnet compare {where}", markup=False, soft_wrap=True)
    if Path("wandb").is_dir():
        screen.print("W&B, all runs: wandb leet wandb; upload: wandb sync wandb/offline-run-*", markup=False, soft_wrap=True)
    return len(finished) == len(runs)


def _report(directory: Path, objective: str) -> str:
    """The path of the page; of all runs in the sweep's folder, those of earlier and larger grids too."""
    from resnet.runs.comparison import as_data, compare_all
    from resnet.runs.report import REPORT, write_report

    paths = [Path(shortest(directory.resolve()))]
    comparison = compare_all(paths, find_runs(paths), objective)
    try:
        write_report(comparison, as_data(comparison), directory / REPORT)
    except DirectoryError as error:
        return str(error)
    return shortest((directory / REPORT).resolve())


def _ranking(runs: dict[str, tuple[dict[str, str], dict[str, Any]]], objective: str) -> Table:
    sign = 1 if objective.endswith("loss") else -1
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
        table.add_row(str(rank) if held_out else "", name, *map(escape, row.values()), shown, test, duration(summary["seconds"]))
    return table


def _open_line(name: str, row: dict[str, str], summary: dict[str, Any] | None) -> str:
    chosen = " ".join(f"{key}={value}" for key, value in row.items())
    if summary is None:
        return f"waiting: {name}"
    return f"{summary['status']}: {name} {chosen}" + (f": {summary['error']}" if summary.get("error") else "")
