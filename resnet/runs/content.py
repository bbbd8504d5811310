"""What a run was made of besides its config: data, first weights and code, by digest. One that is not known differs from none."""

from collections.abc import Mapping
from typing import Any

Made = Mapping[str, Any]  # as in a summary: `data`, `weights`, `code`
PARTS = {"train": "training images", "val": "held-out images", "test": "test images", "classes": "names of the classes"}


def other_data(before: Made, now: Made) -> list[str]:
    """Each part that differs, like `test images: digest 1a2b3c4d -> 5e6f7a8b`; labels and order are of the images."""
    old, new = _data(before), _data(now)
    return [_change(name, part, old, new) for part, name in PARTS.items() if _differs(old, new, part)]


def other_weights(before: Made, now: Made) -> str | None:
    """Of the file that training began from."""
    old, new = weights_digest(before), weights_digest(now)
    return f"model.weights: digest {short(old)} -> {short(new)}" if old and new and old != new else None


def data_digest(made: Made) -> str | None:
    return _data(made).get("digest")


def other_code(before: Made, now: Made) -> list[str]:
    """The modules that have changed. One that only one side imported says nothing: commands import different ones."""
    old, new = module_digests(before), module_digests(now)
    return [name for name, digest in old.items() if new.get(name, digest) != digest]


def weights_digest(made: Made) -> str | None:
    return made.get("weights")


def module_digests(made: Made) -> dict[str, str]:
    return (made.get("code") or {}).get("modules") or {}


def short(digest: str) -> str:
    return digest[:8]


def _data(made: Made) -> dict[str, Any]:
    return made.get("data") or {}


def _differs(old: Made, new: Made, part: str) -> bool:
    digests = [data.get("digests") or {} for data in (old, new)]
    return all(digests) and digests[0].get(part) != digests[1].get(part)


def _change(name: str, part: str, old: Made, new: Made) -> str:
    is_number = part != "classes" and old.get(part) != new.get(part)
    number = f"{old.get(part)} -> {new.get(part)} of them, " if is_number else ""
    before, now = (short(data["digests"].get(part, "none")) for data in (old, new))
    return f"{name}: {number}digest {before} -> {now}"
