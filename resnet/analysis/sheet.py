"""Draws a sheet of a data set: some training images of each class in a row."""

from collections.abc import Sequence
from pathlib import Path

import torch

from resnet.data import DataSet
from resnet.data.files import fetched
from resnet.plain import for_picture
from resnet.record.curves import png

MOST_ROWS, PER_CLASS = 20, 10  # classes and images
INCH = 1.0  # per image


def draw_sheet(file: Path, data: DataSet) -> None:
    """Writes a PNG. Of more than 20 classes it shows the first ones. The images of a class are evenly spread over the training set."""
    from matplotlib.figure import Figure

    rows = min(len(data.classes), MOST_ROWS)
    figure = Figure(figsize=(INCH * PER_CLASS + 2, INCH * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, PER_CLASS, squeeze=False)
    more = f", the first {rows} of {len(data.classes):,} classes" if len(data.classes) > rows else ""
    figure.suptitle(for_picture(f"training images as the network gets them, before augmentation{more}"), fontsize=10)
    for label, line in enumerate(axes):
        members = (data.train.labels == label).nonzero().flatten()
        for place in line:
            place.set_axis_off()
        line[0].text(
            -0.15,
            0.5,
            f"{for_picture(data.classes[label])}\n{len(members):,}",
            transform=line[0].transAxes,
            ha="right",
            va="center",
            fontsize=9,
        )
        for place, image in zip(line, _some(data, members), strict=False):
            place.imshow(image.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(png(figure, 100))


def _some(data: DataSet, members: torch.Tensor) -> Sequence[torch.Tensor]:
    if not len(members):
        return []
    spread = members[torch.linspace(0, len(members) - 1, min(len(members), PER_CLASS)).long()]
    return list(fetched(data.train.images[spread]))
