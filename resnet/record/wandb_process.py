"""The real W&B client, in its own process: whatever happens to it, to its service or to its server, the run goes on.

resnet/record/wandb.py starts it and sends pickled (method, arguments) to its standard input; answers go to standard output. It ends when
its input closes: with the run, or when the run no longer waits for it.
"""

import os
import pickle
import queue
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from typing import Any

import platformdirs
import pydantic
import wandb

SUMMARIES = {"train/loss": "min,last", "train/accuracy": "max,last", "val/loss": "min,last", "val/accuracy": "max,last"}
STARTED, FAILED, DONE = "started", "failed", "done"  # answers
Row = dict[str, float]


class Client:
    """One W&B run. Each method handles one request."""

    def start(
        self, settings: dict[str, Any], init: dict[str, Any], directions: dict[str, str], folder: str, command: list[str]
    ) -> dict[str, str]:
        """`directions`: maximize or minimize, for each metric besides loss and accuracy."""
        for variable, default in (("WANDB_CACHE_DIR", platformdirs.user_cache_dir), ("WANDB_DATA_DIR", platformdirs.user_data_dir)):
            if not _is_writable(os.environ.get(variable) or default("wandb")):  # e.g. a read-only home
                os.environ[variable] = os.path.join(folder, f".{variable.split('_')[1].lower()}")
        sys.argv = command  # W&B records the command
        self.run = wandb.init(**init, settings=wandb.Settings(**settings))
        self.run.define_metric("step")
        for metric in ("epoch", "lr", "images_per_second", "seconds"):
            self.run.define_metric(metric, step_metric="step")
        best = {f"val/{name}": f"{direction[:3]},last" for name, direction in directions.items()}
        for metric, summary in {**SUMMARIES, **best}.items():
            self.run.define_metric(metric, step_metric="step", summary=summary)
        return {"folder": os.path.dirname(self.run.dir), "url": self.run.url or ""}

    def log(self, rows: list[Row]) -> None:
        for row in rows:
            self.run.log(row, step=int(row["step"]))

    def summary(self, values: dict[str, Any]) -> None:
        self.run.summary.update(values)

    def pictures(self, matrix: dict[str, Any] | None, worst: list[tuple[Any, str]], files: dict[str, str]) -> None:
        """Sends the confusion matrix, images with their captions, and picture files."""
        media: dict[str, Any] = {name: wandb.Image(path) for name, path in files.items()}
        if matrix is not None:
            media["test/confusion_matrix"] = wandb.plot.confusion_matrix(**matrix, title="Test set")
        if worst:
            media["test/worst_mistakes"] = [wandb.Image(image, caption=caption) for image, caption in worst]
        if media:
            self.run.log(media)

    def model(self, file: str) -> None:
        artifact = wandb.Artifact(f"model-{self.run.id}", "model")
        artifact.add_file(file)
        self.run.log_artifact(artifact)

    def finish(self, exit_code: int, is_preempted: bool) -> None:
        if is_preempted:
            self.run.mark_preempting()
        self.run.finish(exit_code=exit_code)
        with suppress(SystemExit):  # W&B's service did not end well, although all was written
            wandb.teardown()


def main() -> None:
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):  # W&B's service inherits them and would keep the pipes open
        os.dup2(null, descriptor)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):  # clusters signal all processes; the run decides when to end
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_IGN)
    waiting: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests, waiting), daemon=True).start()
    client, status = Client(), 0
    try:
        while True:
            name, arguments = waiting.get()
            result = getattr(client, name)(**arguments)
            if name == "start":
                _answer(answers, STARTED, result)
            elif name == "finish":
                _answer(answers, DONE, None)
                break
    except BaseException as error:
        _answer(answers, FAILED, _reason(error))
        status = 1
    _end(status)


def _read(requests: Any, waiting: "queue.SimpleQueue[tuple[str, dict[str, Any]]]") -> None:
    """Reads requests in a separate thread, so that the run never waits for W&B. Ends this process when the input closes."""
    with suppress(EOFError, OSError, pickle.UnpicklingError):
        while True:
            waiting.put(pickle.load(requests))
    _end(1)


def _answer(answers: Any, name: str, content: Any) -> None:
    with suppress(OSError):
        pickle.dump((name, content), answers)
        answers.flush()


def _is_writable(folder: str) -> bool:
    """True if the folder, or else its nearest existing parent, is writable. Does not make the folder, since it may not be needed."""
    while not os.path.exists(folder):
        folder = os.path.dirname(os.path.abspath(folder))
    try:
        with tempfile.TemporaryFile("w+b", dir=folder):
            return True
    except OSError:
        return False


def _reason(error: BaseException) -> str:
    if isinstance(error, pydantic.ValidationError):  # W&B's own settings, set wrongly in the environment
        first = error.errors()[0]
        return f"WANDB_{'_'.join(map(str, first['loc'])).upper()}={first['input']}: {first['msg']}"
    first_line = (str(error).splitlines() or [""])[0].split(". ")[0].rstrip(".")
    return first_line if isinstance(error, wandb.errors.Error) and first_line else f"{type(error).__name__}: {first_line}"


def _end(status: int) -> None:
    """Ends the process without W&B's own teardown, which may block forever. W&B's service ends once this process is gone."""
    with suppress(AttributeError, OSError):
        wandb.sdk.data_types._private.MEDIA_TMP.cleanup()
    with suppress(AttributeError, OSError):  # a stopped service would not notice the end
        connection: Any = wandb.sdk.wandb_setup.singleton()._connection
        connection._proc._process.send_signal(signal.SIGCONT)
    os._exit(status)


if __name__ == "__main__":
    main()
