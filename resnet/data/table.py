"""Reads a table of pictures (CSV or TSV): their paths, labels and, if it has them, groups and parts."""

import csv
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from resnet.data.errors import DataError
from resnet.data.listing import MOST_NAMED, Listing, Picture, counted_of, named, one_form, part_named
from resnet.plain import plain

COLUMNS: Mapping[str, Sequence[str]] = {
    "path": ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "img"),
    "label": ("label", "class", "class_name", "category", "target"),
    "group": ("group", "patient", "patient_id", "subject", "subject_id", "session", "burst"),
    "part": ("split", "part", "subset"),
}


TABLES = (".csv", ".tsv")


def list_table(file: Path, skip_missing: bool) -> Listing:
    """Paths are relative to the table's folder. Raises DataError with the first lines that have a mistake."""
    given = f"data.path={file}"
    rows = list(_rows(file, given))
    labels: dict[str, str] = {}
    parts: dict[str, list[Picture]] = {"train": []}
    mistakes, missing, repeated = list[str](), list[Path](), 0
    for line, row in rows:
        name, label = one_form(row["path"]), one_form(row["label"])
        path = _found(file.parent / row["path"])
        part = part_named(row["part"]) if "part" in row else "train"
        if not name or not label or part is None:
            empty = [column for column in ("path", "label") if not row[column]]
            mistakes.append(f"line {line} has no {empty[0]}" if empty else f"line {line}: {row['part'] or 'nothing'} for a part")
        elif name in labels:
            repeated += 1
            if labels[name] != label:
                mistakes.append(f"line {line}: {name} is {label}, and {labels[name]} before")
        elif path is None:
            missing.append(file.parent / row["path"])
        else:
            labels[name] = label
            parts.setdefault(part, []).append(Picture(path, name, label, row.get("group") or None))
    if missing and not skip_missing:
        mistakes.append(
            f"{counted_of(len(missing), 'file')} missing: {named(missing, file.parent)} (data.on_bad_file=skip leaves them out)"
        )
    if mistakes:
        more = f" and {len(mistakes) - MOST_NAMED:,} more mistakes" if len(mistakes) > MOST_NAMED else ""
        raise DataError(plain(f"{given}: {'; '.join(mistakes[:MOST_NAMED])}{more}"))
    notes = [f"{counted_of(len(missing), 'file')} of the table missing and left out: {named(missing, file.parent)}"] if missing else []
    notes += [f"{repeated:,} lines name a picture again, and count once"] if repeated else []
    return Listing(parts, _classes(given, parts), notes)


def _rows(file: Path, given: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the line number and the values of each row under our names of its columns."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{given}: cannot be read ({getattr(error, 'strerror', None) or 'it is no UTF-8 text'})") from None
    lines = text.splitlines()
    delimiter = max(",;\t", key=(lines[0] if lines else "").count)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header = [name.strip() for name in next(reader, [])]
    chosen = {}
    for column, names in COLUMNS.items():
        found = [name for name in header if name.casefold() in names]
        if len(found) > 1 or (not found and column in ("path", "label")):
            wrong = f"{' and '.join(found)} could both be the {column}" if found else f"no column for the {column} ({', '.join(names)})"
            raise DataError(plain(f"{given}: {wrong}; its first line has {', '.join(header) or 'nothing'}"))
        if found:
            chosen[column] = header.index(found[0])
    try:
        for row in reader:
            if any(row):
                yield reader.line_num, {column: row[index].strip() if index < len(row) else "" for column, index in chosen.items()}
    except csv.Error as error:
        raise DataError(f"{given}: line {reader.line_num} cannot be read ({error})") from None


def _found(path: Path) -> Path | None:
    """Returns the path in the Unicode form that the file has, or None if there is no such file."""
    forms = (str(path), unicodedata.normalize("NFC", str(path)), unicodedata.normalize("NFD", str(path)))
    return next((Path(form) for form in forms if os.path.isfile(form)), None)


def _classes(given: str, parts: Mapping[str, Sequence[Picture]]) -> list[str]:
    classes = {picture.label for picture in parts["train"]}
    if len(classes) < 2:
        raise DataError(f"{given}: {counted_of(len(classes), 'class', 'classes')} among the training pictures; at least two are needed")
    for part, pictures in parts.items():
        if unknown := sorted({picture.label for picture in pictures} - classes):
            raise DataError(plain(f"{given}: {part} has the class {unknown[0]}, which the training pictures lack"))
    are_numbers = all(label.isdecimal() for label in classes)
    return sorted(classes, key=lambda label: (int(label), label)) if are_numbers else sorted(classes)
