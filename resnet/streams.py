"""Standard output and error that may go away (`| head -1`, a closed terminal, a full disk). Later output is then discarded."""

import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO, cast


class Lasting:
    """A text stream. After its first failed write, its descriptor is redirected to the null device, also for processes that share it
    later."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._leave()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._leave()

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _leave(self) -> None:
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
            self._stream.flush()  # flush what was held back, or Python would complain at exit


def lasting(stream: TextIO) -> TextIO:
    return cast(TextIO, Lasting(stream))


def keep_going() -> None:
    """Protects a command from lost output streams and from a missing display for pictures. Call it once, at the start."""
    os.environ.pop("MPLBACKEND", None)  # pictures go into files; a notebook sets a backend that may be missing here
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed (`>&-`): the next opened file would take its number
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, lasting(open(os.devnull, "w", encoding="utf-8")))  # noqa: SIM115 - as long as the process
        elif not isinstance(stream, Lasting):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # for terminals or pipes that lack a character, as on Windows
            setattr(sys, name, lasting(stream))
