"""What a source of images is, and the built-in ones: scikit-learn's digits, the MNIST and CIFAR families."""

import importlib.util
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from resnet.data.downloads import download_missing
from resnet.data.errors import DataError
from resnet.data.files import OnDemand
from resnet.data.form import Size
from resnet.data.origins import Origins
from resnet.data.splits import hold_out

MOST_CLASSES = 65_536  # a label beyond this is a mistake, or does not mean a class
TEST_SHARE = 5  # a set without a test set gives up a fifth of its images
FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle-boot"]


@dataclass(frozen=True)
class Split:
    """Images (N, C, H, W) uint8, in memory or fetched on demand, their labels (N,) int64, and the files that they come from."""

    images: Tensor | OnDemand
    labels: Tensor
    origins: Origins | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> Size:
        height, width = self.images.shape[-2:]
        return height, width

    def subset(self, indices: "np.ndarray") -> "Split":
        chosen = torch.from_numpy(indices)
        return Split(self.images[chosen], self.labels[chosen], self.origins and self.origins.subset(indices))


@dataclass(frozen=True)
class Source:
    """What `data` must return.

    `test=None`: the test set is a fifth of `train`, held out by class and fixed by data.split_seed.
    `val`: the images that the source itself holds out; None: data.val_size decides.
    `pictures`: photos, or the name of a set of drawings, whose pictures are prepared in its own way (resnet.data.as_trained).
    `notes`: lines that the run's header tells and its summary keeps.
    `unreadable`: why files were left out.
    """

    train: Split
    test: Split | None
    classes: list[str]
    val: Split | None = None
    pictures: str = "photos"
    notes: Sequence[str] = ()
    unreadable: Sequence[str] = ()


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


def with_test_set(source: Source, split_seed: int) -> Source:
    """Splits off a test set if the source has none."""
    if source.test is not None:
        return source
    whole = source.train
    labels = whole.labels.numpy()
    divisible = int((np.bincount(labels) > 1).sum())  # classes that can give an image and keep one
    if not divisible:
        raise DataError("no test set, and no class of two images or more to take one from; give a test set, or more images")
    size = max(len(whole) // TEST_SHARE, divisible) if whole.origins is None else 1 / TEST_SHARE
    rest, test = hold_out(labels, size, split_seed, whole.origins, "test")
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
