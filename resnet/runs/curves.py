"""Draws a run's learning curves from its metrics.csv."""

import io
from collections.abc import Sequence

from resnet.runs.directory import CURVES, Row, RunDirectory

TRAINING, HELD_OUT = "#4c72b0", "#dd8452"


def draw_curves(directory: RunDirectory, title: str) -> None:
    """curves.png: loss and accuracy over optimizer steps, in training and held out."""
    from matplotlib.figure import Figure

    rows = directory.metrics
    figure = Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle(title, fontsize=11)
    for axes, metric, scale in zip(figure.subplots(1, 2), ("loss", "accuracy"), (1, 100), strict=True):
        for part, label, color, marker in (("train", "training", TRAINING, ""), ("val", "held out", HELD_OUT, "o")):
            steps, values = _series(rows, f"{part}/{metric}")
            if steps:
                axes.plot(steps, [scale * value for value in values], color=color, marker=marker, markersize=4, label=label)
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("cross-entropy loss" if metric == "loss" else "accuracy (%)")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    directory.write(CURVES, lambda file: file.write(buffer.getvalue()))


def _series(rows: Sequence[Row], column: str) -> tuple[list[float], list[float]]:
    """Steps and values of the rows that have the metric."""
    points = [(row["step"], row[column]) for row in rows]
    kept = [(step, value) for step, value in points if step is not None and value is not None]
    return [step for step, _ in kept], [value for _, value in kept]
