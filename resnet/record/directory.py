"""The run directory: file names, statuses, lock, reading and writing. Only this module knows the format; imports no torch."""

import csv
import io
import json
import os
import shlex
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count, islice
from pathlib import Path
from typing import IO, Any

import yaml
from filelock import FileLock, Timeout

from resnet.config.errors import RunBusy, UserError
from resnet.record.death import cause_of_death
from resnet.record.place import Place
from resnet.record.reading import Unreadable, read_config
from resnet.record.rows import Row as Row
from resnet.record.rows import RowSum, as_numbers, read_rows
from resnet.record.summary import FAILED as FAILED
from resnet.record.summary import FINISHED as FINISHED
from resnet.record.summary import INTERRUPTED as INTERRUPTED
from resnet.record.summary import RUNNING as RUNNING
from resnet.record.summary import UNKNOWN, read_summary

FORMAT = 1
WAITING = "waiting"  # no run directory yet
UNREADABLE = "unreadable"  # damaged, or not a run

CONFIG, METRICS, SUMMARY, LOG, LOCK = "config.yaml", "metrics.csv", "summary.json", "train.log", ".lock"
CALLBACKS = "callbacks"  # the folder of their own files
MIRRORED = ".mirrored"  # exists once the W&B record of a finished run is complete
LAST, PREVIOUS, BEST = "checkpoints/last.pt", "checkpoints/previous.pt", "checkpoints/best.pt"
PATCH = "code.patch"
SPLIT = "split.csv"
CURVES, PROBES = "curves.png", "probes.png"
PROFILE_TABLE, PROFILE_TRACE, PROFILE = "profile.txt", "profile.json", "profile.png"


