"""Pictures decoded once: all images of a data set in one file under the user's cache folder, mapped into memory."""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from resnet.data.errors import DataError
from resnet.data.files import Mapped, OnDemand
from resnet.data.form import Form
from resnet.data.places import cache_folder
from resnet.data.progress import shown

VERSION = 1  # of the pixels that a picture gives; raise it when they change
AT_ONCE = 512  # pictures that wait for a thread
BETWEEN_NOTES = 4096  # pictures after which it is noted what is done, so that an interrupted run goes on from there
IN_MEMORY = 2**26  # bytes of a set that is read as a whole; copies of larger ones would take as long as a quarter of the decoding
SPARE = 0.05  # of a disk that stays free
Bad = dict[int, str]  # why pictures cannot be read, by their numbers
Read = Callable[[int], Tensor]


def decode_all(pictures: OnDemand, digests: Sequence[bytes], form: Form, cache_gb: float) -> tuple[Tensor | OnDemand, Bad]:
    """Decodes all pictures on all cores, or finds them decoded by an earlier run.

    Args:
        digests: sha256 of each picture as it is stored.
        cache_gb: the most gigabytes that all decoded sets may take together. The sets that were not used for longest make room.

    Returns:
        The images: in memory if they are few, else read from the cache when needed, or decoded each time if the cache has no room.
        Why pictures cannot be read; their images are black.
    """
    name = hashlib.sha256(b"".join(digests) + repr((VERSION, form)).encode()).hexdigest()[:32]
    shape = len(pictures), *form.size, form.channels
    try:
        folder = _folder()
        with FileLock(folder / f"{name}.lock"):  # of several jobs or processes, one decodes with all cores
            file = folder / f"{name}.uint8"
            size = math.prod(shape)
            is_there = file.is_file() and file.stat().st_size == size
            if 0 < size <= cache_gb * 1e9 and (is_there or _reserve(file, size, cache_gb)):
                return _images(file, shape, pictures.decode)
            return pictures, _decode(folder / f"{name}.json", len(pictures), pictures.decode, None)
    except OSError:  # no home, or no right to write there
        return pictures, dict(_failures(pictures.decode, range(len(pictures))))


def _images(file: Path, shape: tuple[int, ...], read: Read) -> tuple[Tensor | OnDemand, Bad]:
    bad = _decode(file.with_suffix(".json"), shape[0], read, np.memmap(file, np.uint8, "r+", shape=shape))
    os.utime(file)
    mapped = torch.from_numpy(np.memmap(file, np.uint8, "c", shape=shape)).permute(0, 3, 1, 2)  # copy on write: the file stays as it is
    return mapped.clone() if mapped.nbytes <= IN_MEMORY else Mapped(mapped, torch.arange(len(mapped))), bad


def _decode(note: Path, number: int, read: Read, pixels: NDArray[np.uint8] | None) -> Bad:
    """Decodes what the note says is not done yet. Bad pictures are tried again: what they lacked may be installed now."""
    done, bad = _noted(note)
    rows = chain(list(bad), range(done, number))
    total = len(bad) + number - done
    for count, (row, result) in enumerate(read_all(read, rows, "decoding pictures", total), 1):
        if isinstance(result, str):
            bad[row] = result
        else:
            bad.pop(row, None)
            if pixels is not None:
                pixels[row] = result.permute(1, 2, 0).numpy()
        done = max(done, row + 1)
        if count % BETWEEN_NOTES == 0 or count == total:
            if isinstance(pixels, np.memmap):
                pixels.flush()
            note.write_text(json.dumps({"done": done, "bad": bad}), "utf-8")
    return bad


def _noted(note: Path) -> tuple[int, Bad]:
    try:
        content = json.loads(note.read_text("utf-8"))
        return int(content["done"]), {int(row): str(reason) for row, reason in content["bad"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0, {}


def _failures(read: Read, rows: Sequence[int]) -> Iterator[tuple[int, str]]:
    for row, result in read_all(read, rows, "trying pictures"):
        if isinstance(result, str):
            yield row, result


def read_all(read: Read, rows: Iterable[int], text: str, total: int | None = None) -> Iterator[tuple[int, Tensor | str]]:
    """Yields the image of each row in order, or why it cannot be read, and shows how far it is. Decoders release Python's lock, so threads
    use all cores.
    """
    return shown(_results(read, iter(rows)), len(rows) if isinstance(rows, Sequence) else total or 0, text)


def _results(read: Read, left: Iterator[int]) -> Iterator[tuple[int, Tensor | str]]:

    def attempt(row: int) -> tuple[int, Tensor | str]:
        try:
            return row, read(row)
        except DataError as error:
            return row, str(error)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        while chunk := list(islice(left, AT_ONCE)):
            yield from threads.map(attempt, chunk)


def _folder() -> Path:
    """Raises OSError if there can be none."""
    cache = cache_folder()
    if cache is None:
        raise FileNotFoundError("no home")
    (cache / "images").mkdir(parents=True, exist_ok=True)
    return cache / "images"


def _reserve(file: Path, size: int, cache_gb: float) -> bool:
    """Makes a file of `size` bytes if the cache and the disk have room for it. Its note begins anew."""
    others = sorted((kept for kept in file.parent.glob("*.uint8") if kept != file), key=lambda kept: kept.stat().st_mtime)
    while others and sum(kept.stat().st_size for kept in others) + size > cache_gb * 1e9:
        _remove(others.pop(0))
    disk = shutil.disk_usage(file.parent)
    if disk.free - size < SPARE * disk.total:
        return False
    file.with_suffix(".json").unlink(missing_ok=True)
    try:
        with file.open("wb") as made:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(made.fileno(), 0, size)  # a write into a mapped file that the disk has no room for kills the process
            else:
                made.truncate(size)
    except OSError:
        _remove(file)
        return False
    return True


def cached_bytes(number: int, form: Form) -> int:
    """Returns the bytes that the decoded images of a set take."""
    return number * math.prod(form.size) * form.channels


def _remove(kept: Path) -> None:
    for file in (kept, kept.with_suffix(".json")):
        with suppress(OSError):
            file.unlink()
