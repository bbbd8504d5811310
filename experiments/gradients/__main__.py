"""Gradients: their norm layer by layer, at initialisation and in training; what ReLU, shortcuts and batch normalisation each do."""

from collections.abc import Mapping, Sequence
from itertools import product
from math import nan
from pathlib import Path
from statistics import mean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from experiments.gradients.rates import STAGES, logs, slope
from experiments.study import Row, Study, power_of_ten, where
from resnet.analysis.runs import Run

NETWORKS = {("none", "basic"): "plain", ("zero_pad", "basic"): "residual", ("zero_pad", "preact_basic"): "pre-activation"}
KINDS = list(product(NETWORKS, ("sigmoid", "relu"), ("none", "batch")))  # (shortcut, block), activation, norm
Kind = tuple[tuple[str, str], str, str]


def gradients(run: Run) -> dict[str, object]:
    """Of each watched step the norms of all weights' gradients, from the stem to the head."""
    columns = [key for key in (run.rows[0] if run.rows else []) if key.startswith("grad_norm/")]
    watched = [row for row in run.rows if columns and row[columns[0]] is not None]
    return {"gradients": [[row["step"], [row[key] for key in columns]] for row in watched]}


def of_kind(rows: Sequence[Row], kind: Kind, max_steps: int) -> list[Row]:
    (shortcut, block), activation, norm = kind
    wanted = {"model.shortcut": shortcut, "model.block": block, "model.activation": activation, "model.norm": norm}
    return where(rows, {**wanted, "max_steps": max_steps})


def name(kind: Kind) -> str:
    network, activation, norm = kind
    return f"{NETWORKS[network]}, {activation}{', batch norm' if norm == 'batch' else ''}"


def in_words(rows: Sequence[Row], at: int = 0) -> str:
    """What a layer multiplies the norm by, with its interval, and how many gradients are zero."""
    slopes = [found for row in rows if (found := slope(row, at)) is not None]
    lacking = f", {len(rows) - len(slopes)} of {len(rows)} seeds not finite" if len(slopes) < len(rows) else ""
    zeros = mean(sum(norm == 0 for norm in row["gradients"][at][1]) for row in rows if len(row["gradients"]) > at) if slopes else 0
    vanished = f", {zeros:.0f} layers' gradients zero" if zeros else ""
    return power_of_ten(slopes) + vanished + lacking if slopes else lacking.removeprefix(", ")


def ends(rows: Sequence[Row]) -> str:
    """log10 of the norms at the first and the last convolution."""
    seen = [logs(row, 0) for row in rows if row["gradients"]]
    first, last = np.median([(norms[0], norms[-2]) for norms in seen], axis=0) if seen else (nan, nan)
    return f"{first:.1f}, {last:.1f}"


def average(rows: Sequence[Row], at: int) -> list[float]:
    seen = [logs(row, at) for row in rows if len(row["gradients"]) > at]
    return list(np.nan_to_num(np.mean(seen, axis=0), nan=nan, neginf=-99)) if seen else [nan]


def draw(axes: Axes, lines: Sequence[Sequence[float]], labels: Mapping[int, str]) -> AxesImage:
    longest = max(map(len, lines))
    axes.set_yticks(list(labels), list(labels.values()))
    filled = [[*line, *[nan] * (longest - len(line))] for line in lines]
    return axes.imshow(filled, aspect="auto", vmin=-8, vmax=8, cmap="coolwarm", interpolation="nearest")


def figure(rows: Sequence[Row]) -> Figure:
    drawn = Figure(figsize=(14, 10.5), layout="constrained")
    axes = drawn.subplots(6, 4)
    for upper, lower, kind in zip(axes[::2].flat, axes[1::2].flat, KINDS, strict=True):
        at_init, trained = of_kind(rows, kind, 1), of_kind(rows, kind, 100)
        blocks = sorted({row["model.layers"][0] for row in at_init})
        lines = [average(where(at_init, {"model.layers": [n] * STAGES}), 0) for n in blocks]
        shown = draw(upper, lines, {place: str(6 * n + 2) for place, n in enumerate(blocks)})
        upper.set(title=name(kind), ylabel="layers, step 1")
        steps = max(([step for step, _ in row["gradients"]] for row in trained), key=len)
        lines = [average(trained, at) for at in range(len(steps))]
        draw(lower, lines, {at: f"{steps[at]:.0f}" for at in range(0, len(steps), 5)})
        lower.set(xlabel="layer, from the stem to the head", ylabel="step, 56 layers")
    drawn.colorbar(shown, ax=axes, label="log10 of the gradient's norm (white: none, or not finite)")
    return drawn


def table(rows: Sequence[Row]) -> list[list[str]]:
    lines = [["network", "20 layers", "56 layers", "110 layers", "110 layers: log10 of first and last norm", "56 layers, after 100 steps"]]
    for kind in KINDS:
        at_init, trained = of_kind(rows, kind, 1), of_kind(rows, kind, 100)
        of_size = [where(at_init, {"model.layers": [n] * STAGES}) for n in (3, 9, 18)]
        lines.append([name(kind), *map(in_words, of_size), ends(of_size[-1]), in_words(trained, 10)])
    return lines


SETTINGS = ["max_steps", "model.layers", "model.shortcut", "model.block", "model.activation", "model.norm"]
SWEEPS = ["gradients", "gradients_preact", "gradients_training", "gradients_training_preact"]
STUDY = Study(Path(__file__).parent, SWEEPS, SETTINGS, figure, table, more=gradients)
if __name__ == "__main__":
    STUDY.main()
