"""Data sets of torchvision and Hugging Face as sources: all images in memory, in their own size or scaled to data.image_size."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor

from resnet.data.downloads import download_into, one_line
from resnet.data.errors import DataError
from resnet.data.form import Form, as_size
from resnet.data.listing import part_named
from resnet.data.pictures import as_pixels
from resnet.data.progress import shown
from resnet.data.sources import Source, Split

Examples = Iterable[tuple[Any, Any]]  # images and labels


def torchvision_set(
    dataset: str,
    root: str,
    download: bool,
    image_size: int | list[int] | None,
    channels: int,
    fit: str,
    train_split: str = "train",
    test_split: str | None = "test",
    val_split: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Source:
    """A classification set of torchvision.datasets, such as SVHN or Flowers102.

    Args:
        train_split: the name in torchvision. Sets that only know train and test, or have one part, ignore both names.
        test_split: likewise; None: a fifth of the training images.
        val_split: likewise, of the images to hold out; None: data.val_size decides.
        options: further arguments of its class, such as {split: letters} for EMNIST.
    """
    given, kind = f"data.dataset={dataset}", _torchvision_class(dataset)
    parts = [
        _open(given, kind, Path(root), download, {**part, **(options or {})}) for part in _parts(kind, train_split, test_split, options)
    ]
    held_out = None if val_split is None else _open(given, kind, Path(root), download, {"split": val_split, **(options or {})})
    splits = [_split(given, part, len(part), image_size, channels, fit) for part in parts]
    val = None if held_out is None else _split(given, held_out, len(held_out), image_size, channels, fit)
    largest = max(int(split.labels.max()) for split in [*splits, *filter(None, [val])])
    known = getattr(parts[0], "classes", None) or getattr(parts[0], "categories", None) or []
    names = [name[0] if isinstance(name, tuple) else name for name in known]  # Imagenette's have synonyms
    has_names = len(names) > largest and all(isinstance(name, str) for name in names)
    classes = names if has_names else list(map(str, range(largest + 1)))
    return Source(splits[0], splits[1] if len(splits) == 2 else None, classes, val=val)


def _torchvision_class(name: str) -> Any:
    from torchvision import datasets

    kind = getattr(datasets, name, None)
    if not inspect.isclass(kind) or not issubclass(kind, datasets.VisionDataset):
        raise DataError(f"data.dataset={name}: torchvision.datasets has no such class; give one of its sets for classification, as SVHN")
    return kind


def _parts(kind: Any, train: str, test: str | None, options: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Returns the arguments for the training and the test images; only one set of arguments if all images are in one part."""
    from torchvision.datasets import MNIST

    parameters = inspect.signature(kind).parameters
    if "train" in parameters or issubclass(kind, MNIST):
        parts: list[dict[str, Any]] = [{"train": True}, {"train": False}]
    elif "split" in parameters and "split" not in (options or {}):
        parts = [{"split": train}, {"split": test}]
    else:
        return [{}]
    return parts if test is not None else parts[:1]


def _open(given: str, kind: Any, root: Path, download: bool, arguments: Mapping[str, Any]) -> Any:
    """Opens the set from existing files; if that fails, downloads it first. Raises DataError."""
    parameters = inspect.signature(kind).parameters
    place = {"root": str(root)} if "root" in parameters else {}
    try:
        return kind(**place, **arguments)
    except (TypeError, ValueError) as error:
        described = " ".join(f"{key}={value}" for key, value in arguments.items())
        raise DataError(
            f"{given}: torchvision refuses {described or 'it'} ({one_line(error)}); see data.train_split, test_split and options"
        ) from None
    except (RuntimeError, OSError, ImportError) as error:
        if not download or not {"download", "kwargs"} & set(parameters):
            raise DataError(f"{given}: not found in {root}, or not whole ({one_line(error)}); put its files there") from None
    part = root / f".{kind.__name__}.part"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{kind.__name__}.lock"):  # several jobs of a sweep may download at once
            download_into(root, part, lambda folder: kind(root=str(folder), **arguments, download=True))
            return kind(**place, **arguments)
    except Exception as error:  # each set raises its own errors
        raise DataError(f"{given}: torchvision's download into {root} failed ({one_line(error)}); put its files there") from None


