"""Lets a second signal end a run that hangs: a thread sees the signal while the main thread is stuck in native code."""

import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from resnet.interrupt import COPIES, SIGNALS

GRACE = 3.0  # seconds that the main thread gets to handle a second signal itself


class Insistence:
    """Watches for signals while open. Python's own handlers wait until the main thread returns from native code.

    `tell` is called if the run goes on for a second after the first signal. `end` is called if it goes on for GRACE seconds after a second
    signal. Both get the signal's number, and run in a separate thread.
    """

    def __init__(self, tell: Callable[[int], None], end: Callable[[int], None]) -> None:
        self.tell, self.end = tell, end
        self.is_over = threading.Event()

    def __enter__(self) -> None:
        self.receiver, self.sender = socket.socketpair()
        self.sender.setblocking(False)
        self.before = signal.set_wakeup_fd(self.sender.fileno(), warn_on_full_buffer=False)
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        signal.set_wakeup_fd(self.before)
        self.sender.close()  # this ends the thread
        self.thread.join(GRACE)  # the thread refers to the model; freeing it in a thread while Python exits aborts the process

    def _look(self) -> None:
        with self.receiver:
            first = self._next()
            if first is None or self.is_over.wait(COPIES):
                return
            self.tell(first)
            self._forget_copies()
            second = self._next()
            if second is not None and not self.is_over.wait(GRACE):
                self.end(second)

    def _next(self) -> int | None:
        """Waits for a signal and returns its number. Returns None once this is closed."""
        while byte := self.receiver.recv(1):
            if byte[0] in SIGNALS:
                return byte[0]
        return None

    def _forget_copies(self) -> None:
        self.receiver.setblocking(False)
        with suppress(BlockingIOError):
            self.receiver.recv(4096)
        self.receiver.setblocking(True)
