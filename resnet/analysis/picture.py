"""The picture of an explained image: it, its heat map, its most likely classes, and the training images that are most like it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from resnet.plain import for_picture
from resnet.record.curves import png
from resnet.record.lines import percent

HEAT, OPACITY = "inferno", 0.8  # of the hottest place
SHOWN = 5  # classes
LONGEST = 24  # characters of a class


class Neighbour(NamedTuple):
    image: Tensor  # (C, H, W) uint8
    label: str
    likeness: float  # cosine of the features
    number: int  # in the training split
    file: str  # empty if it is not known


class Explained(NamedTuple):
    title: str
    image: Tensor  # (C, H, W) uint8
    heat: Tensor  # (H, W) in 0..1
    label: str
    probabilities: Mapping[str, float]
    neighbours: Sequence[Neighbour]
    section: str


def draw_explained(found: Explained) -> bytes:
    """Draws a PNG."""
    from matplotlib.figure import Figure

    rows = 2 if found.neighbours else 1
    figure = Figure(figsize=(10, 3.6 + 2.2 * (rows - 1)), layout="constrained")
    figure.suptitle(for_picture(found.title), fontsize=11, parse_math=False)
    parts = figure.subfigures(rows, 1, height_ratios=[3.2, 2.2][:rows], squeeze=False)[:, 0]
    original, over, bars = parts[0].subplots(1, 3)
    _show(original, found.image, "as the network sees it")
    _show(over, found.image, f"Grad-CAM of {_short(found.label)}")
    over.imshow(found.heat.numpy(), cmap=HEAT, alpha=OPACITY * found.heat.numpy(), vmin=0, vmax=1)
    likely = sorted(found.probabilities.items(), key=lambda item: -item[1])[:SHOWN]
    names, values = [_short(name) for name, _ in likely], [value for _, value in likely]
    drawn = bars.barh(range(len(names)), values, color="#4c72b0")
    bars.bar_label(drawn, [percent(value) for value in values], padding=3, fontsize=9)
    bars.set_yticks(range(len(names)), names, parse_math=False)
    bars.set_xlim(0, 1.3)
    bars.set_xticks([0, 0.5, 1])
    bars.set_title("probability", fontsize=10)
    bars.invert_yaxis()
    bars.spines[["top", "right"]].set_visible(False)
    if found.neighbours:
        parts[1].suptitle("nearest training images", fontsize=10)
        for axes, one in zip(parts[1].subplots(1, len(found.neighbours), squeeze=False)[0], found.neighbours, strict=True):
            _show(axes, one.image, f"{_short(one.label)}, {one.likeness:.2f}")
    return png(figure, 110)


def _show(axes: Any, image: Tensor, title: str) -> None:
    pixels = image.permute(1, 2, 0).numpy()
    axes.imshow(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels, cmap="gray", vmin=0, vmax=255)
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.axis("off")


def _short(name: str) -> str:
    name = for_picture(name)
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
