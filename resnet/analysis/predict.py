"""Classes and probabilities for image files of any kind and size."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from resnet.analysis.saved import SavedRun, answer
from resnet.config import UserError
from resnet.data import DataError, Split
from resnet.data.folder import bad_files
from resnet.data.listing import LeftOut, pictures_in
from resnet.data.to_evaluate import prepared


def predict(run: SavedRun, paths: Sequence[Path], which: str | None = None) -> list[dict[str, Any]]:
    """Returns one entry per image, in the given order: its file, class and probabilities; or its file and the error, if it cannot be read.

    A folder stands for its images, sorted by name.

    Raises:
        UserError: no image can be read.
    """
    try:
        files = _files(paths)
        images, bad = prepared(files, run.form, run.pictures)
    except DataError as error:
        raise UserError(str(error)) from None
    if len(bad) == len(files):
        raise UserError(bad[0] if len(bad) == 1 else bad_files("IMAGE", bad, len(files), "mend them, or take them away"))
    good = [row for row in range(len(files)) if row not in bad]
    logits = answer(run, Split(images[torch.tensor(good)], torch.zeros(len(good), dtype=torch.int64)), which)[0].logits
    assert logits is not None
    probabilities = dict(zip(good, logits.double().softmax(1).tolist(), strict=True))
    return [
        {"file": str(file), "error": bad[row]} if row in bad else _entry(file, run.classes, probabilities[row])
        for row, file in enumerate(files)
    ]


def _entry(file: Path, classes: list[str], probabilities: list[float]) -> dict[str, Any]:
    highest = max(probabilities)
    return {
        "file": str(file),
        "class": classes[probabilities.index(highest)],
        "probability": highest,
        "probabilities": dict(zip(classes, probabilities, strict=True)),
    }


def _files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        found = pictures_in(path, LeftOut(path)) if path.is_dir() else [path]
        if not found:
            raise UserError(f"{path}: no images in it")
        files += found
    return files
