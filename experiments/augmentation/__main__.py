"""Augmentation for digits: seven ways, and which classes flips confuse."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.study import Row, Study, by_name, compared, draw_groups, finished
from resnet.analysis.runs import Run
from resnet.record.directory import FINISHED

# Each against the one that it adds something to.
BASELINES = {
    "flip": "none",
    "translate": "none",
    "translate + flip": "translate",
    "translate + cutout": "translate",
    "translate + mixup": "translate",
    "the article's": "translate + flip",
}
NAMES = ["none", *BASELINES]
SETTINGS = ["augment"]
CONFUSED = ("none", "flip")


def name(row: Row) -> str:
    """`crop(pad=2)+flip` is translate + flip."""
    operations = row["augment"].split("+")
    if operations[0] == "crop(pad=4,size=32)":
        return "the article's"
    return " + ".join("translate" if operation.startswith("crop") else operation for operation in operations)


def confusion(run: Run) -> Mapping[str, object]:
    """Of the test images: a line per class, a column per answer."""
    from resnet.analysis.evaluate import evaluate  # torch takes seconds to import, and drawing does not need it
    from resnet.analysis.saved import open_run

    is_finished = run.summary["status"] == FINISHED
    return {"confusion": evaluate(open_run(Path(run.path)), "test")["confusion"] if is_finished else None}


def grouped(rows: Sequence[Row]) -> dict[str, list[Row]]:
    return by_name(sorted(rows, key=lambda row: NAMES.index(name(row))), name)


def mistakes(rows: Sequence[Row]) -> np.ndarray:
    """Mean over the seeds of the test images of each class that were taken for each other class."""
    counts = np.mean([row["confusion"] for row in rows], axis=0)
    return counts - np.diag(np.diag(counts))


def draw_mistakes(axes: Axes, counts: np.ndarray, title: str, most: float) -> None:
    axes.imshow(counts, cmap="Reds", vmin=0, vmax=most)
    for (digit, answer), count in np.ndenumerate(counts):
        if count >= 1:
            axes.text(answer, digit, f"{count:.0f}", ha="center", va="center", color="white" if count > most / 2 else "black")
    axes.set(title=title, xlabel="answer", ylabel="digit", xticks=range(10), yticks=range(10))


def figure(rows: Sequence[Row]) -> Figure:
    drawn = Figure(figsize=(15, 4.6), layout="constrained")
    axes = drawn.subplots(1, 3)
    groups = grouped(rows)
    draw_groups(axes[0], groups, "test/accuracy")
    seen = {option: ended for option in CONFUSED if (ended := finished(groups[option]))}
    most = max((mistakes(rows).max() for rows in seen.values()), default=0)
    for panel, (option, rows) in zip(axes[1:], seen.items(), strict=False):
        draw_mistakes(panel, mistakes(rows), f"{option}: mistakes in 10,000, mean of {len(rows)} seeds", most)
    return drawn


def table(rows: Sequence[Row]) -> list[list[str]]:
    return compared([row for group in grouped(rows).values() for row in group], name, BASELINES, "test/accuracy")


STUDY = Study(Path(__file__).parent, ["augmentation"], SETTINGS, figure, table, more=confusion)
if __name__ == "__main__":
    STUDY.main()
