"""The user's own pictures, in folders or listed in a table: `data=folder`."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from resnet.data.decoded import cached_bytes, decode_all
from resnet.data.digest import readable_digests
from resnet.data.errors import DataError
from resnet.data.files import ImageFiles, Mapped, OnDemand
from resnet.data.form import Form, Size, as_size, size_text
from resnet.data.listing import Listing, Picture, counted_of, list_folder
from resnet.data.origins import Origins
from resnet.data.pictures import picture_size
from resnet.data.sources import Source, Split
from resnet.data.table import TABLES, list_table

MOST_LISTED = 10  # bad files in a message
SAMPLE = 1000  # pictures whose headers decide the size
LARGEST_OWN = 256  # pixels per side up to which pictures of one size keep it
USUAL = (224, 192, 160, 128, 96, 64, 32)  # pixels per side


def folder(path: str, image_size: int | list[int] | None, channels: int, fit: str, on_bad_file: str, cache_gb: float) -> Source:
    """Pictures in class folders, in train, val and test folders of class folders, or in a table (.csv, .tsv) of paths and labels.

    Args:
        image_size: None: their own size if all have the same small one, else one that suits them; see the notes of the source.
        on_bad_file: stop, or skip pictures that cannot be read.
        cache_gb: the most gigabytes of decoded images that are kept for later runs.
    """
    listing = _listed(Path(path), on_bad_file == "skip")
    notes = list(listing.notes)
    pictures = [(part, picture) for part, those in listing.parts.items() for picture in those]
    paths = [picture.path for _, picture in pictures]
    digests, bad = readable_digests(paths)
    readable = [path for row, path in enumerate(paths) if row not in bad]
    size, told = (as_size(image_size), list[str]()) if image_size else _fitting_size(readable, fit)
    form = Form(size, channels, fit)
    images, undecoded = decode_all(paths, digests, form, cache_gb)
    if bad := {**undecoded, **bad}:
        if on_bad_file == "stop":
            raise DataError(bad_files(f"data.path={path}", bad, len(paths), "mend them, or leave them out with data.on_bad_file=skip"))
        notes.append(f"left out: {counted_of(len(bad), 'file')} that cannot be read: {'; '.join(list(bad.values())[:MOST_LISTED])}")
    good = [row for row in range(len(paths)) if row not in bad]
    splits = _splits(listing, pictures, good, images, digests)
    size_gb = cached_bytes(len(paths), form) / 1e9
    if isinstance(images, Mapped):
        notes.append(f"the decoded images take {size_gb:.1f} GB of the cache, of at most data.cache_gb={cache_gb:g}")
    if isinstance(images, ImageFiles):
        notes.append(
            f"the decoded images take {size_gb:.1f} GB, for which the cache has no room (data.cache_gb={cache_gb:g}, or the disk): each "
            "epoch decodes them again"
        )
    val, test = splits.get("val"), splits.get("test")
    return Source(splits["train"], test, listing.classes, val=val, notes=[*notes, *told], unreadable=list(bad.values()))


def _listed(path: Path, skip_missing: bool) -> Listing:
    if os.path.isdir(path):
        return list_folder(path)
    if os.path.isfile(path) and path.suffix.lower() in TABLES:
        return list_table(path, skip_missing)
    reason = "no .csv or .tsv file" if os.path.isfile(path) else "no such folder"
    raise DataError(f"data.path={path}: {reason}; give the folder with train/, val/ and test/ or with one folder per class, or a table")


def _splits(
    listing: Listing, pictures: Sequence[tuple[str, Picture]], good: Sequence[int], images: Tensor | OnDemand, digests: list[bytes]
) -> dict[str, Split]:
    number = {name: label for label, name in enumerate(listing.classes)}
    splits = {}
    for part in listing.parts:
        rows = [row for row in good if pictures[row][0] == part]
        chosen = [pictures[row][1] for row in rows]
        labels = torch.tensor([number[picture.label] for picture in chosen], dtype=torch.int64)
        groups = [picture.group or picture.name for picture in chosen] if any(picture.group for picture in chosen) else None
        origins = Origins(
            [picture.path for picture in chosen], [picture.name for picture in chosen], [digests[row] for row in rows], groups
        )
        splits[part] = Split(images[torch.tensor(rows, dtype=torch.int64)], labels, origins)
    return splits


def _fitting_size(paths: Sequence[Path], fit: str) -> tuple[Size, list[str]]:
    """Returns the size for pictures of any size, and a line that tells of it if it is not their own."""
    looked_at = [paths[index] for index in np.linspace(0, len(paths) - 1, min(len(paths), SAMPLE)).astype(int)] if paths else []
    sizes = Counter[Size]()
    for path in looked_at:
        try:
            sizes[picture_size(path)] += 1
        except DataError:  # decoding tells
            continue
    if len(sizes) == 1 and max(next(iter(sizes))) <= LARGEST_OWN:
        return next(iter(sizes)), []
    shorter = float(np.median([min(size) for size in sizes.elements()])) if sizes else 0
    side = next((side for side in USUAL if side <= shorter), USUAL[-1])
    ends = [size_text((width, height)) for height, width in (min(sizes, key=min), max(sizes, key=min))] if sizes else []
    seen = f"pictures of {ends[0]} pixels" if len(set(ends)) == 1 else f"pictures from {' to '.join(ends)} pixels"
    how = {"crop": "the centre cut out", "pad": "with black borders", "squash": "with other ratios of the sides"}[fit]
    return (side, side), [f"{seen} (width x height) are scaled to {side}x{side}, {how}; data.image_size and data.fit change that"]


def bad_files(given: str, bad: Mapping[int, str], number: int, advice: str) -> str:
    """Returns one line that names the files that cannot be read, the first ones of many."""
    more = f"; and {len(bad) - MOST_LISTED:,} more" if len(bad) > MOST_LISTED else ""
    listed = "; ".join(reason for _, reason in sorted(bad.items())[:MOST_LISTED])
    return f"{given}: {len(bad):,} of {counted_of(number, 'picture')} cannot be read: {listed}{more}; {advice}"