class PlainDumper(yaml.SafeDumper):
    """Writes a list that appears twice in full both times, without an alias, because our reader refuses aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class DirectoryError(Exception):
    """The directory cannot be used. The message is one line: the directory, the obstacle, and what to do."""


class DirectoryGone(DirectoryError):
    """The directory is no longer the one that the run wrote. `now` is its current path, if known."""

    def __init__(self, text: str, now: Path | None) -> None:
        super().__init__(text)
        self.now = now


class RunDirectory:
    """Reads and writes one run. The log and metrics.csv are appended to; every other file is replaced atomically."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = FileLock(self.path / LOCK, timeout=1)
        self._place: Place | None = None
        self._has_begun = False  # if set, it is this process that wrote the status `running`

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    # reading

    @property
    def exists(self) -> bool:
        """True also if the config is damaged or something else has taken its place."""
        return os.path.lexists(self / CONFIG)

    @property
    def config(self) -> dict[str, Any]:
        """Raises Unreadable, as all reading here does."""
        return read_config(self / CONFIG)

    @property
    def summary(self) -> dict[str, Any]:
        """The summary with its real status: a run with the status `running` whose lock nobody holds was interrupted."""
        summary = read_summary(self / SUMMARY) if os.path.lexists(self / SUMMARY) else {**UNKNOWN, "status": RUNNING}
        if summary["status"] == RUNNING and not self._has_begun and not self.is_held_elsewhere:
            summary |= {"status": INTERRUPTED, "error": cause_of_death(self / LOG)}
        return summary

    @property
    def status(self) -> str:
        """The status; `waiting` if nothing has started."""
        try:
            return str(self.summary["status"]) if self.exists else WAITING
        except Unreadable:
            return UNREADABLE

    @property
    def is_held_elsewhere(self) -> bool:
        """True if another process is writing the run."""
        if self._lock.is_locked or not os.path.isfile(self / LOCK) or os.path.islink(self / LOCK):
            return False
        probe = FileLock(self / LOCK, timeout=0)
        try:
            probe.acquire()
        except Timeout:
            return True
        except OSError:  # another user's directory; no process here writes it
            return False
        probe.release()
        return False

    @property
    def metrics(self) -> list[Row]:
        """One row per record: step, epoch and the metrics; None if a metric was not recorded."""
        return [as_numbers(row) for row in read_rows(self / METRICS)]

    def check_rows(self, known: Any) -> None:
        """Raises UserError if metrics.csv does not begin with the rows that a checkpoint knows. Checkpoints of older versions know none."""
        if known is None:
            return
        found, wanted = RowSum(), known["count"]
        try:
            for row in islice(read_rows(self / METRICS), wanted):
                found.add(as_numbers(row))
            is_short = found.count < wanted
            lacks = f"{found.count} rows, where the checkpoint knows {wanted}" if is_short else "changed since its checkpoint was written"
            reason = f"{self / METRICS}: {lacks}"
        except Unreadable as error:
            reason = str(error)
        if found.known != known:
            raise UserError(f"{reason}; put the file back as it was, or start anew under another name=...")

    @property
    def is_free(self) -> bool:
        """True if a run may be created here: the path does not exist, or has only what a run leaves if it is killed before its first
        file."""
        if not self.path.exists():
            return True
        try:
            return self.path.is_dir() and all(
                file.name in (LOCK, Path(LAST).parent.name, f".{CONFIG}.part") for file in self.path.iterdir()
            )
        except OSError as error:
            raise Unreadable(self.path, error.strerror) from None

    def check_inside(self) -> None:
        """Raises DirectoryError if a symbolic link leads out of the directory, since its target would be read or written instead.

        Pipes and devices are refused too, because opening one may block forever.
        """
        root = os.path.realpath(self.path)
        for file in self.path.rglob("*"):
            try:
                kind, leads_to = file.lstat().st_mode, os.path.realpath(file)
            except FileNotFoundError:  # a run in progress keeps making and replacing files
                continue
            if stat.S_ISLNK(kind) and not Path(leads_to).is_relative_to(root):
                raise DirectoryError(f"{file}: it leads out of the run directory, to {leads_to}; take it away")
            if not (stat.S_ISLNK(kind) or stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
                raise DirectoryError(f"{file}: it is no regular file; take it away")
        for name in (CONFIG, METRICS, SUMMARY, LOG, LAST, PREVIOUS, BEST):
            if (self / name).is_dir():
                raise DirectoryError(f"{self / name}: it is a folder, where a file belongs; take it away")

    # writing

    def acquire(self) -> None:
        """Makes the directory if it does not exist, and holds its lock until release().

        Raises:
            DirectoryError: it cannot be written.
            RunBusy: another process is writing it.
        """
        try:
            (self / LAST).parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            self._place = Place(self.path)
        except Timeout:
            raise RunBusy(self.path) from None
        except OSError as error:
            raise DirectoryError(
                f"{self.path}: cannot be written ({error.strerror}); choose another folder with hydra.run.dir=..."
            ) from None

    def begin(self, config: dict[str, Any], columns: Sequence[str], step: int) -> list[str]:
        """Writes the config and keeps only the rows of metrics.csv up to a step. A truncated last row is dropped too.

        Returns the columns of metrics.csv: the requested ones, and any further ones of the kept rows.
        """
        self.write(CONFIG, lambda file: file.write(yaml.dump(config, Dumper=PlainDumper, sort_keys=False).encode()))
        earlier = list(self._rows_until(step)) if (self / METRICS).exists() else []
        all_columns = list(dict.fromkeys([*columns, *(earlier[0] if earlier else [])]))
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, all_columns, restval="")
        table.writeheader()
        table.writerows(earlier)
        self.write(METRICS, lambda file: file.write(text.getvalue().encode()))
        self._has_begun = True
        if self._place:
            self._place.files = (CONFIG, METRICS, LOCK, str(Path(LAST).parent))
        return all_columns

    def _rows_until(self, step: int) -> Iterator[dict[str, str]]:
        with suppress(Unreadable):  # check_rows has checked the rows before this one
            for row in read_rows(self / METRICS):
                if int(row["step"]) > step:
                    break
                yield row

    def set_aside(self) -> Path:
        """Moves a run out of its sweep's folder into one beside it. Returns its new path."""
        sweep = self.path.parent
        places = (sweep.with_name(f"{sweep.name}.before-{number}") / self.path.name for number in count(1))
        place = next(place for place in places if not place.exists())
        try:
            place.parent.mkdir(exist_ok=True)
            self.path.rename(place)
        except OSError as error:
            raise DirectoryError(f"{self.path}: cannot be moved to {place} ({error.strerror})") from None
        return place

    def remove(self) -> None:
        """Removes the directory if a new run could not start."""
        self.release()  # Windows cannot remove open files
        shutil.rmtree(self.path)

    def remove_unbegun(self) -> None:
        """Removes what acquire() made if the run never wrote its first file."""
        if self._lock.is_locked and not self.exists:
            shutil.rmtree(self / CALLBACKS, ignore_errors=True)  # which a callback made before it failed
            if self.is_free:
                self.remove()

    def release(self) -> None:
        self._lock.release()
        if self._place:
            self._place.close()
            self._place = None

    def _check_place(self) -> None:
        if self._place and (fault := self._place.fault):
            now = self._place.now
            resume = f"; python -m resnet resume {shlex.quote(shortest(now))} continues it" if now not in (None, self.path) else ""
            raise DirectoryGone(f"{shortest(self.path)}: {fault} while the run was writing it; the run has ended{resume}", now)

    @contextmanager
    def append(self, name: str) -> Iterator[IO[str]]:
        """Opens a file that grows."""
        self._check_place()
        try:
            with (self / name).open("a", encoding="utf-8", newline="") as file:
                yield file
        except OSError as error:
            raise DirectoryError(f"{self / name}: cannot be written ({error.strerror})") from None

    def write(self, name: str, writer: Callable[[IO[bytes]], Any], keep: str | None = None) -> None:
        """Writes a file atomically: after a crash it is there whole or not at all. `keep` is the name under which the previous file
        stays."""
        self._check_place()
        target = self / name
        if (is_there := os.path.exists(target)) and not os.path.isfile(target):  # a rename would replace a device by a file
            raise DirectoryError(f"{target}: cannot be written (it is no regular file)")
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
            note = "; the one before it is kept" if is_there else ""
            raise DirectoryError(f"{target}: cannot be written ({error.strerror}){note}") from None

    def sync(self, name: str) -> None:
        """Waits until the data appended to a file is on disk."""
        with self.append(name) as file:
            os.fsync(file.fileno())

    def write_summary(self, summary: dict[str, Any]) -> None:
        text = json.dumps({"format": FORMAT, **summary}, indent=2)
        self.write(SUMMARY, lambda file: file.write(text.encode() + b"\n"))


def run_ids(directory: Path) -> list[str]:
    """Returns the names of the runs in a sweep's directory."""
    return sorted(path.parent.name for path in directory.glob(f"*/{CONFIG}"))


def shortest(path: Path) -> str:
    """Returns the path relative to the working directory if it is inside, else the path itself."""
    with suppress(OSError):  # the working directory may be gone
        if path.is_relative_to(here := Path.cwd()):
            return str(path.relative_to(here))
    return str(path)
