"""`python -m resnet explain`: what in a picture speaks for a class, and which training images are most like it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from resnet.analysis.answering import Answering
from resnet.analysis.export import check_writable
from resnet.analysis.features import Seen, features
from resnet.analysis.gradcam import find_section, grad_cam
from resnet.analysis.picture import Explained, Neighbour, draw_explained
from resnet.analysis.predict import read_pictures
from resnet.analysis.saved import SavedRun, load_data
from resnet.analysis.temperature import saved_temperature
from resnet.config import UserError
from resnet.config.suggest import nearest as meant
from resnet.data import Split
from resnet.data.files import fetched
from resnet.data.progress import shown
from resnet.data.transforms import centre_crop
from resnet.record.directory import RunDirectory

NEIGHBOURS = 5


def explain(
    run: SavedRun,
    paths: Sequence[Path],
    *,
    class_name: str | None = None,
    section: str | None = None,
    neighbours: int = NEIGHBOURS,
    which: str | None = None,
    folder: Path | None = None,
) -> list[dict[str, Any]]:
    """Writes a picture for each image into the folder (default: RUN/explain), and returns what is in it.

    `class_name`: explain this class instead of the predicted one. `section`: the part of the network whose feature maps are used (default:
    the last one with several positions). `neighbours`: training images to show. Raises UserError.
    """
    if class_name is not None and class_name not in run.classes:
        raise UserError(f"class={class_name}: no such class{meant(class_name, run.classes)}; choose of {', '.join(run.classes)}")
    if neighbours < 0:
        raise UserError(f"nearest={neighbours}: out of range; it must be at least 0")
    folder = folder or run.directory / "explain"
    check_writable(folder)
    files, images, bad = read_pictures(run, paths)
    read = [file for row, file in enumerate(files) if row not in bad]
    found = _explained(Answering(run, which), images, read, class_name, section, neighbours)
    rows = (_drawn(one, folder, name) for one, name in shown(zip(found, _names(read), strict=True), len(read), "drawing"))
    return [{"file": str(file), "error": bad[row]} if row in bad else next(rows) for row, file in enumerate(files)]


def _explained(
    answering: Answering, images: Split, files: Sequence[Path], class_name: str | None, section: str | None, neighbours: int
) -> list[Explained]:
    run, pixels = answering.run, centre_crop(fetched(images.images), answering.run.model_size)
    alike = _alike(answering, images, neighbours) if neighbours else [[] for _ in files]
    maps, logits, name = _maps(answering, images, section, class_name)
    probabilities = (logits.double() / (saved_temperature(run, answering.file, answering.step) or 1)).softmax(1).tolist()
    likely = [dict(zip(run.classes, row, strict=True)) for row in probabilities]
    labels = [run.classes[label] for label in _labels(run, logits, class_name).tolist()]
    columns = map(str, files), pixels, maps, labels, likely, alike, [name] * len(files)
    return [Explained(*values) for values in zip(*columns, strict=True)]


def _drawn(found: Explained, folder: Path, name: str) -> dict[str, Any]:
    RunDirectory(folder).write(name, partial(_write, draw_explained(found)))
    return {
        "file": found.title,
        "class": found.label,
        "probability": found.probabilities[found.label],
        "probabilities": dict(found.probabilities),
        "section": found.section,
        "nearest": [{key: value for key, value in one._asdict().items() if key != "image"} for one in found.neighbours],
        "picture": str(folder / name),
    }


def _write(content: bytes, file: IO[bytes]) -> None:
    file.write(content)


def _labels(run: SavedRun, logits: Tensor, class_name: str | None) -> Tensor:
    """Returns the class to explain for each image, (N,)."""
    return logits.argmax(1) if class_name is None else torch.full((len(logits),), run.classes.index(class_name), device=logits.device)


def _maps(answering: Answering, images: Split, section: str | None, class_name: str | None) -> tuple[Tensor, Tensor, str]:
    """Returns heat maps as large as the model's input (N, H, W) in 0..1, the logits, and the section's name."""
    loader = answering.loader(images)
    found, maps, logits = None, list[Tensor](), list[Tensor]()
    for batch, *_ in shown(loader.epoch(), len(loader), "explaining"):
        found = found or find_section(answering.network, answering.differentiable, batch, section)
        for image in batch.split(1):  # gradients of many large images need much memory
            with torch.no_grad():
                logits.append(answering.differentiable(image))
            heat = grad_cam(answering.differentiable, found[1], image, _labels(answering.run, logits[-1], class_name))
            maps.append(F.interpolate(heat[:, None], image.shape[-2:], mode="bilinear", align_corners=False)[:, 0].float().cpu())
    assert found is not None
    whole = torch.cat(maps)
    return whole / whole.amax((1, 2), keepdim=True).clamp_min(torch.finfo(whole.dtype).tiny), torch.cat(logits).cpu(), found[0]


def _alike(answering: Answering, images: Split, count: int) -> list[list[Neighbour]]:
    """Returns, for each image, the training images whose features are most alike (cosine)."""
    try:
        train = load_data(answering.run).train
    except UserError as error:
        raise UserError(f"{error}; nearest=0 explains without training images") from None
    known, asked = (_unit(features(answering, split, title)) for split, title in ((train, "training images"), (images, "images")))
    best = (asked @ known.T).topk(min(count, len(train)))
    return [
        [_neighbour(answering.run, train, index, value) for value, index in zip(values, indices, strict=True)]
        for values, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def _unit(seen: Seen) -> Tensor:
    return F.normalize(seen.features, dim=1)


def _neighbour(run: SavedRun, train: Split, index: int, likeness: float) -> Neighbour:
    images = train.images
    image = images[index] if isinstance(images, Tensor) else images.decode(index)
    file = str(train.origins.paths[index]) if train.origins else ""
    return Neighbour(image, run.classes[int(train.labels[index])], likeness, index, file)


def _names(files: Sequence[Path]) -> list[str]:
    """Returns a name for each picture; files of one name get numbers."""
    names: list[str] = []
    for file in files:
        same = sum(name == f"{file.stem}.png" or name.startswith(f"{file.stem}_") for name in names)
        names.append(f"{file.stem}_{same + 1}.png" if f"{file.stem}.png" in names else f"{file.stem}.png")
    return names
