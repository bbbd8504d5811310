"""Records the jobs of a sweep that could not start, each with its mistake. The job writes it, in any process; the sweep reads it."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

Refused = dict[str, list[tuple[str, str]]]  # (overrides, mistake) by the folder that the job would have had
FOLDER = ".refused"  # inside the sweep's folder


def clear(sweep: Path) -> None:
    """Removes what earlier calls of the sweep left. Leaves a symbolic link alone, since it leads to another folder."""
    if not (sweep / FOLDER).is_symlink():
        with suppress(OSError):
            for file in (sweep / FOLDER).glob("*"):
                file.unlink(missing_ok=True)
            (sweep / FOLDER).rmdir()


def note(job: Path, overrides: Sequence[str], error: str) -> None:
    """Adds a line for a job; `job` is its folder. Jobs whose configs could not be read share one folder."""
    with suppress(OSError):  # if nothing can be written there, that is the mistake itself
        file = job.parent / FOLDER / job.name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps([" ".join(overrides), "; ".join(error.splitlines())]) + "\n")


def read_refused(sweep: Path) -> Refused:
    found = sorted((sweep / FOLDER).glob("*"))
    return {file.name: list(dict.fromkeys((given, error) for given, error in _lines(file))) for file in found}


def _lines(file: Path) -> list[list[str]]:
    """Reads the lines of a file. If it cannot be read, as after a job was killed while writing, one line says that the job could not
    start."""
    with suppress(OSError, ValueError):
        found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return [line for line in found if isinstance(line, list) and len(line) == 2 and all(isinstance(text, str) for text in line)]
    return [["", "it could not start"]]
