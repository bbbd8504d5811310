"""The sources of images: scikit-learn's digits, the MNIST and CIFAR families, and the user's own arrays and folders."""

import importlib.util
import math
import os
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from resnet.data.as_trained import as_trained
from resnet.data.downloads import download_missing, one_line
from resnet.data.errors import DataError
from resnet.data.files import ImageFiles, common_size, folders_in, list_classes, list_images
from resnet.data.form import Form, Size, as_size
from resnet.data.pictures import as_image
from resnet.data.splits import stratified_split

MOST_CLASSES = 65_536  # a label beyond this is a mistake, or does not mean a class
MOST_UNZIPPED, BOMB = 200, 2**30  # from BOMB bytes on, the most bytes unzipped from one; pictures do not compress so well
TEST_SHARE = 5  # a set without a test set gives up a fifth of its images
FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle-boot"]


@dataclass(frozen=True)
class Split:
    """Images (N, C, H, W) uint8, in memory or as files, and their labels (N,) int64."""

    images: Tensor | ImageFiles
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> Size:
        height, width = self.images.shape[-2:]
        return height, width

    def subset(self, indices: "np.ndarray") -> "Split":
        chosen = torch.from_numpy(indices)
        return Split(self.images[chosen], self.labels[chosen])


@dataclass(frozen=True)
class Source:
    """What `data` must return.

    `test=None`: the test set is a fifth of `train`, stratified and fixed by data.split_seed.
    `val`: the images that the source itself holds out; None: data.val_size decides.
    `pictures`: photos, or the name of a set of drawings, whose pictures are prepared in its own way (resnet.data.as_trained).
    `notes`: lines that the run's header tells and its summary keeps.
    """

    train: Split
    test: Split | None
    classes: list[str]
    val: Split | None = None
    pictures: str = "photos"
    notes: Sequence[str] = ()


def digits(split_seed: int) -> Source:
    """1,797 images of 8x8 pixels, read from scikit-learn's file, because importing scikit-learn takes seconds."""
    package = importlib.util.find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise DataError("data=digits: scikit-learn, which ships the images, is not installed; pip install scikit-learn")
    table = np.loadtxt(Path(package.submodule_search_locations[0], "datasets/data/digits.csv.gz"), delimiter=",")
    images = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    whole = Split(torch.from_numpy(images), torch.from_numpy(table[:, -1].astype(np.int64)))
    return with_test_set(Source(whole, None, _numbers(10), pictures="digits"), split_seed)


def mnist(root: str, download: bool) -> Source:
    return mnist_family("mnist", Path(root), download)


def fashion_mnist(root: str, download: bool) -> Source:
    return mnist_family("fashion_mnist", Path(root), download)


def cifar10(root: str, download: bool) -> Source:
    return cifar_family("cifar10", Path(root), download)


def cifar100(root: str, download: bool) -> Source:
    return cifar_family("cifar100", Path(root), download)


def mnist_family(name: str, root: Path, download: bool) -> Source:
    """Reads torchvision's layout, root/<Set>/raw/*-ubyte. Imports torchvision only to download."""
    kind = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}[name]
    raw = root / kind / "raw"
    files = [raw / f"{part}-{item}-ubyte" for part in ("train", "t10k") for item in ("images-idx3", "labels-idx1")]
    where = f"the unpacked files {', '.join(file.name for file in files)} into {raw}"
    download_missing(name, kind, root, download, files, where)
    train_images, train_labels, test_images, test_labels = (_read_idx(file) for file in files)
    splits = [_idx_split(*pair, raw) for pair in ((train_images, train_labels), (test_images, test_labels))]
    return Source(splits[0], splits[1], _numbers(10) if name == "mnist" else FASHION, pictures=name)


def _idx_split(images: Tensor, labels: Tensor, raw: Path) -> Split:
    if images.ndim != 3 or labels.shape != images.shape[:1] or not len(labels) or int(labels.max()) > 9:
        raise DataError(
            f"{raw}: images of shape {tuple(images.shape)} with labels of shape {tuple(labels.shape)}"
            f"{f' up to {int(labels.max())}' if len(labels) else ''}, where each image needs one label from 0 to 9; delete the "
            "folder and it is downloaded again, or put good copies there"
        )
    return Split(images.unsqueeze(1), labels.long())