def hugging_face(
    download: bool,
    root: str,
    path: str | None,
    image_size: int | list[int] | None,
    channels: int,
    fit: str,
    dataset: str | None = None,
    subset: str | None = None,
    image_column: str = "image",
    label_column: str = "label",
    train_split: str = "train",
    test_split: str | None = "test",
    val_split: str | None = None,
) -> Source:
    """A data set on disk (`path`: from save_to_disk, Parquet files, or one folder per class), or from the Hub by its name (`dataset`).

    Args:
        subset: the Hub's configuration of the set.
        test_split: None: a fifth of the training images.
        val_split: the part that is held out; None: one called validation, val, valid or dev, if there is one, else data.val_size decides.
    """
    given = f"data.path={path}" if path else f"data.dataset={dataset}"
    found = _load(given, path, dataset, subset, Path(root), download)
    train = _part(given, found, "train_split", train_split)
    test = None if test_split is None or not hasattr(found, "keys") else _part(given, found, "test_split", test_split)
    own = [name for name in found if part_named(name) == "val"] if hasattr(found, "keys") else []
    val = _part(given, found, "val_split", val_split) if val_split else found[own[0]] if own else None
    for column in (image_column, label_column):
        if column not in train.column_names:
            raise DataError(f"{given}: no column {column}; it has {', '.join(train.column_names)} (data.image_column, data.label_column)")
    names, number_of = _names(train, label_column)

    def split(part: Any) -> Split:
        return _split(given, ((row[image_column], number_of(row[label_column])) for row in part), len(part), image_size, channels, fit)

    return Source(split(train), test and split(test), names, val=val and split(val))


def _load(given: str, path: str | None, dataset: str | None, subset: str | None, root: Path, download: bool) -> Any:
    try:
        import datasets
    except ImportError:
        raise DataError("data=hugging_face: the package datasets is not installed; pip install -e '.[datasets]'") from None
    if (path is None) == (dataset is None):
        raise DataError("data.path, data.dataset: one of the two says where the data set is: a folder, or its name on the Hub")
    if path is not None and not Path(path).is_dir():
        raise DataError(f"{given}: no such folder")
    datasets.disable_progress_bars()
    try:
        if path is not None and any(Path(path, name).exists() for name in ("dataset_dict.json", "state.json")):
            return datasets.load_from_disk(path)
        settings = datasets.DownloadConfig(local_files_only=not download and path is None)
        return datasets.load_dataset(path or dataset, subset, cache_dir=str(root / "hugging_face"), download_config=settings)
    except Exception as error:  # errors of the network, of files, or of its own
        raise DataError(f"{given}: it cannot be loaded ({one_line(error)[:300]})") from None


def _part(given: str, found: Any, key: str, name: str) -> Any:
    if not hasattr(found, "keys"):  # a set with a single part
        return found
    if name not in found:
        raise DataError(f"{given}: data.{key}={name}: no such part; it has {', '.join(found)}")
    return found[name]


def _names(part: Any, column: str) -> tuple[list[str], Callable[[Any], int]]:
    """Returns the class names, and a function from a label to its number. Labels that are words are numbered in sorted order."""
    names = getattr(part.features[column], "names", None)
    if names:
        return list(names), int
    labels = sorted(set(part[column]))
    if labels and isinstance(labels[0], str):
        return labels, lambda label: _known(label, labels)
    return [str(number) for number in range(int(labels[-1]) + 1)] if labels else [], int


def _known(label: str, labels: list[str]) -> int:
    if label not in labels:
        raise DataError(f"its held-out or test images have the class {label}, which the training images lack")
    return labels.index(label)


def _split(given: str, examples: Examples, number: int, image_size: int | list[int] | None, channels: int, fit: str) -> Split:
    """Stacks the examples into a split. Raises DataError if they are not images, or differ in size while data.image_size is not set."""
    images, labels, size = list[Tensor](), list[int](), image_size and as_size(image_size)
    for image, label in shown(examples, number, "decoding pictures"):
        if not isinstance(image, Image.Image):
            raise DataError(
                f"{given}: it has {type(image).__name__} for an image, and no picture; it is no set for classification of images"
            )
        size = size or (image.height, image.width)
        if image_size is None and image.size != (size[1], size[0]):
            seen = "{}x{} pixels".format(*image.size)
            raise DataError(f"{given}: an image of {seen}, where all must be of one size; set data.image_size=PIXELS")
        images.append(as_pixels(image, Form(size, channels, fit)))
        labels.append(_number(given, label))
    if not images:
        raise DataError(f"{given}: it has no images")
    return Split(torch.stack(images), torch.tensor(labels))


def _number(given: str, label: Any) -> int:
    try:
        return int(label)
    except (TypeError, ValueError):
        raise DataError(f"{given}: it has {label!r} for a label; a whole number is needed") from None
