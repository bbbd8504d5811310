"""Signals that ask a process to end: Ctrl-C, SIGTERM, a closed terminal (SIGHUP), a cluster's warnings (SIGUSR1, SIGUSR2).

A run that trains saves and ends. All else ends at once, with one line and a status that says so. Imports nothing heavy: it is the
first thing that a command does.
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
COPIES = 1.0  # seconds in which the same signal comes twice: torchrun passes a Ctrl-C on, which the terminal sent too

Handler = Callable[[int, FrameType | None], Any]
_undone: list[Callable[[], object]] = []  # by a process that a signal ends, the last one first
_hint = ""
ended_by: list[int] = []  # the signals that were answered by an exception: what is in the middle of something makes another one of it
_ended_at = 0.0


class Interrupted(BaseException):
    """A signal ended the run. Not an Exception: like KeyboardInterrupt it passes what handles failures."""

    def __init__(self, number: int) -> None:
        super().__init__(name_of(number))
        self.number = number


def name_of(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def status_of(number: int) -> int:
    return CTRL_C if number == signal.SIGINT else TRY_AGAIN


def install(handler: Handler | signal.Handlers) -> dict[int, Any]:
    """Handles the signals but for those that whoever started the process has it ignore, as nohup does; returns the handlers before."""
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
    """From here on a signal ends the process, in whatever import or call it comes: an exception would be lost in some of them."""
    global _hint
    _hint = hint
    install(end)
    atexit.register(install, signal.SIG_IGN)  # the last of all: then Python takes its handlers back, and a signal would change the status


@contextmanager
def undone_if_ended(call: Callable[[], object], *errors: type[Exception]) -> Iterator[None]:
    """While open, a signal that ends the process, or the run, is answered by this call first; and so are these errors."""
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
    """While open, a signal that ends this process ends another one first, which saves what it has."""

    def end_it() -> None:
        process.terminate()
        os.waitpid(process.pid, 0)  # not process.wait(), which may be what the signal came into

    with undone_if_ended(end_it):
        yield


def end(number: int, frame: FrameType | None = None) -> NoReturn:
    """Takes back what was begun, and ends the process without another word than one line."""
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    for call in reversed(_undone):
        with suppress(Exception):
            call()
    _end_children()
    with suppress(Exception):  # a closed terminal, or a line that is being written
        sys.stdout.flush()
    if is_first_process():
        with suppress(OSError):
            os.write(2, f"interrupted by {name_of(number)}{_hint}\n".encode())
    os._exit(status_of(number))


def end_by_signal(number: int, frame: FrameType | None = None) -> None:
    """Ends what runs now by an exception, for those around it to tell what is left; a copy of the signal does not disturb them."""
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
    """While open, the signals raise Interrupted; while `wait` is set the first one is only noted, and a second one raises.

    Before training has begun, where `end_at_once` was called, they still end the process.
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
            queue_again = self.before.get(signal.SIGUSR2)  # of submitit, in a job of hydra/launcher=slurm: now that all is saved
            if callable(queue_again) and queue_again is not end:
                queue_again(signal.SIGUSR2, None)

    def begin(self) -> None:
        """Training begins: what comes is noted, and looked for after each step."""
        global _hint
        _hint = ""
        self.wait = self.has_begun = True

    def stop_waiting(self) -> None:
        """Training is over: what came since the last step, and what comes now, raises."""
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
