"""Ends a session that does not finish its run: writes it to the directory and the trackers, and prints it."""

import faulthandler
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from typing import Any

from resnet.config import RunFailed
from resnet.interrupt import Interrupted, name_of, status_of
from resnet.plain import plain
from resnet.record.directory import FAILED, INTERRUPTED, LAST, LOG, DirectoryError, DirectoryGone, RunDirectory, shortest
from resnet.record.trackers import Tracker, reason
from resnet.training.callbacks import CallbackError
from resnet.training.loop import NotFinite, Training
from resnet.training.processes import Failure, ended, tell_failure


class Ending:
    """`is_first`: this is the first process of the run, which alone writes. `children`: the processes that it started."""

    def __init__(self, directory: RunDirectory, name: str, *, is_first: bool, in_sweep: bool, children: Sequence[Popen[bytes]]) -> None:
        self.directory, self.name, self.path = directory, name, shortest(directory.path)
        self.is_first, self.in_sweep, self.children = is_first, in_sweep, children

    def before_beginning(self, failure: Failure) -> None:
        """Reports that another process failed before the run directory was there."""
        if self.is_first:
            with suppress(OSError):  # not empty if the run was continued
                self.directory.path.rmdir()
            print(f"{failure.traceback}\nerror: {self.path}: failed: {failure.text}", file=sys.stderr, flush=True)

    def with_error(self, summary: dict[str, Any], tracker: Tracker, training: Training, error: BaseException) -> None:
        """Ends the session after an error. Raises RunFailed after a failure; returns after a signal."""
        is_interrupted = isinstance(error, Interrupted)
        is_everywhere = is_interrupted or isinstance(error, NotFinite)
        other = None if is_everywhere else tell_failure(error) or ended(self.children)
        if not self.is_first:
            return
        is_plain = is_everywhere or isinstance(error, DirectoryError | CallbackError)
        text = other.text if other else str(error) if is_plain else reason(error)
        if isinstance(error, DirectoryGone):
            self._elsewhere({**summary, "status": FAILED, "error": text}, tracker, error.now)
            raise RunFailed(text) from None
        summary |= {"status": INTERRUPTED if is_interrupted else FAILED, "error": text}
        self._write(summary, tracker, (other and other.traceback) or "".join(traceback.format_exception(error)))
        kept = self._kept(training)
        if is_interrupted:
            print(plain(f"{self.path}: interrupted by {text}; {kept}; {self._again()}"))
            return
        raise RunFailed(f"{self.path}: failed: {text}; {kept}, the traceback is in {LOG}") from error

    def _elsewhere(self, summary: dict[str, Any], tracker: Tracker, now: Path | None) -> None:
        """Records the failure if the directory is gone. Makes nothing in its place."""
        with suppress(OSError, DirectoryError):
            if now is not None:
                RunDirectory(now).write_summary(summary)
        with suppress(OSError, DirectoryError):
            tracker.fail(summary)

    def _kept(self, training: Training) -> str:
        return f"its checkpoint of step {training.saved_step:,} is kept" if (self.directory / LAST).exists() else "it had no checkpoint yet"

    def _again(self) -> str:
        again = "the same command" if self.in_sweep else f"the same command, with {shlex.quote(f'name={self.name}')}"
        return f"{again}, or {shlex.join(['python', '-m', 'resnet', 'resume', self.path])}, continues it"

    def announce(self, number: int) -> None:
        """Prints that a first signal came."""
        if self.is_first:
            text = f"{self.path}: {name_of(number)}: it saves and ends after this step; a second signal ends it at once, without saving"
            with suppress(OSError, ValueError):  # a closed terminal
                print(text, file=sys.stderr, flush=True)

    def in_hung_step(self, summary: dict[str, Any], training: Training, number: int) -> None:
        """Handles a second signal while the main thread hangs in a step. Runs in another thread and ends the process."""
        if self.is_first:
            text = f"a second {name_of(number)} in the middle of a step ({LOG} says where)"
            with suppress(OSError, DirectoryError):
                with self.directory.append(LOG) as log:
                    faulthandler.dump_traceback(log)
                self.directory.write_summary({**summary, "status": INTERRUPTED, "error": text})
            with suppress(OSError, ValueError):  # a closed terminal
                print(plain(f"{self.path}: interrupted by {text}; {self._kept(training)}; {self._again()}"), flush=True)
        os._exit(status_of(number))

    def with_failed_process(self, summary: dict[str, Any], tracker: Tracker, failure: Failure) -> None:
        """Reports another process that has failed while the main thread waits for it. Runs in another thread, whose caller ends the
        process.
        """
        if self.is_first:
            self._write({**summary, "status": FAILED, "error": failure.text}, tracker, failure.traceback)
            print(plain(f"error: {self.path}: failed: {failure.text}; the traceback is in {LOG}"), file=sys.stderr, flush=True)

    def _write(self, summary: dict[str, Any], tracker: Tracker, details: str) -> None:
        with suppress(OSError, DirectoryError):  # a full disk; a run that is `running` while nobody holds its lock counts as interrupted
            with self.directory.append(LOG) as log:
                log.write(details)
            self.directory.write_summary(summary)
        tracker.fail(summary)
