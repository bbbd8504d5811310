"""Blocks: original and pre-activation, basic and bottleneck at equal operations; started as the identity; skipped at random."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure

from experiments.study import Row, Study, by_name, compared, draw_groups, finished, in_training

BASELINES = {  # each against the one that it changes one thing of
    "bottleneck": "basic",
    "preact basic": "basic",
    "preact bottleneck": "bottleneck",
    "basic, zero init": "basic",
    "basic, stochastic depth": "basic",
}
SETTINGS = ["model.block", "model.zero_init_residual", "model.stochastic_depth"]


def name(row: Row) -> str:
    more = ", zero init" if row["model.zero_init_residual"] else ", stochastic depth" if row["model.stochastic_depth"] else ""
    return row["model.block"].replace("_", " ") + more


def figure(rows: Sequence[Row]) -> Figure:
    drawn = Figure(figsize=(13, 4.4), layout="constrained")
    left, right = drawn.subplots(1, 2)
    groups = by_name(rows, name)
    for key, alike in by_name(finished(rows), name).items():
        curves = [row["training curve"] for row in alike]
        left.plot([step for step, _ in curves[0]], [100 * mean(value for _, value in at) for at in zip(*curves, strict=True)], label=key)
    left.set(xlabel="optimizer step", ylabel="accuracy in training (%), mean of the seeds")
    left.grid(alpha=0.3)
    left.legend()
    draw_groups(right, groups, "test/accuracy")
    return drawn


def table(rows: Sequence[Row]) -> list[list[str]]:
    return compared(rows, name, BASELINES, "train/accuracy", "test/accuracy")


STUDY = Study(
    Path(__file__).parent,
    ["blocks", "blocks_zero_init", "blocks_stochastic_depth"],
    SETTINGS,
    figure,
    table,
    more=in_training,
    on_cifar10=True,
)
if __name__ == "__main__":
    STUDY.main()
