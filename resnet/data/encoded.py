"""From pictures as they are stored, in files or in shards, to a source of images of one size."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from resnet.data.decoded import cached_bytes, decode_all
from resnet.data.errors import DataError
from resnet.data.files import Mapped, OnDemand
from resnet.data.form import Form, Size, as_size, size_text
from resnet.data.listing import counted_of
from resnet.data.origins import Origins
from resnet.data.sources import Source, Split

MOST_LISTED = 10  # bad files in a message
SAMPLE = 1000  # pictures whose headers decide the size
LARGEST_OWN = 256  # pixels per side up to which pictures of one size keep it
USUAL = (224, 192, 160, 128, 96, 64, 32)  # pixels per side


@dataclass(frozen=True)
class Encoded:
    """The pictures of a data set, part by part, and numbered through."""

    parts: Mapping[str, Origins]
    labels: Sequence[int]
    classes: list[str]
    size_of: Callable[[int], Size]  # from the picture's header; raises DataError
    on_demand: Callable[[Form], OnDemand]
    bad: Mapping[int, str]  # why pictures cannot be decoded, as far as that is known
    notes: Sequence[str]

    def digests(self) -> list[bytes]:
        return [digest for origins in self.parts.values() for digest in origins.digests]


def decoded_source(
    given: str, encoded: Encoded, image_size: int | list[int] | None, channels: int, fit: str, on_bad_file: str, cache_gb: float
) -> Source:
    """Decodes all pictures, as far as the cache has room for them. `given` begins the message if some are bad."""
    number, notes = len(encoded.labels), list(encoded.notes)
    readable = [row for row in range(number) if row not in encoded.bad]
    size, told = (as_size(image_size), list[str]()) if image_size else _fitting_size(readable, encoded.size_of, fit)
    form = Form(size, channels, fit)
    images, undecoded = decode_all(encoded.on_demand(form), encoded.digests(), form, cache_gb)
    if bad := {**undecoded, **encoded.bad}:
        if on_bad_file == "stop":
            raise DataError(bad_files(given, bad, number, "mend them, or leave them out with data.on_bad_file=skip"))
        notes.append(f"left out: {counted_of(len(bad), 'file')} that cannot be read: {'; '.join(list(bad.values())[:MOST_LISTED])}")
    splits = _splits(encoded, images, bad)
    size_gb = cached_bytes(number, form) / 1e9
    if isinstance(images, Mapped):
        notes.append(f"the decoded images take {size_gb:.1f} GB of the cache, of at most data.cache_gb={cache_gb:g}")
    elif not isinstance(images, Tensor):
        notes.append(
            f"the decoded images take {size_gb:.1f} GB, for which the cache has no room (data.cache_gb={cache_gb:g}, or the disk): each "
            "epoch decodes them again"
        )
    val, test = splits.get("val"), splits.get("test")
    return Source(splits["train"], test, encoded.classes, val=val, notes=[*notes, *told], unreadable=list(bad.values()))


def _splits(encoded: Encoded, images: Tensor | OnDemand, bad: Mapping[int, str]) -> dict[str, Split]:
    splits, labels, start = {}, torch.tensor(encoded.labels, dtype=torch.int64), 0
    for part, origins in encoded.parts.items():
        good = np.array([row for row in range(len(origins)) if start + row not in bad], dtype=np.int64)
        rows = torch.from_numpy(good) + start
        splits[part] = Split(images[rows], labels[rows], origins.subset(good))
        start += len(origins)
    return splits


def _fitting_size(rows: Sequence[int], size_of: Callable[[int], Size], fit: str) -> tuple[Size, list[str]]:
    """Returns the size for pictures of any size, and a line that tells of it if it is not their own."""
    looked_at = [rows[index] for index in np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(int)] if rows else []
    sizes = Counter[Size]()
    for row in looked_at:
        try:
            sizes[size_of(row)] += 1
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
