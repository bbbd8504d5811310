"""A second signal ends a run whose step does not end: a thread sees it while the main thread hangs in native code."""

import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from resnet.interrupt import COPIES, SIGNALS

GRACE = 3.0  # seconds in which the main thread may answer a second signal itself


class Insistence:
    """While open, watches for signals. Python's own handlers wait until the main thread is back from native code.

    `tell` is called where the first signal has not ended the run after a second, `end` where a second one has not ended it after GRACE
    more; both with the signal's number, in a thread of their own.
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
        self.sender.close()  # which ends the thread
        self.thread.join(GRACE)  # it holds the model, which no thread may free while Python ends: that aborts the process

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
        """Waits for a signal; None once this is closed."""
        while byte := self.receiver.recv(1):
            if byte[0] in SIGNALS:
                return byte[0]
        return None

    def _forget_copies(self) -> None:
        self.receiver.setblocking(False)
        with suppress(BlockingIOError):
            self.receiver.recv(4096)
        self.receiver.setblocking(True)
