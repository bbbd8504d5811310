"""hydra/launcher=slurm: the sweep waits for its jobs until SLURM has none of them left, and takes them along when it ends before them."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from submitit.core.utils import UncompletedJobError
from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

from resnet.config.cli import say

SECONDS = 10  # at most between two questions
SUBMITTED = "_submitted.pkl"  # after the job's number: what submitit hands a job


class Queue(SlurmInfoWatcher):
    """Asks squeue, which every cluster has: submitit asks the accounting, and where that is off waits for ever for a cancelled job."""

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
        """The running ones save, as after any SIGTERM."""
        if self.left:
            subprocess.run(["scancel", *self.left], check=False)


@contextmanager
def slurm_jobs(logs: Path, stops_at_failure: bool) -> Iterator[None]:
    """Around the launcher, which would leave at the first job that ends without a result, with the others still running."""
    SlurmJob.watcher = queue = Queue(SECONDS)
    logs.mkdir(parents=True, exist_ok=True)
    lock = FileLock(logs / ".lock", timeout=0)
    try:
        with suppress(Timeout):  # another call of this sweep is there: its jobs are no orphans
            lock.acquire()
            _end_orphans(logs)
        yield
    except UncompletedJobError:
        if stops_at_failure:
            queue.cancel()
        queue.wait()
        say(f"a job ended without a result (interrupted, cancelled, killed or out of time): SLURM's words on it are in {logs}")
    except (KeyboardInterrupt, SystemExit):  # of any signal
        queue.cancel()
        queue.wait()
        raise
    finally:
        lock.release()


def _end_orphans(logs: Path) -> None:
    """Jobs of a call that was killed: they save, and this call goes on with them."""
    queue = Queue(SECONDS)
    for file in logs.glob(f"*{SUBMITTED}"):
        queue.register_job(file.name.removesuffix(SUBMITTED))
    if left := queue.left:
        say(f"{len(left)} jobs of a call that is gone are still with SLURM: they are cancelled, and go on from where they save")
        queue.cancel()
        queue.wait()
