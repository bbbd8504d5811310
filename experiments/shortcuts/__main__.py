"""Shortcuts: options A, B and C of the paper, the article's 3x3 convolution, and none; what each gains and costs."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from experiments.study import Row, Study, by_name, compared, draw_groups

NAMES = {
    "none": "no shortcut",
    "zero_pad": "A: zero padding",
    "projection_1x1": "B: 1x1 projection",
    "projection_3x3": "the article's code: 3x3 projection",
    "projection_all": "C: 1x1 projection in every block",
}
BASELINES = {  # model.shortcut, each against what a question of the claim puts it beside
    "none": "zero_pad",
    "projection_1x1": "zero_pad",
    "projection_3x3": "projection_1x1",
    "projection_all": "projection_1x1",
}


def name(row: Row) -> str:
    return NAMES[row["model.shortcut"]]


def ordered(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: list(NAMES).index(row["model.shortcut"]))


def figure(rows: Sequence[Row]) -> Figure:
    drawn = Figure(figsize=(9, 3.4), layout="constrained")
    draw_groups(drawn.subplots(), by_name(ordered(rows), name), "test/accuracy")
    return drawn


def table(rows: Sequence[Row]) -> list[list[str]]:
    baselines = {NAMES[one]: NAMES[other] for one, other in BASELINES.items()}
    return compared(ordered(rows), name, baselines, "test/accuracy")


STUDY = Study(Path(__file__).parent, ["shortcuts"], ["model.shortcut"], figure, table)
if __name__ == "__main__":
    STUDY.main()
