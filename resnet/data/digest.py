"""sha256 of each split, from its images and labels, whatever their names and paths. Unchanged files are not read twice."""

import hashlib
import json
import sqlite3
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from torch import Tensor

from resnet.data.errors import DataError
from resnet.data.places import cache_folder
from resnet.data.sources import Split

SETTLED = 2.0  # seconds; a file that changed more recently could change again with the same time stamp
MOST_FILES = 2_000_000  # files in the cache; the latest ones are kept
AT_ONCE = 1000  # images made contiguous together
THREADS = 8  # files read at once; hashing releases Python's lock


def data_digests(splits: Mapping[str, Split | None], classes: Sequence[str]) -> dict[str, str]:
    """Returns the digest of each existing split, in order, and of the class names."""
    found = {name: _split_digest(split) for name, split in splits.items() if split is not None}
    return {**found, "classes": hashlib.sha256(json.dumps(list(classes)).encode()).hexdigest()}


def whole(digests: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _split_digest(split: Split) -> str:
    hasher = hashlib.sha256(json.dumps(list(split.images.shape)).encode())
    hasher.update(split.labels.numpy().astype("<i8").tobytes())
    if split.origins is not None:  # the files themselves: decoders may round differently
        hasher.update(b"".join(split.origins.digests))
    else:
        for images in split.images.split(AT_ONCE) if isinstance(split.images, Tensor) else map(split.images.decode, range(len(split))):
            hasher.update(images.contiguous().numpy().reshape(-1).data)
    return hasher.hexdigest()


def file_digests(paths: Sequence[Path]) -> list[bytes]:
    """Returns the sha256 of each file. Raises DataError if one cannot be read."""
    digests, bad = readable_digests(paths)
    if bad:
        raise DataError(next(iter(bad.values())))
    return digests


def readable_digests(paths: Sequence[Path]) -> tuple[list[bytes], dict[int, str]]:
    """Returns the sha256 of each file, and why files cannot be read, by their numbers; they get an empty digest. A file whose size and
    times are unchanged since an earlier call is not read again.
    """
    states, bad = dict[Path, tuple[str, float]](), dict[Path, str]()
    for path in paths:
        try:
            states[path] = file_state(path)
        except DataError as error:
            bad[path] = str(error)
    known = _recall(states)
    unknown = [path for path in states if path not in known]
    with ThreadPoolExecutor(THREADS) as readers:
        results = dict(zip(unknown, readers.map(_try_digest, unknown), strict=True))
    bad |= {path: result for path, result in results.items() if isinstance(result, str)}
    read = {path: result for path, result in results.items() if isinstance(result, bytes)}
    _remember({path: (states[path][0], digest) for path, digest in read.items() if states[path][1] < time.time() - SETTLED})
    found = known | read
    return [found.get(path, b"") for path in paths], {number: bad[path] for number, path in enumerate(paths) if path in bad}


def _try_digest(path: Path) -> bytes | str:
    try:
        return _read_digest(path)
    except DataError as error:
        return str(error)


def file_state(path: Path) -> tuple[str, float]:
    """Returns, as text, what changes with a file's content, and the time of its latest change."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would block forever
        raise DataError(f"{path}: cannot be read (no regular file)")
    state = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
    return state, max(status.st_mtime, status.st_ctime)


def _read_digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _recall(states: Mapping[Path, tuple[str, float]]) -> dict[Path, bytes]:
    found = {}
    with _cache() as cache:
        for path, (state, _) in states.items():
            row = cache.execute("SELECT sha256 FROM digests WHERE path = ? AND state = ?", (str(path.absolute()), state)).fetchone()
            if row and isinstance(row[0], bytes) and len(row[0]) == hashlib.sha256().digest_size:
                found[path] = row[0]
    return found


def _remember(digests: Mapping[Path, tuple[str, bytes]]) -> None:
    if not digests:
        return
    with _cache() as cache, cache:
        rows = [(str(path.absolute()), state, digest) for path, (state, digest) in digests.items()]
        cache.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", rows)
        cache.execute("DELETE FROM digests WHERE rowid <= (SELECT max(rowid) FROM digests) - ?", (MOST_FILES,))


@contextmanager
def _cache() -> Iterator[sqlite3.Connection]:
    """Opens the user's table of digests. If it cannot be used, opens an empty one in memory; only speed depends on the table."""
    file = _file()
    try:
        cache = _opened(file)
    except (OSError, sqlite3.Error) as error:
        _remove_damaged(file, error)
        cache = _opened(":memory:")
    with closing(cache):
        try:
            yield cache
        except sqlite3.Error as error:
            _remove_damaged(file, error)


def _file() -> str | Path:
    folder = cache_folder()
    if folder is None:
        return ":memory:"
    file = folder / "digests.sqlite"
    return file if file.is_file() or not file.exists() else ":memory:"


def _opened(file: str | Path) -> sqlite3.Connection:
    if isinstance(file, Path):
        file.parent.mkdir(parents=True, exist_ok=True)
    cache = sqlite3.connect(file, timeout=5)
    try:
        cache.execute("CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, state TEXT, sha256 BLOB)")
    except sqlite3.Error:
        cache.close()
        raise
    return cache


def _remove_damaged(file: str | Path, error: Exception) -> None:
    """Deletes a damaged cache. A locked cache or a full disk is an OperationalError, and the file stays."""
    if isinstance(file, Path) and isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        with suppress(OSError):
            file.unlink()