def cifar_family(name: str, root: Path, download: bool) -> Source:
    """Reads torchvision's layout, the unpacked Python version. Each file is checked by its MD5 sum."""
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    folder = root / kind.base_folder
    files = [(folder / file, md5) for file, md5 in [*kind.train_list, *kind.test_list]]
    download_missing(name, kind.__name__, root, download, [file for file, _ in files], f"{kind.filename}, unpacked, into {root}")
    if corrupt := [file for file, md5 in files if not check_integrity(str(file), md5)]:
        raise DataError(f"{corrupt[0]}: truncated or corrupt (its MD5 sum is wrong); delete {folder} and it is downloaded again")
    parts = [kind(str(root), train=train) for train in (True, False)]
    train, test = (Split(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets)) for part in parts)
    return Source(train, test, list(parts[0].classes))


def arrays(path: str, classes: list[str] | None = None) -> Source:
    """The user's own .npz file. `classes`: the class names; None: those in the file, else their numbers."""
    train, test = _open_arrays(Path(path), f"data.path={path}", ("train", "test"))
    if train.images.shape[1:] != test.images.shape[1:]:
        shapes = [tuple(split.images.shape[1:]) for split in (train, test)]
        raise DataError(f"data.path={path}: x_train has images of shape {shapes[0]}, x_test of {shapes[1]}; they must agree")
    num_classes = int(max(train.labels.max(), test.labels.max())) + 1
    return Source(train, test, classes or _class_names(Path(path)) or _numbers(num_classes))


def _class_names(path: Path) -> list[str]:
    """Returns the names that the file has under `classes`. The file has been opened before."""
    with zipfile.ZipFile(path) as archive:
        if "classes.npy" not in archive.namelist():
            return []
    try:
        _check_sizes(path, f"data.path={path}", ["classes"])
        with np.load(path, allow_pickle=False) as file:
            return [str(name) for name in file["classes"]]
    except Exception as error:
        raise DataError(f"data.path={path}: classes is no plain array of names ({one_line(error)[:200]})") from None


def _open_arrays(path: Path, given: str, parts: tuple[str, ...]) -> list[Split]:
    keys = [f"{kind}_{part}" for part in parts for kind in "xy"]
    if not os.path.isfile(path):  # opening a pipe would block forever
        reason = "no regular file" if os.path.exists(path) else "no such file"
        raise DataError(f"{given}: {reason}; give the .npz file with {', '.join(keys)}")
    try:
        _check_sizes(path, given, keys)
        with np.load(path, allow_pickle=False) as file:
            return [_array_split(given, part, file[f"x_{part}"], file[f"y_{part}"]) for part in parts]
    except DataError:
        raise
    except Exception as error:  # zip, its decompressors and NumPy's headers raise different errors
        raise DataError(f"{given}: truncated, corrupt or not an .npz file of plain arrays ({one_line(error)[:200]})") from None


def _check_sizes(path: Path, given: str, keys: list[str]) -> None:
    """Checks sizes before memory is allocated: a header of a few bytes can claim any number of values, and a few zipped bytes can hold as
    many zeros.
    """
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if missing := [key for key in keys if key not in members]:
            raise DataError(f"{given}: {missing[0]} is missing; the file holds {', '.join(members) or 'nothing'}")
        for key in keys:
            info = members[key]
            if info.file_size > max(MOST_UNZIPPED * info.compress_size, BOMB):
                raise ValueError(f"{key} claims {info.file_size:,} bytes, zipped into {info.compress_size:,}")
            with archive.open(info) as member:
                shape, dtype = _read_header(key, member)
            if math.prod(shape) * dtype.itemsize > info.file_size:
                raise ValueError(f"{key} claims to be of shape {shape}, and holds {info.file_size:,} bytes")


