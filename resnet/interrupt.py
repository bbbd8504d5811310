"""Signals that ask a process to end: Ctrl-C, SIGTERM, a closed terminal (SIGHUP), a cluster's warnings (SIGUSR1, SIGUSR2).

A training run saves and ends. Everything else ends at once, with one line and an exit status. This module imports nothing heavy, because
each command imports it first.
"""

import atexit
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from subprocess import Popen
from types import FrameType
from typing import Any, NoReturn

from resnet.ranks import is_first_process

# Windows lacks three of them and has one of its own, Ctrl-Break.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGBREAK")
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
CTRL_C, TRY_AGAIN = 130, 75  # exit statuses
COPIES = 1.0  # seconds in which a repeated signal counts as a copy: torchrun passes on a Ctrl-C that the terminal also sent

Handler = Callable[[int, FrameType | None], Any]
_undone: list[Callable[[], object]] = []  # called when a signal ends the process, the last one first
_hint = ""
ended_by: list[int] = []  # signals answered by an exception, which other code may turn into another exception
_ended_at = 0.0


class Interrupted(BaseException):
    """A signal ended the run. Not an Exception: like KeyboardInterrupt, it is not caught by handlers of failures."""

    def __init__(self, number: int) -> None:
        super().__init__(name_of(number))
        self.number = number


def name_of(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def status_of(number: int) -> int:
    return CTRL_C if number == signal.SIGINT else TRY_AGAIN


def install(handler: Handler | signal.Handlers) -> dict[int, Any]:
    """Sets the handler of all signals except those that the process was started to ignore, as with nohup. Returns the previous handlers."""
    return {number: signal.signal(number, handler) for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN}


@contextmanager
def handled_by(handler: Handler) -> Iterator[None]:
    before = install(handler)
    try:
        yield
    finally:
        restore(before)


def restore(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)


def end_at_once(hint: str = "") -> None:
    """From now on, a signal ends the process at once, even during imports or calls in which an exception would be lost."""
    global _hint
    _hint = hint
    install(end)
    atexit.register(install, signal.SIG_IGN)  # runs last at exit; a signal during Python's own shutdown would change the status


@contextmanager
def undone_if_ended(call: Callable[[], object], *errors: type[Exception]) -> Iterator[None]:
    """Calls `call` first if a signal ends the process or the run inside this context, or if one of these errors is raised."""
    answered: tuple[type[BaseException], ...] = (Interrupted, *errors)
    _undone.append(call)
    try:
        yield
    except answered:
        call()
        raise
    finally:
        _undone.remove(call)


@contextmanager
def passing_on(process: Popen[bytes]) -> Iterator[None]:
    """If a signal ends this process inside this context, ends another one first, which saves its work."""

    def end_it() -> None:
        process.terminate()
        os.waitpid(process.pid, 0)  # not process.wait(), which the signal may have interrupted

    with undone_if_ended(end_it):
        yield


def end(number: int, frame: FrameType | None = None) -> NoReturn:
    """Undoes what was begun, prints one line, and ends the process."""
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    for call in reversed(_undone):
        with suppress(Exception):
            call()
    _end_children()
    with suppress(Exception):  # a closed terminal, or a write in progress
        sys.stdout.flush()
    if is_first_process():
        with suppress(OSError):
            os.write(2, f"interrupted by {name_of(number)}{_hint}\n".encode())
    os._exit(status_of(number))


def end_by_signal(number: int, frame: FrameType | None = None) -> None:
    """Ends the current work by an exception, so that outer code can report what is left. Ignores copies of the signal."""
    global _ended_at
    if ended_by and time.monotonic() - _ended_at < COPIES:
        return
    ended_by.append(number)
    _ended_at = time.monotonic()
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(status_of(number))


def _end_children() -> None:
    if "multiprocessing" in sys.modules:
        from multiprocessing import active_children

        for child in active_children():
            child.terminate()


class StopSignals:
    """Raises Interrupted on signals while open. While `wait` is set, the first signal is only noted and a second one raises.

    Before training begins, signals still end the process if `end_at_once` was called.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.received_at = 0.0
        self.wait = False
        self.has_begun = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        self.before = install(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        restore(self.before)
        if hasattr(signal, "SIGUSR2") and self.received == signal.SIGUSR2:
            queue_again = self.before.get(signal.SIGUSR2)  # submitit's handler, in a job of hydra/launcher=slurm; called now, after saving
            if callable(queue_again) and queue_again is not end:
                queue_again(signal.SIGUSR2, None)

    def begin(self) -> None:
        """Marks the start of training: from now on a signal is noted, and checked after each step."""
        global _hint
        _hint = ""
        self.wait = self.has_begun = True

    def stop_waiting(self) -> None:
        """Marks the end of training: raises Interrupted if a signal came since the last step; later signals raise at once."""
        self.wait = False
        if self.received is not None:
            raise Interrupted(self.received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        is_second = self.received is not None and time.monotonic() - self.received_at > COPIES
        if self.received is None:
            self.received, self.received_at = number, time.monotonic()
        if not self.has_begun and self.before.get(number) is end:
            end(number)
        if is_second or not self.wait:
            raise Interrupted(number)
