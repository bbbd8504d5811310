"""SIGTERM, SIGINT (Ctrl-C), SIGUSR1 and SIGUSR2 (a cluster's warnings): a run saves and ends, instead of being ended."""

import signal
import time
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class Interrupted(BaseException):
    """A signal ended the run. Not an Exception: like KeyboardInterrupt it passes what handles failures."""

    def __init__(self, number: int) -> None:
        super().__init__("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)
        self.number = number


class StopSignals:
    """While open, the signals raise Interrupted; while `wait` is set they are only noted, and a second Ctrl-C raises.

    Not within a second: torchrun passes a Ctrl-C on, which the terminal sent to its processes too.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.received_at = 0.0
        self.wait = False

    def __enter__(self) -> "StopSignals":
        self.before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        queue_again = self.before[signal.SIGUSR2]  # of submitit, in a job of hydra/launcher=slurm: now that all is saved
        if self.received == signal.SIGUSR2 and callable(queue_again):
            queue_again(signal.SIGUSR2, None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        is_second = number == signal.SIGINT == self.received and time.monotonic() - self.received_at > 1
        self.received, self.received_at = number, time.monotonic()
        if is_second or not self.wait:
            raise Interrupted(number)
