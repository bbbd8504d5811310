"""Finds the same picture twice in a data set: the same file, or nearly the same image in two parts."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from resnet.data.files import OnDemand
from resnet.data.progress import shown
from resnet.data.sources import Split

SIDE = 16  # pixels per side of the small gray images that are compared
ALIKE = 0.99  # correlation of two of them from which their pictures count as nearly the same
AT_ONCE = 1000  # images compared with all of the training images
Place = tuple[str, int]  # a part, and the number of an image in it


def same_images(parts: Mapping[str, Split]) -> list[list[Place]]:
    """Returns the places of each image that occurs more than once, exactly: by the digest of its file, or by its pixels."""
    places: dict[bytes, list[Place]] = defaultdict(list)
    for part, split in parts.items():
        for number, key in enumerate(_keys(split)):
            places[key].append((part, number))
    return [those for those in places.values() if len(those) > 1]


def _keys(split: Split) -> Iterator[bytes]:
    if split.origins is not None:
        yield from split.origins.digests
    else:
        yield from (image.numpy().tobytes() for image in _each(split.images))


def nearly_same(train: Split, other: Split) -> list[tuple[int, int, float]]:
    """Returns (number in `other`, number in `train`, correlation) for each image of `other` that is very similar to one in `train`.

    Both are compared as gray images of 16x16 pixels of mean 0 and length 1. Images of one colour are not compared.
    """
    ours, theirs = _small(train, "training images"), _small(other, "images of another part")
    found = []
    for start in range(0, len(theirs), AT_ONCE):
        highest, nearest = (theirs[start : start + AT_ONCE] @ ours.T).max(1)
        for row in (highest >= ALIKE).nonzero().flatten().tolist():
            found.append((start + row, int(nearest[row]), float(highest[row])))
    return found


def _small(split: Split, text: str) -> Tensor:
    """Returns (N, SIDE * SIDE) float32."""
    rows = [
        F.interpolate(image[None].float().mean(1, keepdim=True), (SIDE, SIDE), mode="bilinear", antialias=True).flatten()
        for image in shown(_each(split.images), len(split), f"comparing {text}")
    ]
    small = torch.stack(rows)
    small -= small.mean(1, keepdim=True)
    length = small.norm(dim=1, keepdim=True)
    return torch.where(length > 1, small / length, 0.0)


def _each(images: Tensor | OnDemand) -> Iterator[Tensor]:
    return iter(images) if isinstance(images, Tensor) else (images.decode(number) for number in range(len(images)))


def conflicting(same: Sequence[Sequence[Place]], parts: Mapping[str, Split]) -> list[Sequence[Place]]:
    """Returns those whose labels differ."""
    return [those for those in same if len(np.unique([int(parts[part].labels[number]) for part, number in those])) > 1]
