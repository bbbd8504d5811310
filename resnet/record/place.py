"""Checks that a run directory is still where its run writes it: somebody may remove, move or replace it."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


class Place:
    """A directory, held open. It must contain `files`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: Sequence[str] = ()
        self.held = os.open(path, os.O_RDONLY) if hasattr(os, "O_DIRECTORY") else None  # Windows cannot open directories
        self.was = self._found()

    def close(self) -> None:
        if self.held is not None:
            os.close(self.held)

    @property
    def fault(self) -> str | None:
        """Says what has happened to the directory, or None."""
        now = self._found()
        if now == self.was:
            missing = [name for name in self.files if not (self.path / name).exists()]
            return f"{missing[0]} was removed from it" if missing else None
        if (moved := self.now) is not None:
            return f"it was moved to {moved}"
        return "it was removed" if now is None else "it was removed, with something else in its place,"

    @property
    def now(self) -> Path | None:
        """The current path of the directory, or None if unknown."""
        if self._found() == self.was:
            return self.path
        with suppress(OSError):
            path = Path(os.readlink(f"/proc/self/fd/{self.held}"))  # Linux
            return path if path.is_dir() else None
        return None

    def _found(self) -> tuple[int, int] | None:
        """Returns the device and inode under this path, or None."""
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_dev, status.st_ino
