"""Sweeps: many runs of one command. The code wraps train.py's main(): it checks the jobs before, and reports how they ended after."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

from resnet.config import UserError, refused
from resnet.config.arguments import quoted
from resnet.config.cli import CTRL_C
from resnet.config.compose import Request
from resnet.interrupt import end_by_signal, ended_by, handled_by, status_of, undone_if_ended
from resnet.record.directory import run_ids
from resnet.sweeps.worker import LOGS, parallel_jobs

if TYPE_CHECKING:
    from resnet.sweeps.grid import Sweep


@contextmanager
def sweeping(request: Request) -> Iterator[list[str]]:
    """Wraps Hydra's main, which runs the jobs with the overrides that this yields.

    Raises:
        UserError: a job has a mistake; nothing was started.
        SystemExit: not all jobs are finished.
    """
    from resnet.sweeps.grid import sweep_of, varied
    from resnet.sweeps.preflight import preflight

    sweep = sweep_of(request)
    settings = [f"sweep.name={quoted(sweep.name)}", f"sweep.varied={json.dumps(varied(sweep))}"]  # one time stamp for all jobs
    if sweep.is_search:
        from resnet.sweeps.search import Search

        search = Search(sweep)
        with undone_if_ended(lambda: _remove_if_empty(sweep), UserError), search.open() as of_search, _shown(sweep, [], search.jobs):
            yield [*settings, *of_search]
    else:
        refused.clear(sweep.directory)
        jobs = preflight(sweep) if sweep.overrides and sweep.settings.preflight else {}
        with _shown(sweep, list(jobs), lambda: (jobs, refused.read_refused(sweep.directory), len(jobs))):
            yield settings


@contextmanager
def _shown(sweep: "Sweep", ids: list[str], jobs: Callable[[], tuple[dict[str, list[str]], refused.Refused, int]]) -> Iterator[None]:
    """Shows a board while jobs run in parallel, and a table of all jobs at the end."""
    from resnet.sweeps.board import board
    from resnet.sweeps.closing import close

    is_worth_a_table = True
    try:
        with handled_by(end_by_signal), board(sweep.directory, ids) if sweep.is_parallel else nullcontext(), _waiting(sweep):
            yield
    except Exception:  # an error of Hydra; if no job was started, it says everything
        if ended_by:
            raise SystemExit(status_of(ended_by[0])) from None
        is_worth_a_table = bool(run_ids(sweep.directory))
        raise
    except KeyboardInterrupt:  # from jobs in other processes; a job in this one turns it into SystemExit
        raise SystemExit(CTRL_C) from None
    finally:
        is_done = is_worth_a_table and close(sweep, *jobs())
        _remove_if_empty(sweep)
    if not is_done:
        raise SystemExit(1)


def _remove_if_empty(sweep: "Sweep") -> None:
    """Removes the empty folders of jobs that never began, and the sweep's own if it is empty."""
    for folder in (*sweep.directory.glob("*/"), sweep.directory, sweep.directory.parent):
        with suppress(OSError):  # not empty, or never made
            folder.rmdir()


def _waiting(sweep: "Sweep") -> AbstractContextManager[None]:
    """Returns a context for the launcher. joblib kills its jobs at Ctrl-C; SLURM's jobs would outlive it."""
    if sweep.launcher == "JoblibLauncher":
        return parallel_jobs(sweep.directory)
    if sweep.launcher != "SlurmLauncher":
        return nullcontext()
    from resnet.sweeps.slurm import slurm_jobs

    return slurm_jobs(sweep.directory / LOGS, sweep.settings.on_failure == "stop")
