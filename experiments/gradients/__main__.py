"""Gradients: their norm layer by layer, at initialisation and in training; what ReLU, shortcuts and batch normalisation each do."""

from collections.abc import Sequence
from itertools import product
from math import log10
from pathlib import Path
from statistics import mean

import numpy as np
from matplotlib.figure import Figure

from experiments.study import Row, Study, where
from resnet.runs.grouping import Run
from resnet.runs.intervals import t_interval

KINDS = list(product(("none", "zero_pad"), ("sigmoid", "relu"), ("none", "batch")))  # shortcut, activation, norm
STAGES = 3


def gradients(run: Run) -> dict[str, object]:
    """Of each watched step the norms of all weights' gradients, from the stem to the head."""
    columns = [key for key in (run.rows[0] if run.rows else []) if key.startswith("grad_norm/")]
    watched = [row for row in run.rows if columns and row[columns[0]] is not None]
    return {"max_steps": run.setting("max_steps"), "gradients": [[row["step"], [row[key] for key in columns]] for row in watched]}


def of_kind(rows: Sequence[Row], kind: tuple[str, str, str], max_steps: int) -> list[Row]:
    shortcut, activation, norm = kind
    return where(rows, model__shortcut=shortcut, model__activation=activation, model__norm=norm, max_steps=max_steps)


def name(kind: tuple[str, str, str]) -> str:
    shortcut, activation, norm = kind
    return f"{'plain' if shortcut == 'none' else 'residual'}, {activation}{', batch norm' if norm == 'batch' else ''}"


def logs(norms: Sequence[float | None]) -> list[float]:
    """Not a number where a gradient is zero, or was not finite."""
    return [log10(norm) if norm else float("nan") for norm in norms]


def factor_per_layer(row: Row, at: int = 0) -> float | None:
    """What a layer multiplies the gradient by on its way back: a line through the logarithms, the same for the layers of all stages."""
    if len(row["gradients"]) <= at:
        return None
    stages = np.array(logs(row["gradients"][at][1])[1:-1]).reshape(STAGES, -1)
    if not np.isfinite(stages).all():
        return None
    layers = np.arange(stages.shape[1]) - (stages.shape[1] - 1) / 2
    slope = (stages * layers).sum() / (STAGES * (layers**2).sum())
    return float(10**-slope)


def told(rows: Sequence[Row], at: int = 0) -> str:
    """Mean and interval over the seeds."""
    factors = [factor for row in rows if (factor := factor_per_layer(row, at)) is not None]
    if not factors:
        return "zero or not finite"
    interval = t_interval(factors)
    lacking = f", {len(factors)} of {len(rows)} seeds" if len(factors) < len(rows) else ""
    return f"{mean(factors):.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "") + lacking


def average(rows: Sequence[Row], at: int) -> list[float]:
    return list(np.mean([logs(row["gradients"][at][1]) for row in rows if len(row["gradients"]) > at], axis=0))


def figure(rows: Sequence[Row]) -> Figure:
    drawn = Figure(figsize=(15, 8), layout="constrained")
    axes = drawn.subplots(4, 4)
    for panel, begun, kind in zip(axes[::2].flat, axes[1::2].flat, KINDS, strict=True):
        one, other = of_kind(rows, kind, 1), of_kind(rows, kind, 100)
        depths = sorted({row["model.layers"][0] for row in one})
        at_init = [average([row for row in one if row["model.layers"][0] == n], 0) for n in depths]
        steps = max(len(row["gradients"]) for row in other)
        in_training = [average(other, at) for at in range(steps)]
        for place, lines in ((panel, at_init), (begun, in_training)):
            longest = max(map(len, lines))
            image = np.array([[*line, *[np.nan] * (longest - len(line))] for line in lines])
            shown = place.imshow(image, aspect="auto", cmap="viridis", vmin=-8, vmax=2, interpolation="nearest")
            place.set_facecolor("lightgray")
        panel.set_yticks(range(len(depths)), [str(6 * n + 2) for n in depths])
        panel.set(title=name(kind), ylabel="layers of the network")
        watched = [int(step) for step, _ in max((row["gradients"] for row in other), key=len)]
        begun.set_yticks(range(0, steps, 5), [str(watched[at]) for at in range(0, steps, 5)])
        begun.set(xlabel="layer, from the stem to the head", ylabel="step, 56 layers")
    drawn.colorbar(shown, ax=axes, label="log10 of the gradient's norm (gray: none, zero or not finite)", shrink=0.6)
    return drawn


def table(rows: Sequence[Row]) -> list[list[str]]:
    lines = [["network", "20 layers", "56 layers", "110 layers", "56 layers, after 100 steps"]]
    for kind in KINDS:
        at_init, trained = of_kind(rows, kind, 1), of_kind(rows, kind, 100)
        lines.append([name(kind), *(told(where(at_init, model__layers=[n] * 3)) for n in (3, 9, 18)), told(trained, 10)])
    return lines


SETTINGS = ["model.layers", "model.shortcut", "model.activation", "model.norm"]
Study(Path(__file__).parent, ["gradients", "gradients_training"], SETTINGS, figure, table, more=gradients).main()
