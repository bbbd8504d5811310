"""hydra/launcher=slurm: the sweep waits until SLURM has none of its jobs left, and cancels them if it ends first."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from submitit.core.utils import UncompletedJobError
from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

from resnet.config.cli import say

SECONDS = 10  # most seconds between two queries
SUBMITTED = "_submitted.pkl"  # follows the job's number; the file with which submitit passes the job on


class Queue(SlurmInfoWatcher):
    """Asks squeue, which every cluster has. submitit asks the accounting instead; if that is off, it waits forever for a cancelled job."""

    def _make_command(self) -> list[str]:
        return ["squeue", "--me", "--array", "--noheader", "--format=%i"]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        listed = (string if isinstance(string, str) else string.decode()).split()
        return {job: {"State": "RUNNING" if job in listed else "ENDED"} for job in self._registered}

    @property
    def left(self) -> list[str]:
        return [job for job in self._registered if not self.is_done(job)]

    def wait(self) -> None:
        while self.left:
            time.sleep(1)

    def cancel(self) -> None:
        """Cancels the jobs; those that run save their state, as after any SIGTERM."""
        if self.left:
            subprocess.run(["scancel", *self.left], check=False)


@contextmanager
def slurm_jobs(logs: Path, stops_at_failure: bool) -> Iterator[None]:
    """Wraps the launcher, which would otherwise leave at the first job without a result, while the others are still running."""
    SlurmJob.watcher = queue = Queue(SECONDS)
    logs.mkdir(parents=True, exist_ok=True)
    lock = FileLock(logs / ".lock", timeout=0)
    try:
        with suppress(Timeout):  # another call of this sweep is running, so its jobs are not orphans
            lock.acquire()
            _end_orphans(logs)
        yield
    except UncompletedJobError:
        if stops_at_failure:
            queue.cancel()
        queue.wait()
        say(f"a job ended without a result (interrupted, cancelled, killed or out of time): SLURM's words on it are in {logs}")
    except (KeyboardInterrupt, SystemExit):  # any signal
        queue.cancel()
        queue.wait()
        raise
    finally:
        lock.release()


def _end_orphans(logs: Path) -> None:
    """Cancels the jobs of a call that was killed. They save their state, and this call continues them."""
    queue = Queue(SECONDS)
    for file in logs.glob(f"*{SUBMITTED}"):
        queue.register_job(file.name.removesuffix(SUBMITTED))
    if left := queue.left:
        say(f"{len(left)} jobs of a call that is gone are still with SLURM: they are cancelled, and go on from where they save")
        queue.cancel()
        queue.wait()