def _read_header(key: str, member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
    except Exception:  # NumPy parses the header as Python, and for a long one advises to trust the file
        raise ValueError(f"{key} has no header that NumPy can read safely") from None
    return shape, dtype


def folder(path: str, image_size: int | list[int] | None, channels: int, in_memory: bool, split_seed: int, fit: str) -> Source:
    """The user's own images. With in_memory=False they stay files and are decoded during training."""
    if not os.path.isdir(path):
        raise DataError(f"data.path={path}: no such folder; give the one that holds train/ and test/, or one folder a class")
    whole = Path(path)
    parts = [whole / "train", whole / "test"] if (whole / "train").is_dir() and (whole / "test").is_dir() else [whole]
    classes = list_classes(parts[0])
    splits = []
    for part in parts:
        paths, labels = list_images(part, classes)
        files = ImageFiles(paths, Form(as_size(image_size) if image_size else common_size(paths), channels, fit))
        splits.append(Split(files.decoded() if in_memory else files, torch.tensor(labels)))
    return Source(splits[0], splits[1], classes) if len(splits) == 2 else with_test_set(Source(splits[0], None, classes), split_seed)


def images_to_evaluate(path: Path, classes: list[str], form: Form, pictures: str) -> Split:
    """The user's own images for a trained model: x_test and y_test of an .npz file, or one folder per class, named as in training."""
    if os.path.isdir(path):
        folder = path / "test" if (path / "test").is_dir() else path
        there = folders_in(folder)
        here = [name for name in classes if name in there]  # a stranger's class may be called ../elsewhere
        if not here:
            raise DataError(f"{folder}: it has none of the model's classes as folders; they are {', '.join(classes)}")
        paths, labels = list_images(folder, here)
        images = torch.stack([as_trained(file, form, pictures) for file in paths])
        return Split(images, torch.tensor([classes.index(here[label]) for label in labels]))
    split = _open_arrays(path, f"--images {path}", ("test",))[0]
    if split.images.shape[1] != form.channels:
        raise DataError(f"{path}: x_test has images of {split.images.shape[1]} channels; the model takes {form.channels}")
    if int(split.labels.max()) >= len(classes):
        raise DataError(f"{path}: y_test has label {int(split.labels.max())}; the model knows {len(classes)} classes")
    assert isinstance(split.images, Tensor)
    return Split(torch.stack([as_trained(as_image(image), form, pictures) for image in split.images]), split.labels)


def with_test_set(source: Source, split_seed: int) -> Source:
    """Splits off a test set if the source has none."""
    if source.test is not None:
        return source
    whole = source.train
    if len(whole) < TEST_SHARE:
        raise DataError(f"{len(whole)} images and no test set; at least {TEST_SHARE} are needed, as a fifth of them become the test set")
    rest, test = stratified_split(whole.labels.numpy(), len(whole) // TEST_SHARE, split_seed)
    return replace(source, train=whole.subset(rest), test=whole.subset(test))


def _numbers(num_classes: int) -> list[str]:
    return [str(label) for label in range(num_classes)]


def _read_idx(path: Path) -> Tensor:
    """Reads MNIST's idx format: two zero bytes, a type (8: uint8), the number of sizes, the sizes (big-endian), the values."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); make it readable") from None
    num_sizes = content[3] if content[:3] == b"\x00\x00\x08" else 0
    start = 4 + 4 * num_sizes
    sizes = struct.unpack(f">{num_sizes}I", content[4:start]) if len(content) >= start and num_sizes else (0,)
    expected = start + math.prod(sizes)
    if not num_sizes or len(content) != expected:
        wanted = f"{expected} bytes expected, {len(content)} found" if num_sizes else "it has no idx header"
        raise DataError(f"{path}: truncated or corrupt ({wanted}); delete it and it is downloaded again, or put a good copy there")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(sizes).copy())


def _array_split(given: str, part: str, images: np.ndarray, labels: np.ndarray) -> Split:
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] not in (1, 3)):
        raise DataError(
            f"{given}: x_{part} is {images.dtype} of shape {images.shape}; it must be uint8 of shape (N, H, W), (N, H, W, 1) "
            "or (N, H, W, 3)"
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.shape[1] != images.shape[2] or not images.shape[1]:
        raise DataError(f"{given}: x_{part} has images of {images.shape[1]}x{images.shape[2]} pixels; they must be square, of at least one")
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1] or len(labels) == 0:
        raise DataError(
            f"{given}: y_{part} is {labels.dtype} of shape {labels.shape}; it must hold one whole number from 0 for each of the "
            f"{len(images)} images of x_{part}"
        )
    if wrong := [label for label in (int(labels.min()), int(labels.max())) if not 0 <= label < MOST_CLASSES]:
        raise DataError(f"{given}: y_{part} has label {wrong[0]}; labels count the classes from 0, up to {MOST_CLASSES - 1:,}")
    return Split(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))), torch.from_numpy(labels.astype(np.int64)))
