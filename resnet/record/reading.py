"""Reads files that may come from anybody: only regular files of limited size. Each error is one line. Imports no torch."""

import json
from pathlib import Path
from typing import Any

import yaml

from resnet.config.checks import LARGEST
from resnet.config.errors import UserError
from resnet.config.hashing import flatten, lacking
from resnet.config.upgrade import upgraded
from resnet.plain import plain

MOST_BYTES = 4 * 2**20  # bytes of config.yaml or summary.json, which have a few thousand
DEEPEST = 32  # levels of nested mappings and lists


class Unreadable(UserError):
    """A file cannot be read. The message is one line: the file, and the reason."""

    def __init__(self, path: Path, reason: object) -> None:
        lines = str(reason).splitlines()
        super().__init__(plain(f"{path}: cannot be read ({lines[0] if lines else type(reason).__name__})"))

    def __reduce__(self) -> Any:  # lets one process of a run send it to the others
        return UserError, self.args


def bounded_text(path: Path, most: int = MOST_BYTES, errors: str = "strict") -> str:
    """Reads UTF-8 text. Raises Unreadable if the file is not regular, too large, or not UTF-8."""
    try:
        if path.exists() and not path.is_file():  # opening a pipe would block forever
            raise Unreadable(path, "it is no regular file")
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise Unreadable(path, error.strerror or error) from None
    if len(content) > most:
        raise Unreadable(path, f"it has more than {most:,} bytes")
    try:
        return content.decode("utf-8-sig", errors)  # utf-8-sig: Excel and Notepad write a byte order mark
    except UnicodeDecodeError as error:
        raise Unreadable(path, f"byte {error.start:,} is no UTF-8") from None


def read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(bounded_text(path))
    except json.JSONDecodeError as error:
        raise Unreadable(path, f"it is cut short or no JSON from line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise Unreadable(path, "it is nested too deeply") from None
    except ValueError:
        raise Unreadable(path, "it has a number of thousands of digits") from None
    return _checked(path, values)


def read_config(path: Path) -> dict[str, Any]:
    """Reads a config.yaml. An older one may lack later keys that have a default; if any other key is missing, the file is truncated."""
    text = bounded_text(path)
    try:
        _check_events(path, text)
        values = yaml.load(text, Loader=yaml.CSafeLoader)  # safe_load in C, ten times as fast
    except yaml.MarkedYAMLError as error:
        if "nesting" in str(error.problem):  # libyaml's own limit
            raise Unreadable(path, "it is nested too deeply") from None
        line = f" from line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise Unreadable(path, f"it is cut short or no plain YAML{line}: {error.problem}") from None
    except (yaml.YAMLError, ValueError):  # a character that YAML does not allow, an invalid date or number
        raise Unreadable(path, "it is no plain YAML") from None
    config = _checked(path, values)
    if "seed" not in config:
        raise Unreadable(path, "it is no config of a run: it has no seed")
    if lacks := lacking(flatten(upgraded(config))):
        raise Unreadable(path, f"it is cut short, or not written by train.py: it lacks {lacks[0]}")
    if not text.endswith("\n"):
        raise Unreadable(path, "it is cut short: its last line has no end")
    return config


def _check_events(path: Path, text: str) -> None:
    """Checks the events before any value is built. A few lines of aliases can expand to more values than memory holds, and train.py writes
    none.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if getattr(event, "anchor", None) is not None:
            raise Unreadable(path, "it has anchors or aliases, which train.py does not write")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise Unreadable(path, "it is nested too deeply")


def _checked(path: Path, values: Any) -> dict[str, Any]:
    """Checks that all values are plain: no dates, which YAML allows, and no integers too large for 64 bits."""
    if not isinstance(values, dict):
        raise Unreadable(path, f"it holds {'nothing' if values is None else 'no keys and values'}")
    _check_values(path, values, "", 0)
    return values


def _check_values(path: Path, value: Any, key: str, depth: int) -> None:
    if depth > DEEPEST:
        raise Unreadable(path, "it is nested too deeply")
    if isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise Unreadable(path, f"its key {name!r} is no text")
            _check_values(path, item, f"{key}.{name}" if key else name, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_values(path, item, key, depth + 1)
    elif not (value is None or isinstance(value, str | float) or (isinstance(value, int) and abs(value) < LARGEST)):
        raise Unreadable(path, f"{key} has a value that no run has")
