"""Degradation: training and held-out error over steps and against depth, with and without shortcuts."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure

from experiments.study import Row, Study, difference, in_training, spread, values, where
from resnet.runs.grouping import Run

KINDS = {"none": ("plain", "#c44e52"), "zero_pad": ("residual", "#4c72b0")}  # model.shortcut


def depth(row: Row) -> int:
    return 6 * row["model.layers"][0] + 2


def curves(run: Run) -> dict[str, object]:
    return {**in_training(run), "held-out curve": run.curve("val/accuracy")}


def figure(rows: Sequence[Row]) -> Figure:
    drawn = Figure(figsize=(13, 4.4), layout="constrained")
    axes = drawn.subplots(1, 3)
    depths = sorted({depth(row) for row in rows})
    for panel, (shortcut, (name, color)) in zip(axes, KINDS.items(), strict=False):
        for index, layers in enumerate(depths):
            alike = [row for row in where(rows, {"model.shortcut": shortcut}) if depth(row) == layers]
            for curve, style in (("training curve", "-"), ("held-out curve", ":")):
                steps = [step for step, _ in alike[0][curve]]
                errors = [100 * (1 - mean(row[curve][at][1] for row in alike)) for at in range(len(steps))]
                label = f"{layers} layers" if style == "-" else None
                panel.plot(steps, errors, style, color=color, alpha=0.3 + 0.7 * index / (len(depths) - 1), lw=1 + 0.5 * index, label=label)
        panel.set(title=f"{name}: error in training (lines), held out (dots)", xlabel="optimizer step", ylabel="error (%)", ylim=(20, 90))
        panel.legend()
        against = [(layers, where([row for row in rows if depth(row) == layers], {"model.shortcut": shortcut})) for layers in depths]
        errors = [[100 * (1 - value) for value in values(alike, "train/accuracy").values()] for _, alike in against]
        axes[2].plot(depths, [mean(found) for found in errors], "-", color=color, label=name)
        for layers, found in zip(depths, errors, strict=True):
            axes[2].plot([layers] * len(found), found, "o", color=color, ms=4)
    axes[2].set(title="training error at the end, a dot a seed", xlabel="layers", xticks=depths, ylabel="error (%)")
    axes[2].legend()
    for panel in axes:
        panel.grid(alpha=0.3)
    return drawn


def table(rows: Sequence[Row]) -> list[list[str]]:
    lines = [["layers", "metric", "plain, %", "residual, %", "residual against plain"]]
    depths = sorted({depth(row) for row in rows})
    for metric, name in (("train/accuracy", "training accuracy"), ("val/accuracy", "held-out accuracy")):
        for layers in depths:
            plain, residual = ([row for row in where(rows, {"model.shortcut": kind}) if depth(row) == layers] for kind in KINDS)
            told = difference(residual, plain, metric, 2 * len(depths))
            lines.append([str(layers), name, spread(plain, metric), spread(residual, metric), told])
    return lines


Study(Path(__file__).parent, ["degradation"], ["model.layers", "model.shortcut"], figure, table, more=curves, on_cifar10=True).main()
