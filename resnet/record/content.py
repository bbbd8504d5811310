"""What a run was made from besides its config: data, initial weights and code, by digest. An unknown digest counts as equal to any
other."""

import re
from collections.abc import Mapping
from typing import Any

Made = Mapping[str, Any]  # `data`, `weights` and `code` of a summary; untrusted
PARTS = {"train": "training images", "val": "held-out images", "test": "test images", "classes": "names of the classes"}
DIGEST, NAME = re.compile("[0-9a-f]{64}"), re.compile(r"[\w.]{1,200}")


def other_data(before: Made, now: Made) -> list[str]:
    """Returns each part of the data that differs, like `test images: digest 1a2b3c4d -> 5e6f7a8b`. The digest of images covers their labels
    and order.
    """
    old, new = (_digests(_under(made, "data", "digests")) for made in (before, now))
    if not (old and new):
        return []
    return [f"{name}: {_change(before, now, part)}" for part, name in PARTS.items() if old.get(part) != new.get(part)]


def _change(before: Made, now: Made, part: str) -> str:
    counts = [_under(made, "data", part) for made in (before, now)]
    is_other_number = part != "classes" and all(isinstance(count, int) for count in counts) and counts[0] != counts[1]
    numbers = f"{counts[0]:,} -> {counts[1]:,} of them, " if is_other_number else ""
    old, new = (_digests(_under(made, "data", "digests")).get(part) for made in (before, now))
    return f"{numbers}digest {short(old)} -> {short(new)}"


def other_weights(before: Made, now: Made) -> str | None:
    """Compares the weights file that training started from."""
    return _other("model.weights", weights_digest(before), weights_digest(now))


def other_teacher(before: Made, now: Made) -> str | None:
    """Compares the teacher run that training learns from."""
    return _other("loss.teacher", teacher_digest(before), teacher_digest(now))


def _other(key: str, old: str | None, new: str | None) -> str | None:
    return f"{key}: digest {short(old)} -> {short(new)}" if old and new and old != new else None


def other_code(before: Made, now: Made) -> list[str]:
    """Returns the modules that have changed. A module on only one side does not count, because commands import different modules."""
    old, new = module_digests(before), module_digests(now)
    return [name for name, digest in old.items() if new.get(name, digest) != digest]


def set_digest(made: Made) -> str | None:
    """Returns the digest of the data, whichever fold of them is the test set."""
    return _digests(_under(made, "data", "digests")).get("whole") or data_digest(made)


def data_digest(made: Made) -> str | None:
    return as_digest(_under(made, "data", "digest"))


def weights_digest(made: Made) -> str | None:
    return as_digest(made.get("weights"))


def teacher_digest(made: Made) -> str | None:
    return as_digest(made.get("teacher"))


def module_digests(made: Made) -> dict[str, str]:
    return _digests(_under(made, "code", "modules"))


def as_digest(value: Any) -> str | None:
    return value if isinstance(value, str) and DIGEST.fullmatch(value) else None


def short(digest: str | None) -> str:
    return digest[:8] if digest else "none"


def _digests(values: Any) -> dict[str, str]:
    pairs = values.items() if isinstance(values, dict) else ()
    return {name: digest for name, digest in pairs if NAME.fullmatch(str(name)) and as_digest(digest)}


def _under(made: Made, group: str, key: str) -> Any:
    values = made.get(group)
    return values.get(key) if isinstance(values, dict) else None
