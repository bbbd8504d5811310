"""The user's own images for a trained model, prepared like the images that it was trained on."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from resnet.data.archive import Archive
from resnet.data.array_labels import of_trained
from resnet.data.array_names import ALONE, IMAGES, roles
from resnet.data.arrays import class_names, pair, read_images, read_labels
from resnet.data.as_trained import as_trained
from resnet.data.decoded import Bad, decode_all, read_all
from resnet.data.digest import readable_digests
from resnet.data.encoded import bad_files
from resnet.data.errors import DataError, told_of
from resnet.data.files import ImageFiles, OnDemand
from resnet.data.form import Form
from resnet.data.listing import list_labelled
from resnet.data.pictures import as_image
from resnet.data.sources import Split
from resnet.data.table import TABLES, list_table

IN_MEMORY = 2000  # pictures; more are decoded into the cache


def images_to_evaluate(path: Path, classes: list[str], form: Form, pictures: str) -> Split:
    """Arrays: x_test and y_test, or images and labels alone. Pictures: one folder per class, named as in training, or a table of paths and
    labels.
    """
    return _labelled(path, classes, form, pictures) if _has_pictures(path) else _from_arrays(path, classes, form, pictures)


def _has_pictures(path: Path) -> bool:
    given = f"--images {path}"
    has_arrays = os.path.isdir(path) and any(kind == IMAGES for kind, _ in roles(Archive(path, given).names, given))
    return path.suffix.lower() in TABLES or (os.path.isdir(path) and not has_arrays)


def _from_arrays(path: Path, classes: list[str], form: Form, pictures: str) -> Split:
    archive = Archive(path, f"--images {path}")
    found = roles(archive.names, archive.given)
    part = "test" if "test" in {part for _, part in found} or ALONE not in {part for _, part in found} else ALONE
    x, y = pair(archive, found, part, "test")
    images = read_images(archive, [x])[0][x]
    labels = read_labels(archive, y, len(images))
    with told_of(f"{archive.given}: "):
        numbers = of_trained(labels, class_names(archive), classes, y)
    return Split(torch.stack([as_trained(as_image(image), form, pictures) for image in images]), torch.from_numpy(numbers))


def _labelled(path: Path, classes: list[str], form: Form, pictures: str) -> Split:
    if os.path.isdir(path):
        found = list_labelled(path, classes)
    else:
        parts = list_table(path, skip_missing=False).parts
        found = parts.get("test") or [picture for those in parts.values() for picture in those]
        if unknown := sorted({picture.label for picture in found} - set(classes)):
            raise DataError(f"{path}: {unknown[0]}: a class that the model does not know; it knows {', '.join(classes)}")
    images, bad = prepared([picture.path for picture in found], form, pictures)
    if bad:
        raise DataError(bad_files(f"--images {path}", bad, len(found), "mend them, or take them away"))
    return Split(images, torch.tensor([classes.index(picture.label) for picture in found]))


def prepared(paths: Sequence[Path], form: Form, pictures: str) -> tuple[Tensor | OnDemand, Bad]:
    """Returns the images of picture files, as in training, and why files cannot be read, by their numbers; their images are black."""
    if len(paths) > IN_MEMORY and pictures == "photos":
        digests, unreadable = readable_digests(paths)
        decoded, bad = decode_all(ImageFiles(paths, form), digests, form, cache_gb=20)
        return decoded, {**bad, **unreadable}
    images, failures = [], Bad()
    for row, result in read_all(lambda row: as_trained(paths[row], form, pictures), range(len(paths)), "reading pictures"):
        images.append(torch.zeros(form.channels, *form.size, dtype=torch.uint8) if isinstance(result, str) else result)
        failures.update({row: result} if isinstance(result, str) else {})
    return torch.stack(images), failures
