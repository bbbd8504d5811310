"""The pictures of a Parquet file: a column of encoded pictures and one of labels, as Hugging Face writes them."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from resnet.data.errors import DataError
from resnet.data.spans import Index

AT_ONCE = 256  # rows
Row = tuple[str, str, int, int, bytes]


def parquet_index(file: Path, to: Path, image_column: str, label_column: str) -> Index:
    """Reads the file once, and writes its pictures to `to`, because those of a Parquet file are packed together. Raises DataError."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DataError("data=parquet: the package pyarrow is not installed; pip install -e '.[datasets]'") from None
    part = to.with_suffix(f".{os.getpid()}.part")
    try:
        with ParquetFile(file) as table:
            names = table.schema_arrow.names
            if missing := [column for column in (image_column, label_column) if column not in names]:
                raise DataError(f"{file}: no column {missing[0]}; it has {', '.join(names)} (data.image_column, data.label_column)")
            classes = _class_names(table.schema_arrow.metadata or {}, label_column)
            with part.open("wb") as made:
                rows = list(_rows(file, table.iter_batches(AT_ONCE, columns=[image_column, label_column]), made))
        part.replace(to)
    except ArrowException as error:
        raise DataError(f"{file}: truncated, corrupt or no Parquet file ({str(error).splitlines()[0][:200]})") from None
    finally:
        part.unlink(missing_ok=True)
    return Index.of(rows, classes)


def _rows(file: Path, batches: Iterator[Any], made: IO[bytes]) -> Iterator[Row]:
    row = start = 0
    for batch in batches:
        for image, label in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            content, path = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (image, None)
            if not isinstance(content, bytes) or not isinstance(label, str | int):
                raise DataError(
                    f"{file}: row {row} has {_told(content)} for a picture and {_told(label)} for a label; bytes and a class are needed"
                )
            made.write(content)
            yield path or f"row {row}", str(label), start, len(content), hashlib.sha256(content).digest()
            start += len(content)
            row += 1


def _told(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__


def _class_names(metadata: dict[bytes, bytes], column: str) -> list[str]:
    """Returns the names that Hugging Face notes in the file's schema."""
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][column]
        return [str(name) for name in feature["names"]]
    except (KeyError, TypeError, ValueError):
        return []
