"""Finds how a process died that wrote a run and could not report it itself."""

import faulthandler
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TAIL = 2**16  # bytes read from the end of a log; Python's crash report is shorter
LAST_WORDS = re.compile(r"^(?:Fatal Python error|Windows fatal exception): (.*)", re.MULTILINE)
STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", re.MULTILINE)
UNKNOWN = "its process ended without a word: it was killed, ran out of memory, or the machine stopped"


@contextmanager
def crashes_told_in(log: Path) -> Iterator[None]:
    """While open, a crash in native code writes its name and its stack to the end of the log."""
    was_enabled = faulthandler.is_enabled()
    with log.open("ab") as file:
        faulthandler.enable(file)
        try:
            yield
        finally:
            faulthandler.disable()
            if was_enabled:
                with suppress(OSError, ValueError, AttributeError, RuntimeError):  # no such stream
                    faulthandler.enable(sys.__stderr__)  # type: ignore[arg-type]


def cause_of_death(log: Path) -> str:
    """Says in one line how the last process that wrote the log died."""
    if not log.is_file():  # reading a pipe would block
        return UNKNOWN
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            tail = file.read(TAIL).decode("utf-8", "replace")
    except OSError:
        return UNKNOWN
    words = list(LAST_WORDS.finditer(tail))
    if not words or STAMP.search(tail, words[-1].end()):  # a later process has written after it
        return UNKNOWN
    reason = re.sub(r"[^\x20-\x7e]", "?", words[-1][1])[:100]
    return f"its process died of a crash in native code ({reason}); the end of {log.name} says where"
