"""Classes and probabilities for image files of any kind and size."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from resnet.analysis.saved import SavedRun, answer
from resnet.config import UserError
from resnet.data import DataError, Split
from resnet.data.as_trained import as_trained
from resnet.data.files import SUFFIXES, files_in


def predict(run: SavedRun, paths: Sequence[Path], which: str | None = None) -> list[dict[str, Any]]:
    """Returns one entry per image, in the given order. A folder stands for its images, sorted by name."""
    try:
        files = _files(paths)
        images = torch.stack([as_trained(file, run.form, run.pictures) for file in files])
    except DataError as error:
        raise UserError(str(error)) from None
    logits = answer(run, Split(images, torch.zeros(len(images), dtype=torch.int64)), which)[0].logits
    assert logits is not None
    return [
        {
            "file": str(file),
            "class": run.classes[row.index(max(row))],
            "probability": max(row),
            "probabilities": dict(zip(run.classes, row, strict=True)),
        }
        for file, row in zip(files, logits.double().softmax(1).tolist(), strict=True)
    ]


def _files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        found = files_in(path) if path.is_dir() else [path]
        if not found:
            raise UserError(f"{path}: no images in it ({', '.join(sorted(SUFFIXES))})")
        files += found
    return files
