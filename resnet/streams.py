"""Standard output and error that may go away (`| head -1`, a closed terminal, a full disk): what is written then goes nowhere."""

import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO, cast


class Lasting:
    """A text stream whose first failed write sends it, and all processes that share its descriptor later, to the null device."""

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
            self._stream.flush()  # what was held back: Python would complain of it at exit


def lasting(stream: TextIO) -> TextIO:
    return cast(TextIO, Lasting(stream))


def keep_going() -> None:
    """Once, at the start of a command: nobody's having stopped to read ends what it does, nor a screen for pictures that is not there."""
    os.environ.pop("MPLBACKEND", None)  # pictures go into files; a notebook sets this for its commands too, where it may not be installed
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed (`>&-`): the next file that is opened would take its place
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
                stream.reconfigure(errors="replace")  # a terminal or a pipe that lacks a character, as on Windows
            setattr(sys, name, lasting(stream))
