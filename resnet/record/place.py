"""Whether a run directory is still where its run writes it: somebody may remove or move it, or put another one in its place."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


class Place:
    """A directory, held open; `files` have to be in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: Sequence[str] = ()
        self.held = os.open(path, os.O_RDONLY) if hasattr(os, "O_DIRECTORY") else None  # Windows opens no directory, and moves no open one
        self.was = self._found()

    def close(self) -> None:
        if self.held is not None:
            os.close(self.held)

    @property
    def fault(self) -> str | None:
        """What has happened to it, if anything."""
        now = self._found()
        if now == self.was:
            missing = [name for name in self.files if not (self.path / name).exists()]
            return f"{missing[0]} was removed from it" if missing else None
        if (moved := self.now) is not None:
            return f"it was moved to {moved}"
        return "it was removed" if now is None else "it was removed, with something else in its place,"

    @property
    def now(self) -> Path | None:
        """Where it is, if that can be known."""
        if self._found() == self.was:
            return self.path
        with suppress(OSError):
            path = Path(os.readlink(f"/proc/self/fd/{self.held}"))  # Linux
            return path if path.is_dir() else None
        return None

    def _found(self) -> tuple[int, int] | None:
        """What the file system has under this path."""
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_dev, status.st_ino
