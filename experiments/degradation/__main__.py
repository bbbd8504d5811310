"""Degradation: error in training and on test images over steps and against depth, with and without shortcuts."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure

from experiments.study import Row, Study, difference, finished, in_training, spread, values, where
from resnet.analysis.runs import Run

KINDS = {"none": ("plain", "#c44e52"), "zero_pad": ("residual", "#4c72b0")}  # model.shortcut
DEEP, SHALLOW = 56, 20  # layers that are compared
COMPARISONS = 3  # deep against shallow, plain and residual, and the difference between these two


def curves(run: Run) -> dict[str, object]:
    return {**in_training(run), "held-out curve": run.curve("val/accuracy")}


def layers(row: Row) -> int:
    return 6 * row["model.layers"][0] + 2


def of(rows: Sequence[Row], depth: int, shortcut: str) -> list[Row]:
    return [row for row in where(rows, {"model.shortcut": shortcut}) if layers(row) == depth]


def figure(rows: Sequence[Row]) -> Figure:
    drawn = Figure(figsize=(14, 4.4), layout="constrained")
    axes = drawn.subplots(1, 3, sharey=True)
    rows = finished(rows)
    depths = sorted({layers(row) for row in rows})
    for panel, (shortcut, (name, color)) in zip(axes, KINDS.items(), strict=False):
        for index, depth in enumerate(depths):
            for curve, style in (("training curve", "-"), ("held-out curve", ":")):
                together = list(zip(*(row[curve] for row in of(rows, depth, shortcut)), strict=True))
                errors = [100 * (1 - mean(accuracy for _, accuracy in at)) for at in together]
                label = f"{depth} layers" if style == "-" else None
                alpha, width = 0.3 + 0.7 * index / (len(depths) - 1), 1 + 0.5 * index
                panel.plot([at[0][0] for at in together], errors, style, color=color, alpha=alpha, lw=width, label=label)
        panel.set(title=f"{name}: error in training (lines), held out (dots)", xlabel="optimizer step", ylabel="error (%)")
        accuracies = {depth: values(of(rows, depth, shortcut), "train/accuracy").values() for depth in depths}
        errors_at = {depth: [100 * (1 - value) for value in found] for depth, found in accuracies.items() if found}
        axes[2].plot(list(errors_at), [mean(found) for found in errors_at.values()], "-", color=color, label=name)
        for depth, found in errors_at.items():
            axes[2].plot([depth] * len(found), found, "o", color=color, ms=4)
    axes[2].set(title="training error at the end, a dot a seed", xlabel="layers", xticks=depths, ylabel="error (%)")
    for panel in axes:
        panel.legend()
        panel.grid(alpha=0.3)
    return drawn


def table(rows: Sequence[Row]) -> list[list[str]]:
    lines = [["", "accuracy in training, %", "test accuracy, %", f"in training, against {SHALLOW} layers"]]
    gains = []
    for shortcut, (name, _) in KINDS.items():
        shallow, deep = (values(of(rows, depth, shortcut), "train/accuracy") for depth in (SHALLOW, DEEP))
        gains.append({seed: deep[seed] - shallow[seed] for seed in deep.keys() & shallow.keys()})
        for depth in sorted({layers(row) for row in rows}):
            alike = of(rows, depth, shortcut)
            verdict = difference(deep, shallow, "train/accuracy", COMPARISONS) if depth == DEEP else ""
            lines.append([f"{name}, {depth} layers", spread(alike, "train/accuracy"), spread(alike, "test/accuracy"), verdict])
    plain, residual = gains
    verdict = difference(residual, plain, "train/accuracy", COMPARISONS)
    return [*lines, [f"from {SHALLOW} to {DEEP} layers, residual against plain", "", "", verdict]]


SETTINGS = ["model.layers", "model.shortcut"]
STUDY = Study(Path(__file__).parent, ["degradation"], SETTINGS, figure, table, more=curves, on_cifar10=True)
if __name__ == "__main__":
    STUDY.main()
