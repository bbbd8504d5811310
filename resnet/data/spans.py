"""Pictures that stand one after another in larger files: where each begins, which is found out once, and how they are read on demand."""

import hashlib
import os
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from resnet.data.digest import SETTLED, file_state
from resnet.data.errors import DataError
from resnet.data.form import Form
from resnet.data.pictures import read_encoded
from resnet.data.places import cache_folder

VERSION = 1  # of an index
Numbers = NDArray[np.int64]
Texts = NDArray[np.str_]


@dataclass(frozen=True)
class Index:
    """The pictures of a file in their order, with their labels as text."""

    names: Texts
    labels: Texts
    starts: Numbers
    sizes: Numbers
    digests: NDArray[np.uint8]  # (N, 32), sha256
    classes: Texts  # the names of labels that are numbers, if the file gives them

    @classmethod
    def of(cls, rows: Sequence[tuple[str, str, int, int, bytes]], classes: Sequence[str] = ()) -> "Index":
        names, labels, starts, sizes, digests = zip(*rows, strict=True) if rows else [()] * 5
        return cls(
            np.array(names, dtype=str),
            np.array(labels, dtype=str),
            np.array(starts, dtype=np.int64),
            np.array(sizes, dtype=np.int64),
            np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32),
            np.array(classes, dtype=str),
        )


def kept_index(file: Path, kind: str, make: Callable[[Path], Index], copies: bool = False) -> tuple[Index, Path]:
    """Returns the index of a file, and the path beside it in the user's cache folder. An unchanged file is not read again.

    Args:
        make: reads the file; gets the path.
        copies: `make` writes the pictures to the path, because they cannot be read from the file one by one.
    """
    state, changed = file_state(file)
    place = cache_folder()
    if place is None:
        raise DataError(f"{file}: there is no folder to keep its index; set XDG_CACHE_HOME")
    kept = place / "indexes" / f"{hashlib.sha256(f'{kind} {VERSION} {file.absolute()} {state}'.encode()).hexdigest()[:32]}.npz"
    beside = kept.with_suffix(".bytes")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(kept.with_suffix(".lock")):  # of several processes, one makes it
            if (index := _load(kept)) is not None and (beside.is_file() or not copies):
                return index, beside
            index = make(beside)
            if copies or changed < time.time() - SETTLED:
                _save(kept, index)
            return index, beside
    except OSError as error:
        raise DataError(f"{error.filename or file}: cannot be read or written ({error.strerror or error})") from None


def _load(kept: Path) -> Index | None:
    try:
        with np.load(kept, allow_pickle=False) as found:
            return Index(**found)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def _save(kept: Path, index: Index) -> None:
    part = kept.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as made:
        np.savez(made, **vars(index))
    part.replace(kept)


@dataclass(frozen=True)
class Stored:
    """Encoded pictures in larger files. `places`: (N, 3), the number of the file, first byte, bytes. `names` are for messages."""

    files: Sequence[Path]
    places: Numbers
    names: Texts

    def content(self, index: int) -> bytes:
        number, start, size = self.places[index].tolist()
        try:
            with self.files[number].open("rb") as file:
                file.seek(start)
                return file.read(size)
        except OSError as error:
            raise DataError(f"{self.files[number]}: cannot be read ({error.strerror})") from None


class Spans:
    """Stored pictures, decoded each time."""

    def __init__(self, stored: Stored, form: Form) -> None:
        self.stored, self.form = stored, form

    def __len__(self) -> int:
        return len(self.stored.places)

    def __getitem__(self, indices: Tensor) -> "Spans":
        chosen = indices.numpy()
        return Spans(Stored(self.stored.files, self.stored.places[chosen], self.stored.names[chosen]), self.form)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), self.form.channels, *self.form.size

    def decode(self, index: int) -> Tensor:
        return read_encoded(self.stored.content(index), str(self.stored.names[index]), self.form)
