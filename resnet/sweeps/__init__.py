"""Sweeps: many runs of one command. Wraps around train.py's main(): checks the jobs before it, tells their ends after it."""

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
    """Around Hydra's main, which runs the jobs with the overrides that this adds.

    Raises:
        UserError: a job has a mistake; nothing was started.
        SystemExit: not all jobs are finished.
    """
    from resnet.sweeps.grid import sweep_of, varied
    from resnet.sweeps.preflight import preflight

    sweep = sweep_of(request)
    settings = [f"sweep.name={quoted(sweep.name)}", f"sweep.varied={json.dumps(varied(sweep))}"]  # a time stamp is taken once
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
    """A board while jobs run at once, the table of all of them at the end."""
    from resnet.sweeps.board import board
    from resnet.sweeps.closing import close

    is_worth_a_table = True
    try:
        with handled_by(end_by_signal), board(sweep.directory, ids) if sweep.is_parallel else nullcontext(), _waiting(sweep):
            yield
    except Exception:  # of Hydra: where no job was started, that is all there is to say
        if ended_by:
            raise SystemExit(status_of(ended_by[0])) from None
        is_worth_a_table = bool(run_ids(sweep.directory))
        raise
    except KeyboardInterrupt:  # of jobs in other processes: a job in this one makes a SystemExit of it
        raise SystemExit(CTRL_C) from None
    finally:
        is_done = is_worth_a_table and close(sweep, *jobs())
        _remove_if_empty(sweep)
    if not is_done:
        raise SystemExit(1)


def _remove_if_empty(sweep: "Sweep") -> None:
    """The folders that jobs have left that never began, and the sweep's own where it has none."""
    for folder in (*sweep.directory.glob("*/"), sweep.directory, sweep.directory.parent):
        with suppress(OSError):  # not empty, or never made
            folder.rmdir()


def _waiting(sweep: "Sweep") -> AbstractContextManager[None]:
    """Around the launcher: joblib kills its jobs at Ctrl-C, SLURM's outlive it."""
    if sweep.launcher == "JoblibLauncher":
        return parallel_jobs(sweep.directory)
    if sweep.launcher != "SlurmLauncher":
        return nullcontext()
    from resnet.sweeps.slurm import slurm_jobs

    return slurm_jobs(sweep.directory / LOGS, sweep.settings.on_failure == "stop")
