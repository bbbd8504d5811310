"""Sweeps: many runs of one command. Wraps around train.py's main(): checks the jobs before it, tells their ends after it."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from resnet.config.cli import CTRL_C
from resnet.sweeps.worker import LOGS


@contextmanager
def sweeping() -> Iterator[None]:
    """Does nothing where the command line asks for a single run.

    Raises:
        UserError: a job has a mistake; nothing was started.
        SystemExit: not all jobs are finished.
    """
    arguments = sys.argv[1:]
    if not {"-m", "--multirun"} & set(arguments) and not any(text.startswith("sweep=") for text in arguments):
        yield
        return
    from resnet.sweeps.board import board
    from resnet.sweeps.closing import close
    from resnet.sweeps.grid import read_sweep
    from resnet.sweeps.preflight import preflight

    sweep = read_sweep(arguments)
    sys.argv.append(f"sweep.name={sweep.name}")  # a time stamp is taken once
    ids = preflight(sweep) if sweep.overrides and sweep.settings.preflight else []
    waiting: AbstractContextManager[None] = nullcontext()
    if sweep.launcher == "SlurmLauncher":
        from resnet.sweeps.slurm import slurm_jobs

        waiting = slurm_jobs(sweep.directory / LOGS, sweep.settings.on_failure == "stop")
    status: object = 0
    try:
        with board(sweep.directory, ids) if sweep.is_parallel else nullcontext(), waiting:
            yield
    except SystemExit as end:
        status = end.code
        raise
    except KeyboardInterrupt:  # of jobs in other processes: a job in this one makes a SystemExit of it
        status = CTRL_C
        raise SystemExit(CTRL_C) from None
    finally:
        is_done = close(sweep.directory, ids, sweep.settings.objective)
    if not is_done and not status:
        raise SystemExit(1)
