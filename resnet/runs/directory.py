"""The run directory: names, statuses, lock, reader and writer. The one owner of the format; imports no torch."""

import csv
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import yaml
from filelock import FileLock, Timeout

FORMAT = 1
RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"

CONFIG, METRICS, SUMMARY, LOG, LOCK = "config.yaml", "metrics.csv", "summary.json", "train.log", ".lock"
LAST, BEST = "checkpoints/last.pt", "checkpoints/best.pt"
CURVES = "curves.png"

Row = dict[str, float | None]


class DirectoryError(Exception):
    """One line: the directory, what stands in the way, and what to do."""


class RunDirectory:
    """Reads and writes one run. Every file but the log and metrics.csv, which grow, is replaced in one step."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = FileLock(self.path / LOCK, timeout=1)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    # reading

    @property
    def exists(self) -> bool:
        return (self / CONFIG).is_file()

    @property
    def config(self) -> dict[str, Any]:
        return yaml.safe_load((self / CONFIG).read_text())

    @property
    def summary(self) -> dict[str, Any]:
        """With the status as it is: a run that says `running` while nobody holds its lock was interrupted."""
        try:
            summary = json.loads((self / SUMMARY).read_text())
        except FileNotFoundError:
            summary = {"status": RUNNING}
        if summary["status"] == RUNNING and not self.is_locked:
            summary["status"] = INTERRUPTED
        return summary

    @property
    def is_locked(self) -> bool:
        if self._lock.is_locked or not (self / LOCK).exists():
            return self._lock.is_locked
        probe = FileLock(self / LOCK, timeout=0)
        try:
            probe.acquire()
        except Timeout:
            return True
        except OSError:  # somebody else's directory, which nobody writes from here
            return False
        probe.release()
        return False

    @property
    def metrics(self) -> list[Row]:
        """One row per record: step, epoch and the metrics; None where a metric was not recorded."""
        with (self / METRICS).open(newline="") as file:
            return [{key: float(value) if value else None for key, value in row.items()} for row in csv.DictReader(file)]

    # writing

    def create(self, config: dict[str, Any], columns: Sequence[str]) -> None:
        """Makes the directory and holds its lock until release().

        Raises:
            DirectoryError: it cannot be written, another process writes it, or it holds something else.
        """
        try:
            (self / LAST).parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise DirectoryError(f"{self.path}: another process is training into it; wait for it, or choose another name=...") from None
        except OSError as error:
            raise DirectoryError(
                f"{self.path}: cannot be written ({error.strerror}); choose another folder with hydra.run.dir=..."
            ) from None
        with (self / METRICS).open("w", newline="") as file:
            csv.writer(file).writerow(columns)
        self.write(CONFIG, lambda file: file.write(yaml.safe_dump(config, sort_keys=False).encode()))

    def remove(self) -> None:
        """Takes back what create() made, where the run could not start after all."""
        shutil.rmtree(self.path)

    def release(self) -> None:
        self._lock.release()

    def write(self, name: str, writer: Callable[[IO[bytes]], Any]) -> None:
        """Writes a file so that it is there whole or not at all, whenever the machine stops."""
        target = self / name
        part = target.with_name(f".{target.name}.part")
        with part.open("wb") as file:
            writer(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)

    def write_summary(self, summary: dict[str, Any]) -> None:
        text = json.dumps({"format": FORMAT, **summary}, indent=2)
        self.write(SUMMARY, lambda file: file.write(text.encode() + b"\n"))


def shortest(path: Path) -> str:
    """Relative to the working directory where the path lies in it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
