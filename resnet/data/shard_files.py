"""Finds the shards of a data set and the part of each: a folder, a file, a pattern such as train-{000..009}.tar, or several in braces."""

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from resnet.data.errors import DataError
from resnet.data.listing import PARTS, part_named

BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")


def shards_by_part(path: str, suffix: str) -> dict[str, list[Path]]:
    """Returns the files of each part, train first. A shard without the name of a part in its own or its folder's name is for training."""
    given = f"data.path={path}"
    files = [file for pattern in expanded(path) for file in _matching(pattern, suffix)]
    if absent := [file for file in files if not file.is_file()]:
        raise DataError(f"{given}: {absent[0]}: {'no regular file' if os.path.exists(absent[0]) else 'no such file'}")
    if not files:
        raise DataError(f"{given}: no {suffix} files there; give their folder, or a pattern such as train-{{000..009}}{suffix}")
    parts: dict[str | None, list[Path]] = {}
    for file in dict.fromkeys(files):
        parts.setdefault(_part_of(file), []).append(file)
    if None in parts and len(parts) > 1:
        raise DataError(f"{given}: {parts[None][0]} has none of {', '.join(PARTS)} in its name, and others have; rename it")
    found = {part or "train": those for part, those in parts.items()}
    if "train" not in found:
        raise DataError(f"{given}: {', '.join(map(str, found))} but no train in the name of any file")
    return {part: found[part] for part in PARTS if part in found}


def expanded(pattern: str) -> Iterator[str]:
    """Yields the texts that braces stand for, as in a shell: {000..009} and {train,val}."""
    braces = BRACES.search(pattern)
    if braces is None:
        yield pattern
        return
    bounds = RANGE.fullmatch(braces[1])
    if bounds:
        choices = [str(number).zfill(len(bounds[1])) for number in range(int(bounds[1]), int(bounds[2]) + 1)]
    else:
        choices = braces[1].split(",")
    for choice in choices:
        yield from expanded(pattern[: braces.start()] + choice + pattern[braces.end() :])


def _matching(pattern: str, suffix: str) -> list[Path]:
    if os.path.isdir(pattern):
        return sorted(file for file in Path(pattern).rglob(f"*{suffix}") if not file.name.startswith("."))
    return sorted(map(Path, glob.glob(pattern))) if glob.has_magic(pattern) and not os.path.exists(pattern) else [Path(pattern)]


def _part_of(file: Path) -> str | None:
    words = [*reversed(re.split(r"[^a-z0-9]+|(?<=[a-z])(?=\d)", file.stem.lower())), file.parent.name.lower()]
    return next((part for word in words if (part := part_named(word))), None)
