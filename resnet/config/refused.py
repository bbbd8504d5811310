"""Jobs of a sweep that could not start, each with its mistake: written by the job, in whatever process, and read by the sweep."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

Refused = dict[str, list[tuple[str, str]]]  # overrides and mistakes, by the folder that the job would have had
FOLDER = ".refused"  # in the sweep's


def clear(sweep: Path) -> None:
    """What earlier calls of the sweep left. A link is another folder's."""
    if not (sweep / FOLDER).is_symlink():
        with suppress(OSError):
            for file in (sweep / FOLDER).glob("*"):
                file.unlink(missing_ok=True)
            (sweep / FOLDER).rmdir()


def note(job: Path, overrides: Sequence[str], error: str) -> None:
    """`job`: its folder. Several jobs have one where their configs could not be read."""
    with suppress(OSError):  # nothing can be written there, which is then the mistake itself
        file = job.parent / FOLDER / job.name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps([" ".join(overrides), "; ".join(error.splitlines())]) + "\n")


def read_refused(sweep: Path) -> Refused:
    found = sorted((sweep / FOLDER).glob("*"))
    return {file.name: list(dict.fromkeys((given, error) for given, error in _lines(file))) for file in found}


def _lines(file: Path) -> list[list[str]]:
    """As far as they can be read: a job may have been killed in the middle of one."""
    with suppress(OSError, ValueError):
        found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return [line for line in found if isinstance(line, list) and len(line) == 2 and all(isinstance(text, str) for text in line)]
    return [["", "it could not start"]]
