"""After the last job, however the sweep ended: a ranked table from the run directories, and what is still to do."""

import math
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.table import Table

from resnet.analysis.runs import look_for_runs
from resnet.config import UserError
from resnet.config.arguments import as_typed
from resnet.config.refused import Refused
from resnet.plain import plain
from resnet.record.directory import FAILED, FINISHED, UNREADABLE, RunDirectory, run_ids, shortest
from resnet.record.lines import duration
from resnet.record.metrics import chosen_by, is_share, others, read_metrics, show
from resnet.record.reading import Unreadable
from resnet.record.screen import cell, screen, table
from resnet.record.trackers import reason
from resnet.record.wandb_record import own_folders
from resnet.sweeps.grid import Sweep, differing


def close(sweep: Sweep, jobs: Mapping[str, Sequence[str]], refused: Refused, asked: int) -> bool:
    """Shows the jobs and returns True if all are finished. `jobs` maps ids to overrides; if it is empty, all jobs in the directory are
    shown.

    `refused`: jobs that could not start. `asked`: the planned number of jobs; a search proposes them one by one.
    """
    directory = sweep.directory
    runs = {name: RunDirectory(directory / name) for name in jobs or run_ids(directory)}
    known = {name: _summary(run) for name, run in runs.items() if run.exists}
    finished = [name for name, summary in known.items() if summary["status"] == FINISHED]
    overrides = [jobs.get(name) or known.get(name, {}).get("overrides", []) for name in runs]
    rows = dict(zip(runs, differing(overrides), strict=True))
    out = screen()
    out.print()
    if finished:
        out.print(_ranking({name: (rows[name], known[name]) for name in finished}))
        out.print()
    unreadable = {name for name, summary in known.items() if summary["status"] == UNREADABLE}
    for name in runs:
        if name not in finished and (name not in refused or name in unreadable):
            out.print(plain(_open_line(name, rows[name], known.get(name))), markup=False, soft_wrap=True)
    for name, mistakes in refused.items():
        for given, mistake in mistakes if name not in unreadable else ():
            shown = " ".join(f"{key}={value}" for key, value in rows[name].items()) if rows.get(name) else given
            out.print(plain(f"could not start: {name} {shown}: {mistake}"), markup=False, soft_wrap=True)
    where = shortest(directory.resolve())
    known_jobs = len(runs) + sum(len(mistakes) for name, mistakes in refused.items() if name not in runs)
    count = max(asked, known_jobs)
    ended = {UNREADABLE, FAILED} if sweep.is_search else {UNREADABLE}
    left = [name for name in runs if not (name in finished or name in refused or known.get(name, {}).get("status") in ended)]
    again = f"; the same command, with {as_typed('sweep.name', sweep.name)}, skips these and goes on with the others"
    rest = again if left or count > known_jobs else ""
    out.print(f"{plain(where)}: {len(finished)} of {count} jobs finished{plain(rest)}", markup=False, soft_wrap=True)
    out.print(f"report: {plain(_report(directory))}", markup=False, soft_wrap=True)
    if len(finished) > 1:
        out.print(f"compare: python -m resnet compare {shlex.quote(plain(where))}", markup=False, soft_wrap=True)
    for folder in sorted(
        {own.parent for name, summary in known.items() for own in own_folders(summary, runs[name].path, Path("wandb").absolute())}
    ):
        shown = plain(shlex.quote(shortest(folder)))
        out.print(f"W&B, all runs: wandb leet {shown}; upload: wandb sync {shown}/offline-run-*", markup=False, soft_wrap=True)
    return len(finished) == count and not refused


def _summary(run: RunDirectory) -> dict[str, Any]:
    """Returns the run's summary. For a damaged run, it says so and gives the reason."""
    try:
        return run.summary
    except Unreadable as error:
        return {"status": UNREADABLE, "error": f"{error}; put a good copy back, or move {shortest(run.path.resolve())} away"}


def _report(directory: Path) -> str:
    """Writes the page and returns its path, or the reason why there is none. It covers all runs in the sweep's folder, also of earlier or
    larger grids.
    """
    from resnet.analysis.page import REPORT, report_on

    paths = [Path(shortest(directory.resolve()))]
    try:
        found = look_for_runs(paths)
        report_on(paths, found.runs, directory / REPORT, found.unreadable)
    except UserError:
        return "none: no run has finished"
    except Exception as error:  # an error of the page or the disk
        return f"none: {reason(error)}; python -m resnet draw {shlex.quote(shortest(directory.resolve()))} makes it again"
    return shortest((directory / REPORT).resolve())


def _ranking(runs: dict[str, tuple[dict[str, str], dict[str, Any]]]) -> Table:
    summaries = [summary for _, summary in runs.values()]
    chosen = read_metrics(summaries)[chosen_by(summaries)]
    held_out = any(summary["best"] for _, summary in runs.values())
    keys = list(next(iter(runs.values()))[0])
    more = list(dict.fromkeys(name for summary in summaries for name in others(summary)))
    tests = ["accuracy", *more]
    columns = ("", "job", *keys, f"held-out {_words(chosen.key.removeprefix('val/'))}", *(f"test {_words(name)}" for name in tests), "time")
    ranking = table(columns, left=("job", *keys))
    sign = 1 if chosen.is_lowest else -1
    ranked = sorted(runs.items(), key=lambda item: sign * value if (value := _held_out(item[1][1], chosen.key)) is not None else math.inf)
    for rank, (name, (row, summary)) in enumerate(ranked, 1):
        value = _held_out(summary, chosen.key)
        shown = "" if value is None else chosen.show(value)
        test = [show(summary["test"][name], is_share(summary, name)) if name in summary["test"] else "" for name in tests]
        time = duration(summary["seconds"]) if "seconds" in summary else ""
        ranking.add_row(str(rank) if held_out else "", cell(name), *map(_short, row.values()), shown, *test, time)
    return ranking


def _words(metric: str) -> str:
    """Returns a header that can be broken between words."""
    return metric.replace("_", " ")


def _held_out(summary: dict[str, Any], key: str) -> float | None:
    return (summary["best"] or {}).get(key)


def _short(value: str) -> str:
    """Shortens a value for a column, because a search proposes numbers of 17 digits."""
    with suppress(ValueError):
        return value if len(value) < 8 or value.isdigit() else f"{float(value):.4g}"
    return cell(value)


def _open_line(name: str, row: dict[str, str], summary: dict[str, Any] | None) -> str:
    chosen = "".join(f" {key}={value}" for key, value in row.items())
    if summary is None:
        return f"waiting: {name}{chosen}"
    return f"{summary['status']}: {name}{chosen}" + (f": {summary['error']}" if summary.get("error") else "")
