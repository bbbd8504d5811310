"""hydra/launcher=slurm: the sweep waits for its jobs until SLURM has none of them left, and takes them along when Ctrl-C ends it."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from submitit.core.utils import UncompletedJobError
from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

from resnet.config.cli import say

SECONDS = 10  # at most between two questions


class Queue(SlurmInfoWatcher):
    """Asks squeue, which every cluster has: submitit asks the accounting, and where that is off waits for ever for a cancelled job."""

    def _make_command(self) -> list[str]:
        return ["squeue", "--me", "--array", "--noheader", "--format=%i"]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        listed = (string if isinstance(string, str) else string.decode()).split()
        return {job: {"State": "RUNNING" if job in listed else "ENDED"} for job in self._registered}

    def wait(self) -> None:
        while not all(self.is_done(job) for job in self._registered):
            time.sleep(1)

    def cancel(self) -> None:
        """The running ones save, as after any SIGTERM."""
        if self._registered:
            subprocess.run(["scancel", *self._registered], check=False)


@contextmanager
def slurm_jobs(logs: Path, stops_at_failure: bool) -> Iterator[None]:
    """Around the launcher, which would leave at the first job that ends without a result, with the others still running."""
    SlurmJob.watcher = queue = Queue(SECONDS)
    try:
        yield
    except UncompletedJobError:
        if stops_at_failure:
            queue.cancel()
        queue.wait()
        say(f"a job ended without a result (interrupted, cancelled, killed or out of time): SLURM's words on it are in {logs}")
    except KeyboardInterrupt:
        queue.cancel()
        queue.wait()
        raise
