"""`python -m resnet features`: the features of all splits or of own images, in a file, and what they tell of the classes."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from resnet.analysis.answering import Answering
from resnet.analysis.features import Seen, features
from resnet.analysis.intervals import Share, share
from resnet.analysis.predict import read_pictures
from resnet.analysis.probing import Labelled, probe
from resnet.analysis.saved import SavedRun, changed_data, load_data
from resnet.config import UserError
from resnet.data import Split
from resnet.record.directory import RunDirectory

UNKNOWN = -1  # the label of an own image whose folder is not named as a class
Arrays = dict[str, Any]


def embed(run: SavedRun, paths: Sequence[Path] = (), output: Path | None = None, which: str | None = None) -> dict[str, Any]:
    """Returns the accuracies of the network, of a vote of nearest neighbours and of a linear probe, on the test images or on own ones.

    `paths`: own images, files or folders; the label of an image is the class that its folder is named as. `output`: an .npz file to write.
    Raises UserError.
    """
    if output is not None and output.suffix != ".npz":
        raise UserError(f"output={output}: a file that ends in .npz is needed")
    data, answering = load_data(run), Answering(run, which)
    splits: dict[str, Split] = {"train": data.train, **({"val": data.val} if data.val else {}), "test": data.test}
    files = {name: [str(path) for path in split.origins.paths] for name, split in splits.items() if split.origins is not None}
    bad: dict[int, str] = {}
    if paths:
        files["own"], splits["own"], bad = _own(run, paths)
    seen = {name: features(answering, split, f"features of {name}") for name, split in splits.items()}
    labelled = {name: _labelled(seen[name], split.labels) for name, split in splits.items()}
    judged = "own" if paths else "test"
    report = {
        "run": str(run.directory.path),
        "checkpoint": answering.file,
        "step": answering.step,
        "features": seen["train"].features.shape[1],
        "images": {name: len(split) for name, split in splits.items()},
        "changed_data": changed_data(run, data),
        "left_out": list(bad.values()),
        "judged_on": judged,
        "labelled": len(labelled[judged].labels),
    }
    if report["labelled"]:
        report |= {"network": _network(seen[judged], splits[judged].labels)}
        report |= probe(labelled["train"], labelled.get("val"), labelled[judged])
    if output is not None:
        RunDirectory(output.parent).write(output.name, partial(_write, _arrays(seen, splits, files, run.classes)))
    return {**report, "output": output and str(output)}


def _own(run: SavedRun, paths: Sequence[Path]) -> tuple[list[str], Split, dict[int, str]]:
    files, split, bad = read_pictures(run, paths)
    read = [file for row, file in enumerate(files) if row not in bad]
    numbers = {name: number for number, name in enumerate(run.classes)}
    labels = torch.tensor([numbers.get(file.parent.name, UNKNOWN) for file in read])
    return [str(file) for file in read], Split(split.images, labels), bad


def _labelled(seen: Seen, labels: Tensor) -> Labelled:
    known = labels != UNKNOWN
    return Labelled(seen.features[known].numpy(), labels[known].numpy())


def _network(seen: Seen, labels: Tensor) -> Share:
    known = labels != UNKNOWN
    return share(int((seen.logits[known].argmax(1) == labels[known]).sum()), int(known.sum()))


def _arrays(seen: dict[str, Seen], splits: dict[str, Split], files: dict[str, list[str]], classes: Sequence[str]) -> Arrays:
    arrays: Arrays = {"classes": np.array(list(classes))}
    for name, found in seen.items():
        arrays |= {f"x_{name}": found.features.numpy(), f"y_{name}": splits[name].labels.numpy()}
        arrays |= {f"files_{name}": np.array(files[name])} if name in files else {}
    return arrays


def _write(arrays: Arrays, file: IO[bytes]) -> None:
    np.savez(file, **arrays)
