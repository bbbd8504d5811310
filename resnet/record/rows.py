"""Reads the rows of metrics.csv one by one and checks each. A checkpoint knows the rows by their checksum. Imports no torch."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from resnet.record.reading import Unreadable, bounded_text

MOST_BYTES = 256 * 2**20

Row = dict[str, float | None]


class RowSum:
    """Counts rows and computes a checksum of their values. Blank cells do not count, so that columns may be added later."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = hashlib.sha256()

    def add(self, row: Mapping[str, float | None]) -> None:
        values = sorted((key, float(value)) for key, value in row.items() if value is not None)
        self._sum.update(json.dumps(values).encode())
        self.count += 1

    @property
    def known(self) -> dict[str, Any]:
        """What a checkpoint stores."""
        return {"count": self.count, "sha256": self._sum.hexdigest()}


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """Yields rows with cells as text; each cell is a number or blank. A last line without a newline is still being written and is skipped.

    Raises:
        Unreadable: at the first line that is not a row of the table.
    """
    text = bounded_text(path, MOST_BYTES, errors="surrogateescape")
    lines = csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    try:
        header = next(lines, [])
        if "step" not in header or len(set(header)) < len(header):
            raise Unreadable(path, "its first line is no header with a column step")
        for cells in filter(None, lines):
            if len(cells) != len(header):
                raise Unreadable(path, f"line {lines.line_num} has {len(cells)} cells, where the header has {len(header)}")
            row = dict(zip(header, cells, strict=True))
            _check(path, row, lines.line_num)
            yield row
    except csv.Error as error:
        raise Unreadable(path, f"line {lines.line_num}: {error}") from None


def _check(path: Path, row: Mapping[str, str], line: int) -> None:
    if not (row["step"].isascii() and row["step"].isdigit() and len(row["step"]) < 16):
        raise Unreadable(path, f"line {line}: step={row['step'][:40]} is no whole number")
    for key, cell in row.items():
        try:
            float(cell or 0)
        except ValueError:
            raise Unreadable(path, f"line {line}: {key}={cell[:40]} is no number") from None


def as_numbers(row: Mapping[str, str]) -> Row:
    return {key: float(cell) if cell else None for key, cell in row.items()}
