"""Data sets in shards, which outgrow folders: WebDataset's tar files and Parquet files, in the order and the parts of their names."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from resnet.data.array_labels import Array, numbered
from resnet.data.encoded import Encoded, decoded_source
from resnet.data.errors import DataError, told_of
from resnet.data.origins import Origins
from resnet.data.parquet import parquet_index
from resnet.data.pictures import encoded_size
from resnet.data.progress import shown
from resnet.data.shard_files import shards_by_part
from resnet.data.sources import Source
from resnet.data.spans import Index, Spans, Stored, kept_index
from resnet.data.tars import tar_index

THREADS = 8  # shards read at once; hashing releases Python's lock
Indexed = tuple[Index, Path]  # and the file that the pictures are read from


def webdataset(
    path: str,
    image_size: int | list[int] | None,
    channels: int,
    fit: str,
    on_bad_file: str,
    cache_gb: float,
    classes: list[str] | None = None,
) -> Source:
    """Tar files with a picture and a label for each key: 000123.jpg with 000123.cls or .json; or pictures in folders that name their class.

    Args:
        path: their folder, or a pattern such as shards/{train,val}-{000..009}.tar.
        classes: the names of labels that are numbers from 0; None: the values of the labels.
    """
    parts = shards_by_part(path, ".tar")

    def index(file: Path) -> Indexed:
        return kept_index(file, "tar", lambda _: tar_index(file))[0], file

    return decoded_source(f"data.path={path}", _encoded(path, parts, index, classes), image_size, channels, fit, on_bad_file, cache_gb)


def parquet(
    path: str,
    image_size: int | list[int] | None,
    channels: int,
    fit: str,
    on_bad_file: str,
    cache_gb: float,
    image_column: str = "image",
    label_column: str = "label",
    classes: list[str] | None = None,
) -> Source:
    """Parquet files with a column of encoded pictures, as Hugging Face writes them, and one of labels.

    The pictures are copied once into the user's cache folder, from which each can be read on its own.

    Args:
        path: their folder, or a pattern such as data/train-*.parquet.
        classes: the names of labels that are numbers from 0; None: those in the files, else the values of the labels.
    """
    parts = shards_by_part(path, ".parquet")

    def index(file: Path) -> Indexed:
        kind = f"parquet {image_column} {label_column}"
        return kept_index(file, kind, lambda to: parquet_index(file, to, image_column, label_column), copies=True)

    return decoded_source(f"data.path={path}", _encoded(path, parts, index, classes), image_size, channels, fit, on_bad_file, cache_gb)


def _encoded(path: str, parts: Mapping[str, Sequence[Path]], index: Callable[[Path], Indexed], classes: list[str] | None) -> Encoded:
    files = [file for those in parts.values() for file in those]
    with ThreadPoolExecutor(THREADS) as threads:
        found = dict(zip(files, shown(threads.map(index, files), len(files), "indexing shards"), strict=True))
    indexes = {part: [found[file][0] for file in those] for part, those in parts.items()}
    if empty := [part for part, those in indexes.items() if not sum(len(one.names) for one in those)]:
        raise DataError(f"data.path={path}: no pictures in {parts[empty[0]][0]}" + " and the others" * (len(parts[empty[0]]) > 1))
    own_names = [one.classes.tolist() for those in indexes.values() for one in those]
    with told_of(f"data.path={path}: "):
        labels, names, notes = numbered(_labels(indexes), classes or own_names[0] or None)
    places = [np.stack([np.full_like(one.starts, row), one.starts, one.sizes], 1) for row, (one, _) in enumerate(found.values())]
    shown_names = np.array([f"{file}/{name}" for file in files for name in found[file][0].names.tolist()])
    if copied := sum(int(one.sizes.sum()) for one, kept in found.values() if kept not in found):
        notes = [*notes, f"the pictures are copied into {next(iter(found.values()))[1].parent}: {copied / 1e9:.1f} GB"]
    stored = Stored([kept for _, kept in found.values()], np.concatenate(places), shown_names)
    return Encoded(
        parts={part: _origins(those, indexes[part]) for part, those in parts.items()},
        labels=np.concatenate([labels[part] for part in parts]).tolist(),
        classes=names,
        size_of=lambda row: encoded_size(stored.content(row), str(shown_names[row])),
        on_demand=lambda form: Spans(stored, form),
        bad={},
        notes=notes,
    )


def _labels(indexes: Mapping[str, Sequence[Index]]) -> dict[str, Array]:
    """Returns the labels of each part: numbers if all are."""
    texts = {part: np.concatenate([one.labels for one in those]) for part, those in indexes.items()}
    are_numbers = all((np.char.isdecimal(labels) & (np.char.str_len(labels) < 19)).all() for labels in texts.values())
    return {part: labels.astype(np.int64) if are_numbers else labels for part, labels in texts.items()}


def _origins(files: Sequence[Path], indexes: Sequence[Index]) -> Origins:
    pairs = [(file, name) for file, one in zip(files, indexes, strict=True) for name in one.names.tolist()]
    digests = [digest.tobytes() for one in indexes for digest in one.digests]
    return Origins([file / name for file, name in pairs], [name for _, name in pairs], digests)
