"""Finds the pictures of a folder, their classes and their parts, whatever the layout. Each file is used, or named and counted as left out.

Layouts: class folders; train, val and test folders of class folders, under all their usual names; either of them inside a single folder.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from resnet.data.errors import DataError
from resnet.data.pictures import is_picture_name
from resnet.plain import CONTROL, plain

PARTS: Mapping[str, Sequence[str]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
OF_PROGRAMS = ("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found")  # folders; hidden ones begin with a dot
MOST_NAMED = 3


@dataclass(frozen=True)
class Picture:
    path: Path
    name: str  # relative to the data folder, with / and in one Unicode form
    label: str
    group: str | None = None


@dataclass
class Listing:
    """Pictures by part: train and, if there are, val and test. `classes` are in the order of their labels."""

    parts: dict[str, list[Picture]]
    classes: list[str]
    notes: list[str] = field(default_factory=list)


def list_folder(given: Path) -> Listing:
    """Raises DataError if the layout is not clear."""
    root, left_out = _unwrapped(given), LeftOut(given)
    notes = [f"{given}: its only folder, {root.relative_to(given)}, is read"] if root != given else []
    parts = _part_folders(root, left_out)
    found = {part: _list_part(folder, root, left_out) for part, folder in parts.items()}
    classes = sorted({picture.label for picture in found["train"]} | set(_class_folders(parts["train"])))
    _check_classes(root, parts, found, classes)
    return Listing(found, classes, [*notes, *_inner_folders(found, parts), *left_out.notes()])


def list_labelled(given: Path, classes: Sequence[str]) -> list[Picture]:
    """Lists the test pictures, or all of a folder without parts, of a model's classes. Raises DataError for any other class."""
    root = _unwrapped(given)
    parts = {part_named(folder.name): folder for folder in visible_folders(root)}
    folder = parts.get("test", root)
    there = _class_folders(folder)
    if not set(classes) & set(there):
        raise DataError(f"{folder}: it has none of the model's classes as folders; they are {', '.join(classes)}")
    if other := sorted(set(there) - set(classes)):
        raise DataError(f"{folder / other[0]}: a class that the model does not know; it knows {', '.join(classes)}")
    found = _list_part(folder, root, LeftOut(given))
    if not found:
        raise DataError(f"{folder}: no pictures in the folders of its classes")
    return found


def part_named(name: str) -> str | None:
    return next((part for part, names in PARTS.items() if name.casefold() in names), None)


def visible_folders(folder: Path) -> list[Path]:
    """Returns the subfolders, sorted by name, without those that belong to other programs."""
    found = sorted((entry for entry in _entries(folder) if entry.is_dir() and not _is_of_a_program(entry.name)), key=lambda one: one.name)
    if odd := [entry.name for entry in found if CONTROL.search(entry.name)]:
        raise DataError(f"{folder / odd[0]}: control characters in the name of a class; rename the folder")
    return [Path(entry.path) for entry in found]


def pictures_in(folder: Path, left_out: "LeftOut") -> list[Path]:
    """Returns the pictures in a folder and its subfolders, sorted by name. Follows links, but no folder into itself."""
    found = list[Path]()
    top = Path(os.path.realpath(folder))
    inside = {folder: {str(top), *map(str, top.parents)}}  # each folder, and what it and its parents really are
    for place, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        above = inside[Path(place)]
        for name in list(folders):
            real = os.path.realpath(os.path.join(place, name))
            if _is_of_a_program(name) or real in above:
                folders.remove(name)
            inside[Path(place, name)] = {*above, real}
        for name in names:
            if is_picture_name(Path(name)) and not name.startswith("."):
                found.append(Path(place, name))
            else:
                left_out.add(Path(place, name))
    return sorted(found)


class LeftOut:
    """Counts the files that are no pictures. Files of other programs, which are hidden, are not worth a word."""

    def __init__(self, root: Path) -> None:
        self.root, self.files = root, list[Path]()

    def add(self, file: Path) -> None:
        if not file.name.startswith(".") and file.name.casefold() not in ("thumbs.db", "desktop.ini"):
            self.files.append(file)

    def notes(self) -> list[str]:
        if not self.files:
            return []
        kinds = Counter(file.suffix.lower() or "no suffix" for file in self.files)
        counted = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common(MOST_NAMED))
        which = counted_of(len(self.files), "file that is no picture", "files that are no pictures")
        return [f"left out: {which} ({counted}): {named(self.files, self.root)}"]


def counted_of(number: int, name: str, names: str = "") -> str:
    """Returns `1 file` or `1,200 files`."""
    return f"{number:,} {name if number == 1 else names or name + 's'}"


def named(paths: Sequence[Path], root: Path) -> str:
    """Names the first few paths, relative to the root."""
    first = [plain(str(path.relative_to(root) if path.is_relative_to(root) else path)) for path in paths[:MOST_NAMED]]
    return ", ".join(first) + (f" and {len(paths) - MOST_NAMED:,} more" if len(paths) > MOST_NAMED else "")


