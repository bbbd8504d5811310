"""Draws a run's learning curves and its probes' metrics from its metrics.csv."""

import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING

from resnet.plain import for_picture
from resnet.record.directory import CURVES, PROBES, PROFILE, Row, RunDirectory
from resnet.record.metrics import Metric

if TYPE_CHECKING:  # the import takes a second
    from matplotlib.figure import Figure

PROBED = ("grad_norm", "update_ratio", "activation_mean", "activation_var")  # metrics of the built-in probes, one per layer
WIDE_TITLE = 110  # characters per line
TRAINING, HELD_OUT = "#4c72b0", "#dd8452"


def draw_curves(directory: RunDirectory, title: str, chosen: Metric) -> None:
    """Draws curves.png: training and held-out loss, accuracy and the metric that chose the checkpoint, over optimizer steps."""
    rows = directory.metrics
    figure = _figure(4, title)
    shares = {"loss": False, "accuracy": True, chosen.key.removeprefix("val/"): chosen.is_share}
    for axes, (metric, is_share) in zip(figure.subplots(1, len(shares)), shares.items(), strict=True):
        scale = 100 if is_share else 1
        for part, label, color, marker in (("train", "training", TRAINING, ""), ("val", "held out", HELD_OUT, "o")):
            steps, values = _series(rows, f"{part}/{metric}")
            if steps:
                axes.plot(steps, [scale * value for value in values], color=color, marker=marker, markersize=4, label=label)
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(for_picture(f"{metric} (%)" if is_share else metric))
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    _save(directory, CURVES, figure)


def draw_probes(directory: RunDirectory, title: str) -> None:
    """Draws probes.png: each metric over depth, one line per watched step, from dark to light. Draws nothing if no step was watched."""
    from matplotlib import colormaps

    rows = directory.metrics
    layers: dict[str, list[str]] = {}
    for column in rows[0] if rows else ():
        metric, slash, _ = column.partition("/")
        if slash and metric in PROBED:
            layers.setdefault(metric, []).append(column)
    if not layers:
        return
    figure = _figure(1 + 3.2 * len(layers), title)
    for axes, (metric, columns) in zip(figure.subplots(len(layers), squeeze=False).flat, layers.items(), strict=True):
        watched = [row for row in rows if row[columns[0]] is not None]
        for index, row in enumerate(watched):
            label = f"step {row['step']:.0f}" if index in (0, len(watched) - 1) else None
            shade = colormaps["viridis"](0.9 * index / max(len(watched) - 1, 1))
            axes.plot(range(len(columns)), [row[column] for column in columns], color=shade, marker=".", label=label)
        if metric != "activation_mean":  # activation_mean may be negative
            axes.set_yscale("log")
        names = [for_picture(column.removeprefix(f"{metric}/")) for column in columns]
        shown = range(0, len(names), max(len(names) // 25, 1))
        axes.set_xticks(list(shown), [names[index] for index in shown], rotation=60, ha="right", fontsize=7)
        axes.set_ylabel(for_picture(metric))
        axes.grid(alpha=0.3)
        if watched:
            axes.legend()
    _save(directory, PROBES, figure)


def _figure(height: float, title: str) -> "Figure":
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # the first import logs about fonts and read-only homes
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, height), layout="constrained")
    figure.suptitle(fill(for_picture(title), WIDE_TITLE), fontsize=11)
    return figure


def _save(directory: RunDirectory, name: str, figure: "Figure") -> None:
    content = png(figure, 120)
    directory.write(name, lambda file: file.write(content))


def png(figure: "Figure", dpi: int) -> bytes:
    """Renders a figure. Suppresses the warning about a character that the font lacks, which is drawn as a box."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def draw_profile(directory: RunDirectory, title: str, milliseconds: Mapping[str, float]) -> None:
    """Draws profile.png: the parts of a step's time, the largest on top."""
    parts = sorted(milliseconds.items(), key=lambda part: part[1])
    whole = sum(milliseconds.values())
    figure = _figure(1 + 0.4 * len(parts), title)
    axes = figure.subplots()
    bars = axes.barh([name for name, _ in parts], [value for _, value in parts], color=TRAINING)
    axes.bar_label(bars, [f"{value:.1f} ms, {value / whole:.0%}" for _, value in parts], padding=4, fontsize=9)
    axes.set_xlim(0, 1.25 * max(milliseconds.values()))
    axes.set_xlabel("milliseconds a step")
    _save(directory, PROFILE, figure)


def _series(rows: Sequence[Row], column: str) -> tuple[list[float], list[float]]:
    """Returns the steps and values of the rows that have the metric."""
    points = [(row["step"], row.get(column)) for row in rows]
    known = [(step, value) for step, value in points if step is not None and value is not None]
    return [step for step, _ in known], [value for _, value in known]
