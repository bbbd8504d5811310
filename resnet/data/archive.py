"""Named arrays on disk: an .npz file, or .npy files beside each other. Sizes are checked before memory is allocated."""

import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from resnet.data.downloads import one_line
from resnet.data.errors import DataError

MOST_UNZIPPED, BOMB = 200, 2**30  # from BOMB bytes on, the most bytes unzipped from one; pictures do not compress so well
Array = NDArray[Any]


class Archive:
    """The arrays under their names. `given` begins each message: the key and the path.

    Raises:
        DataError: also from `read`. Pickled objects are refused without being loaded.
    """

    def __init__(self, path: Path, given: str) -> None:
        self.path, self.given = path, given
        self.in_folder = path.is_dir() or path.suffix.lower() == ".npy"
        self.names = self._told(self._list)

    def read(self, name: str) -> Array:
        return self._told(lambda: self._read_file(name) if self.in_folder else self._read_member(name))

    def _told(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except DataError:
            raise
        except Exception as error:  # zip, its decompressors and NumPy's headers raise different errors
            kind = ".npy" if self.in_folder else ".npz"
            raise DataError(f"{self.given}: truncated, corrupt or not an {kind} file of plain arrays ({one_line(error)[:200]})") from None

    @property
    def _folder(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent

    def _list(self) -> list[str]:
        if self.path.is_dir():
            return sorted(file.stem for file in self.path.glob("*.npy"))
        if not os.path.isfile(self.path):  # opening a pipe would block forever
            reason = "no regular file" if os.path.exists(self.path) else "no such file"
            raise DataError(f"{self.given}: {reason}; give the .npz file with x_train, y_train, x_test, y_test")
        if self.in_folder:
            return sorted(file.stem for file in self._folder.glob("*.npy"))
        with zipfile.ZipFile(self.path) as archive:
            return [info.filename.removesuffix(".npy") for info in archive.infolist()]

    def _read_file(self, name: str) -> Array:
        path = self._folder / f"{name}.npy"
        if not os.path.isfile(path):
            raise DataError(f"{path}: no regular file; take it away")
        with path.open("rb") as file:
            _check_header(name, file, path.stat().st_size)
            file.seek(0)
            return np.load(file, allow_pickle=False)

    def _read_member(self, name: str) -> Array:
        with zipfile.ZipFile(self.path) as archive:
            info = archive.getinfo(f"{name}.npy")
            if info.file_size > max(MOST_UNZIPPED * info.compress_size, BOMB):
                raise ValueError(f"{name} claims {info.file_size:,} bytes, zipped into {info.compress_size:,}")
            with archive.open(info) as member:
                _check_header(name, member, info.file_size)
            with archive.open(info) as member:
                return np.lib.format.read_array(member, allow_pickle=False)


def _check_header(name: str, file: IO[bytes], size: int) -> None:
    """A header of a few bytes can claim any number of values, and a few zipped bytes can hold as many zeros."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    except Exception:  # NumPy parses the header as Python, and for a long one advises to trust the file
        raise ValueError(f"{name} has no header that NumPy can read safely") from None
    if dtype.hasobject:
        raise ValueError(f"{name} holds pickled Python objects, which could run code; save numbers, or texts of dtype str")
    if math.prod(shape) * dtype.itemsize > (held := size - file.tell()):
        raise ValueError(f"{name} claims to be of shape {shape}, and holds {held:,} bytes")