def one_form(name: str) -> str:
    """Returns a name in one Unicode form: macOS writes the same letters in another one than other systems."""
    return unicodedata.normalize("NFC", name)


def _unwrapped(folder: Path) -> Path:
    """Goes down while a folder holds nothing but one other folder that is no part and has folders itself."""
    while True:
        inside = visible_folders(folder)
        has_files = any(entry.is_file() and is_picture_name(Path(entry.name)) for entry in _entries(folder))
        if len(inside) != 1 or has_files or part_named(inside[0].name) or not visible_folders(inside[0]):
            return folder
        folder = inside[0]


def _part_folders(root: Path, left_out: LeftOut) -> dict[str, Path]:
    """Returns the folder of each part; the root itself is train if it has class folders."""
    folders = visible_folders(root)
    by_part: dict[str, list[Path]] = {}
    for folder in folders:
        by_part.setdefault(part_named(folder.name) or "", []).append(folder)
    others = by_part.pop("", [])
    if not by_part or (others and len(by_part) == 1 and not _has_classes(*by_part.values())):  # a class may be called train
        _leave_out_files(root, left_out)
        return {"train": root}
    if twice := [those for those in by_part.values() if len(those) > 1]:
        names = " and ".join(folder.name for folder in twice[0])
        raise DataError(f"data.path={root}: {names} are the same part; keep one of them")
    if "train" not in by_part:
        names = ", ".join(folder.name for folder in folders)
        raise DataError(f"data.path={root}: {names} but no train folder; put the training images into {root / 'train'}")
    if others:
        raise DataError(
            f"data.path={root}: {', '.join(folder.name for folder in others)} beside {' and '.join(sorted(by_part))}: neither a part "
            "nor in one; move it into a part, or away"
        )
    _leave_out_files(root, left_out)
    for (folder,) in by_part.values():
        _leave_out_files(folder, left_out)
    return {part: by_part[part][0] for part in PARTS if part in by_part}


def _has_classes(folders: Sequence[Path]) -> bool:
    return all(len(visible_folders(folder)) > 1 for folder in folders)


def _leave_out_files(folder: Path, left_out: LeftOut) -> None:
    for entry in sorted(_entries(folder), key=lambda one: one.name):
        if not entry.is_dir():
            left_out.add(Path(entry.path))


def _class_folders(folder: Path) -> dict[str, Path]:
    """Returns the class folders by class name."""
    found: dict[str, Path] = {}
    for inside in visible_folders(folder):
        name = one_form(inside.name)
        if name in found:
            raise DataError(f"{inside}: the same name as {found[name]}, in another Unicode form; put them together")
        found[name] = inside
    return found


def _list_part(folder: Path, root: Path, left_out: LeftOut) -> list[Picture]:
    found = list[Picture]()
    for label, inside in _class_folders(folder).items():
        found += [Picture(path, one_form(path.relative_to(root).as_posix()), label) for path in pictures_in(inside, left_out)]
    return found


def _check_classes(root: Path, parts: Mapping[str, Path], found: Mapping[str, list[Picture]], classes: Sequence[str]) -> None:
    train = parts["train"]
    if len(classes) < 2:
        loose = [entry.name for entry in _entries(train) if is_picture_name(Path(entry.name))]
        tables = [entry.name for entry in _entries(root) if entry.name.endswith((".csv", ".tsv"))]
        advice = f"; if {tables[0]} has their labels, give data.path={root / tables[0]}" if tables else ""
        raise DataError(
            f"data.path={train}: {counted_of(len(classes), 'class folder')} and {counted_of(len(loose), 'picture')} inside; at "
            f"least two class folders are needed{advice}"
        )
    filled = {picture.label for picture in found["train"]}
    if empty := [name for name in classes if name not in filled]:
        raise DataError(f"{train / empty[0]}: no pictures; each class needs some")
    for part, folder in parts.items():
        if unknown := sorted({picture.label for picture in found[part]} - set(classes)):
            near = get_close_matches(unknown[0].casefold(), [name.casefold() for name in classes], 1)
            meant = next((name for name in classes if near and name.casefold() == near[0]), None)
            hint = f" (did you mean {meant}?)" if meant else ""
            raise DataError(f"{folder / unknown[0]}: a class that the training images lack{hint}; they have {', '.join(classes)}")


def _inner_folders(found: Mapping[str, list[Picture]], parts: Mapping[str, Path]) -> Iterator[str]:
    """Tells of pictures in folders inside a class folder."""
    for part, pictures in found.items():
        inner = [picture for picture in pictures if len(picture.path.relative_to(parts[part]).parts) > 2]
        if inner:
            first = inner[0].path.parent.relative_to(parts[part])
            yield f"{counted_of(len(inner), 'picture')} in folders inside a class folder, as in {plain(str(first))}, count for that class"


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        _refuse(error)


def _is_of_a_program(name: str) -> bool:
    return name.startswith(".") or name.casefold() in OF_PROGRAMS


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be read ({error.strerror}); make it readable, or take it away")
