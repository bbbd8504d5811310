"""The confusion matrix of an evaluation: counts, and a picture."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet.plain import for_picture
from resnet.record.curves import png
from resnet.record.directory import DirectoryError, RunDirectory

MOST_CLASSES = 1000  # classes in a confusion matrix, which grows with their square


def confusion(answers: NDArray[np.int64], labels: NDArray[np.int64], num_classes: int) -> list[list[int]] | None:
    """Returns a row for each true class and a column for each predicted one; None for too many classes."""
    if num_classes > MOST_CLASSES:
        return None
    counts = np.bincount(labels * num_classes + answers, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).tolist()  # type: ignore[no-any-return]


def write_confusion(report: dict[str, Any], directory: RunDirectory) -> dict[str, Any]:
    """Returns the picture's path, in the working directory if the run cannot be written. If there is no picture, returns None and the
    reason.
    """
    if report["confusion"] is None:
        return {"picture": None, "no_picture": f"not drawn for more than {MOST_CLASSES:,} classes"}
    kind = "".join(f"_{word}" for word in ("ensemble", "averaged") if word in report)
    name = f"confusion_{report['images']}{kind}.png"
    picture = draw_confusion(report)
    places = [(directory, name), (RunDirectory("."), f"{directory.path.resolve().name}_{name}")]
    for place, file_name in places:
        try:
            place.write(file_name, lambda file: file.write(picture))
            return {"picture": str(place / file_name)}
        except DirectoryError as error:
            reason = str(error).partition(";")[0]
    return {"picture": None, "no_picture": reason}


def draw_confusion(report: dict[str, Any]) -> bytes:
    """Draws a PNG: rows are true classes, columns are predictions. The shade is the share of the row, scaled so that few mistakes stay
    visible.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    names = [for_picture(row["class"]) for row in report["classes"]]
    counts = np.array(report["confusion"])
    side = max(5.0, 1.5 + 0.45 * min(len(names), 40))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Blues", norm=PowerNorm(0.3, 0, 1))
    axes.set_title(f"{report['images']}: {100 * report['accuracy']['value']:.2f} % of {report['number']:,} images", fontsize=11)
    axes.set_xlabel("answer")
    axes.set_ylabel("true class")
    if len(names) <= 40:
        axes.set_xticks(
            range(len(names)),
            names,
            rotation=45 if max(map(len, names)) > 2 else 0,
            ha="right" if max(map(len, names)) > 2 else "center",
            parse_math=False,  # a class name may contain $
        )
        axes.set_yticks(range(len(names)), names, parse_math=False)
    if len(names) <= 20:
        for row, column in zip(*counts.nonzero(), strict=True):
            is_dark = counts[row, column] > 0.25 * counts[row].sum()
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8, color="white" if is_dark else "black")
    return png(figure, 110)
