"""The user's own pictures, in folders or listed in a table: `data=folder`."""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from resnet.data.digest import readable_digests
from resnet.data.encoded import Encoded, decoded_source
from resnet.data.errors import DataError
from resnet.data.files import ImageFiles
from resnet.data.listing import Listing, list_folder
from resnet.data.origins import Origins
from resnet.data.pictures import picture_size
from resnet.data.sources import Source
from resnet.data.table import TABLES, list_table


def folder(path: str, image_size: int | list[int] | None, channels: int, fit: str, on_bad_file: str, cache_gb: float) -> Source:
    """Pictures in class folders, in train, val and test folders of class folders, or in a table (.csv, .tsv) of paths and labels.

    Args:
        image_size: None: their own size if all have the same small one, else one that suits them; see the notes of the source.
        on_bad_file: stop, or skip pictures that cannot be read.
        cache_gb: the most gigabytes of decoded images that are kept for later runs.
    """
    listing = _listed(Path(path), on_bad_file == "skip")
    number_of = {name: number for number, name in enumerate(listing.classes)}
    pictures = [picture for those in listing.parts.values() for picture in those]
    paths = [picture.path for picture in pictures]
    digests, bad = readable_digests(paths)
    encoded = Encoded(
        parts=dict(_origins(listing, digests)),
        labels=[number_of[picture.label] for picture in pictures],
        classes=listing.classes,
        size_of=lambda row: picture_size(paths[row]),
        on_demand=lambda form: ImageFiles(paths, form),
        bad=bad,
        notes=listing.notes,
    )
    return decoded_source(f"data.path={path}", encoded, image_size, channels, fit, on_bad_file, cache_gb)


def _listed(path: Path, skip_missing: bool) -> Listing:
    if os.path.isdir(path):
        return list_folder(path)
    if os.path.isfile(path) and path.suffix.lower() in TABLES:
        return list_table(path, skip_missing)
    reason = "no .csv or .tsv file" if os.path.isfile(path) else "no such folder"
    raise DataError(f"data.path={path}: {reason}; give the folder with train/, val/ and test/ or with one folder per class, or a table")


def _origins(listing: Listing, digests: Sequence[bytes]) -> Iterator[tuple[str, Origins]]:
    left = iter(digests)
    for part, pictures in listing.parts.items():
        paths, names = [picture.path for picture in pictures], [picture.name for picture in pictures]
        groups = [picture.group or picture.name for picture in pictures] if any(picture.group for picture in pictures) else None
        yield part, Origins(paths, names, list(islice(left, len(pictures))), groups)
