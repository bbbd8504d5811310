"""Classes and probabilities for image files of any kind and size."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from resnet.analysis.answering import Answering
from resnet.analysis.saved import SavedRun
from resnet.analysis.temperature import saved_temperature
from resnet.analysis.unlike import answers_and_likeness
from resnet.config import UserError
from resnet.data import DataError, Split
from resnet.data.encoded import bad_files
from resnet.data.listing import LeftOut, pictures_in
from resnet.data.to_evaluate import prepared


def predict(run: SavedRun, paths: Sequence[Path], which: str | None = None) -> list[dict[str, Any]]:
    """Returns one entry per image, in the given order: its file, class and probabilities; or its file and the error, if it cannot be read.

    `unlike`: whether the image is unlike all that the model was trained on; None if that is not known, for the reason in `unlike_unknown`.
    A folder stands for its images, sorted by name. Probabilities are scaled by the temperature that `evaluate` has fitted to these weights,
    if there is one.

    Raises:
        UserError: no image can be read.
    """
    files, images, bad = read_pictures(run, paths)
    answering = Answering(run, which)
    logits, unlike, reason = answers_and_likeness(answering, images)
    temperature = saved_temperature(run, answering.file, answering.step)
    probabilities = (logits.double() / (temperature or 1)).softmax(1).tolist()
    shared = {**({"temperature": temperature} if temperature else {}), **({"unlike_unknown": reason} if reason else {})}
    known = zip(probabilities, unlike or [None] * len(probabilities), strict=True)  # type: ignore[list-item]
    return [
        {"file": str(file), "error": bad[row]} if row in bad else {**_entry(file, run.classes, *next(known)), **shared}
        for row, file in enumerate(files)
    ]


def read_pictures(run: SavedRun, paths: Sequence[Path]) -> tuple[list[Path], Split, dict[int, str]]:
    """Returns the files, the images of those that can be read, as in training, and why the others cannot, by their numbers.

    A folder stands for its images, sorted by name. Raises UserError if no image can be read.
    """
    try:
        files = _files(paths)
        images, bad = prepared(files, run.form, run.pictures)
    except DataError as error:
        raise UserError(str(error)) from None
    if len(bad) == len(files):
        raise UserError(bad[0] if len(bad) == 1 else bad_files("IMAGE", bad, len(files), "mend them, or take them away"))
    good = torch.tensor([row for row in range(len(files)) if row not in bad])
    return files, Split(images[good], torch.zeros(len(good), dtype=torch.int64)), bad


def _entry(file: Path, classes: list[str], probabilities: list[float], unlike: bool | None) -> dict[str, Any]:
    highest = max(probabilities)
    return {
        "file": str(file),
        "class": classes[probabilities.index(highest)],
        "probability": highest,
        "unlike": unlike,
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
