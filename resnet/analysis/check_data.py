"""Looks at a data set before anything is trained on it: classes, unreadable files, duplicates, and a sheet of its images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from resnet.analysis.sheet import draw_sheet
from resnet.build_data import build_data
from resnet.config import Config
from resnet.data import Split, plain_size
from resnet.data.duplicates import Place, conflicting, nearly_same, same_images

SHEET = "classes.png"


def check_data(config: Config, folder: Path) -> dict[str, Any]:
    """Returns the report, and writes the sheet into `folder`. Files that cannot be read are reported rather than refused."""
    data = build_data(replace(config, data=replace(config.data, on_bad_file="skip")))
    parts = {name: split for name, split in (("train", data.train), ("val", data.val), ("test", data.test)) if split is not None}
    same = same_images(parts)
    near = [
        {"image": _name(data.classes, parts, (part, number)), "train": _name(data.classes, parts, ("train", other)), "correlation": alike}
        for part, split in parts.items()
        if part != "train"
        for number, other, alike in nearly_same(data.train, split)
    ]
    draw_sheet(folder / SHEET, data)
    return {
        "data": config.data.name,
        "image_size": plain_size(data.size),
        "channels": data.channels,
        "classes": {name: _counts(data.classes, split) for name, split in parts.items()},
        "notes": list(data.notes),
        "unreadable": list(data.unreadable),
        "duplicates": _named(data.classes, parts, same),
        "between_parts": _named(data.classes, parts, [those for those in same if len({part for part, _ in those}) > 1]),
        "label_conflicts": _named(data.classes, parts, conflicting(same, parts)),
        "nearly_same": near,
        "sheet": str(folder / SHEET),
    }


def _counts(classes: Sequence[str], split: Split) -> dict[str, int]:
    return dict(zip(classes, torch.bincount(split.labels, minlength=len(classes)).tolist(), strict=True))


def _named(classes: Sequence[str], parts: Mapping[str, Split], places: Sequence[Sequence[Place]]) -> list[list[str]]:
    return [[_name(classes, parts, place) for place in those] for those in places]


def _name(classes: Sequence[str], parts: Mapping[str, Split], place: Place) -> str:
    part, number = place
    origins = parts[part].origins
    told = f"{part}, {classes[int(parts[part].labels[number])]}"
    return f"{origins.names[number]} ({told})" if origins is not None else f"image {number} ({told})"
