"""Which array is which: x_train, y_train and the other names that are in use, such as MedMNIST's train_images and train_labels."""

import re
from collections.abc import Sequence

from resnet.data.errors import DataError

IMAGES, LABELS = "images", "labels"
KINDS = {
    IMAGES: ("x", "image", "images", "img", "imgs", "data"),
    LABELS: ("y", "label", "labels", "target", "targets"),
}
PARTS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}
CLASSES = ("classes", "classnames", "labelnames", "categories")
ALONE = ""  # the part of images or labels that belong to none
KIND_OF = {word: kind for kind, words in KINDS.items() for word in words}
PART_OF = {word: part for part, words in PARTS.items() for word in words}
NAME = re.compile("(?P<part>{1})?(?P<kind>{0})|(?P<kind2>{0})(?P<part2>{1})".format("|".join(KIND_OF), "|".join(PART_OF)))


def roles(names: Sequence[str], given: str) -> dict[tuple[str, str], str]:
    """Returns (images or labels, part) -> name. Capitals, `_` and `-` do not count. Raises DataError if two names say the same."""
    found: dict[tuple[str, str], str] = {}
    for name in names:
        match = NAME.fullmatch(_plain(name))
        if match is None:
            continue
        part = match["part"] or match["part2"]
        role = KIND_OF[match["kind"] or match["kind2"]], PART_OF[part] if part else ALONE
        if role in found:
            raise DataError(f"{given}: {found[role]} and {name} could both be the {role[1]} {role[0]}; keep one of them".replace("  ", " "))
        found[role] = name
    return found


def name_of_classes(names: Sequence[str]) -> str | None:
    return next((name for name in names if _plain(name) in CLASSES), None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
