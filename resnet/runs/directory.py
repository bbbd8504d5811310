"""The run directory: names, statuses, lock, reader and writer. The one owner of the format; imports no torch."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import yaml
from filelock import FileLock, Timeout

FORMAT = 1
RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"
WAITING = "waiting"  # no run directory yet

CONFIG, METRICS, SUMMARY, LOG, LOCK = "config.yaml", "metrics.csv", "summary.json", "train.log", ".lock"
MIRRORED = ".mirrored"  # there once all of a finished run is in its W&B record
LAST, PREVIOUS, BEST = "checkpoints/last.pt", "checkpoints/previous.pt", "checkpoints/best.pt"
CURVES, PROBES = "curves.png", "probes.png"
PROFILE_TABLE, PROFILE_TRACE, PROFILE = "profile.txt", "profile.json", "profile.png"

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
        return yaml.load((self / CONFIG).read_text(), Loader=yaml.CSafeLoader)  # safe_load in C: ten times as fast

    @property
    def summary(self) -> dict[str, Any]:
        """With the status as it is: a run that says `running` while nobody holds its lock was interrupted."""
        try:
            summary = json.loads((self / SUMMARY).read_text())
        except FileNotFoundError:
            summary = {"status": RUNNING}
        if summary["status"] == RUNNING and not self._lock.is_locked and not self.is_held_elsewhere:
            summary["status"] = INTERRUPTED
        return summary

    @property
    def status(self) -> str:
        """`waiting` where nothing has started."""
        return str(self.summary["status"]) if self.exists else WAITING

    @property
    def is_held_elsewhere(self) -> bool:
        """Whether another process writes the run."""
        if self._lock.is_locked or not (self / LOCK).exists():
            return False
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

    @property
    def is_free(self) -> bool:
        """Whether a run may be made here: nothing is there, or what a run leaves that was killed before its first file."""
        if not self.path.exists():
            return True
        return self.path.is_dir() and all(file.name in (LOCK, Path(LAST).parent.name, f".{CONFIG}.part") for file in self.path.iterdir())

    def check_inside(self) -> None:
        """Raises DirectoryError where a link leads out of the directory: it would be read, or written, in its place."""
        root = self.path.resolve()
        for file in self.path.rglob("*"):
            if file.is_symlink() and not file.resolve().is_relative_to(root):
                raise DirectoryError(f"{file}: it leads out of the run directory, to {file.resolve()}; take it away")

    # writing

    def acquire(self) -> None:
        """Makes the directory where it is not there, and holds its lock until release().

        Raises:
            DirectoryError: it cannot be written, or another process writes it.
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

    def begin(self, config: dict[str, Any], columns: Sequence[str], step: int) -> list[str]:
        """Writes the config, and leaves of metrics.csv the rows up to a step; a row that was cut short goes too.

        Returns its columns: those asked for, and further ones that the kept rows have.
        """
        self.write(CONFIG, lambda file: file.write(yaml.safe_dump(config, sort_keys=False).encode()))
        kept = list(self._rows_until(step)) if (self / METRICS).exists() else []
        all_columns = list(dict.fromkeys([*columns, *(kept[0] if kept else [])]))
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, all_columns, restval="")
        table.writeheader()
        table.writerows(kept)
        self.write(METRICS, lambda file: file.write(text.getvalue().encode()))
        return all_columns

    def _rows_until(self, step: int) -> Iterator[dict[str, str]]:
        lines = (self / METRICS).read_text().splitlines(keepends=True)
        for row in csv.DictReader(line for line in lines if line.endswith("\n")):
            if not row["step"].isdigit() or int(row["step"]) > step:
                break
            yield row

    def remove(self) -> None:
        """Takes back what was made, where a new run could not start after all."""
        shutil.rmtree(self.path)

    def release(self) -> None:
        self._lock.release()

    def write(self, name: str, writer: Callable[[IO[bytes]], Any], keep: str | None = None) -> None:
        """Writes a file so that it is there whole or not at all, whenever the machine stops; `keep` is the name of the one before."""
        target = self / name
        part = target.with_name(f".{target.name}.part")
        try:
            with part.open("wb") as file:
                writer(file)
                file.flush()
                os.fsync(file.fileno())
            if keep is not None and target.exists():
                target.replace(self / keep)
            part.replace(target)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise DirectoryError(f"{target}: cannot be written ({error.strerror}); the one before it is kept") from None

    def sync(self, name: str) -> None:
        """Waits until what was appended to a file is on the disk."""
        with (self / name).open("a") as file:
            os.fsync(file.fileno())

    def write_summary(self, summary: dict[str, Any]) -> None:
        text = json.dumps({"format": FORMAT, **summary}, indent=2)
        self.write(SUMMARY, lambda file: file.write(text.encode() + b"\n"))


def run_ids(directory: Path) -> list[str]:
    """The runs that a sweep's directory holds."""
    return sorted(path.parent.name for path in directory.glob(f"*/{CONFIG}"))


def shortest(path: Path) -> str:
    """Relative to the working directory where the path lies in it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
