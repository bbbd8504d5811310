"""Jobs in worker processes of hydra/launcher=parallel: each writes its own log, and saves and ends when its sweep ends."""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from multiprocessing import current_process, parent_process
from pathlib import Path
from types import FrameType

from hydra.core.hydra_config import HydraConfig

from resnet.config.cli import say
from resnet.interrupt import COPIES, TRY_AGAIN, end_by_signal, install, restore
from resnet.record.directory import RunDirectory, run_ids
from resnet.streams import lasting
from resnet.sweeps.gpus import stay_on_a_gpu

LOGS = "logs"  # folder inside the sweep's
GRACE = 30.0  # seconds that a job gets to save after its sweep is over
LOOK = 0.5  # seconds between checks
is_over = threading.Event()


@contextmanager
def own_output() -> Iterator[None]:
    """Sends a worker's output to its own log. Does nothing outside a worker, where the job has the screen for itself."""
    if not current_process().name.startswith("Loky"):
        yield
        return
    directory = Path(HydraConfig.get().runtime.output_dir)
    log = directory.parent / LOGS / f"{directory.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    install(_left_to_the_sweep)
    parent = parent_process()
    assert parent is not None and parent.pid is not None
    marker = _marker(log.parent, parent.pid)
    _watch_parent(parent.pid, marker)
    stay_on_a_gpu(log.parent)
    with log.open("a", buffering=1, encoding="utf-8") as file, redirect_stdout(lasting(file)), redirect_stderr(lasting(file)):
        if gpu := os.environ.get("CUDA_VISIBLE_DEVICES"):
            print(f"CUDA_VISIBLE_DEVICES={gpu}")
        try:
            yield
        finally:
            if marker.exists():  # wait until all have saved: joblib kills the other workers as soon as one ends
                time.sleep(GRACE)
            if is_over.is_set():  # otherwise joblib would give this process the next job
                os._exit(TRY_AGAIN)


@contextmanager
def parallel_jobs(sweep: Path) -> Iterator[None]:
    """Wraps the launcher in the sweep's own process. joblib kills its workers on Ctrl-C; this lets them save first.

    A second signal ends them without waiting.
    """
    from joblib.externals.loky.backend.resource_tracker import ensure_running
    from joblib.externals.loky.process_executor import TerminatedWorkerError  # imported here because it is slow

    marker = _marker(sweep / LOGS, os.getpid())

    def stop(number: int, frame: FrameType | None) -> None:
        install(signal.SIG_IGN)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        deadline = time.monotonic() + GRACE
        time.sleep(max(2 * LOOK, COPIES))
        restore(before)
        while any(RunDirectory(sweep / name).is_held_elsewhere for name in run_ids(sweep)) and time.monotonic() < deadline:
            time.sleep(LOOK)
        end_by_signal(number)

    before = install(signal.SIG_IGN)  # joblib's clean-up process inherits this; otherwise a closed terminal would end it
    ensure_running()
    restore(before)
    install(stop)
    try:
        yield
    except TerminatedWorkerError as error:  # joblib has killed the other jobs too
        killed_by = ", ".join(sorted(set(re.findall(r"SIG[A-Z]+", str(error).rpartition("exit codes")[2])))) or "the system"
        say(f"a job's process was killed ({killed_by}), and joblib ended the others with it; each goes on from its last checkpoint")
    finally:
        restore(before)
        marker.unlink(missing_ok=True)


def _marker(logs: Path, sweep: int) -> Path:
    """Returns the file that tells workers that the sweep of this process is to end."""
    return logs / f".stop-{sweep}"


def _watch_parent(parent: int, marker: Path) -> None:
    """Starts a thread that ends this worker with its sweep: joblib's workers outlive a killed parent, which may be gone already."""
    if not any(thread.name == "parent" for thread in threading.enumerate()):
        threading.Thread(target=_end_with, args=(parent, marker), name="parent", daemon=True).start()


def _end_with(parent: int, marker: Path) -> None:
    while os.getppid() == parent and not marker.exists():
        time.sleep(LOOK)
    is_over.set()
    deadline = time.monotonic() + GRACE
    while signal.getsignal(signal.SIGTERM) is _left_to_the_sweep and time.monotonic() < deadline:  # the job is still importing libraries
        time.sleep(LOOK)
    os.kill(os.getpid(), signal.SIGTERM)  # makes the run save
    time.sleep(GRACE)
    sys.stderr.flush()
    os._exit(TRY_AGAIN)


def _left_to_the_sweep(number: int, frame: FrameType | None) -> None:
    """Ignores a signal in a worker that is not training: the terminal also signals the sweep, which ends its workers."""
