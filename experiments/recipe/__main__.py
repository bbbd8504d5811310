"""The article's recipe against the default one, at equal epochs and at about equal seconds."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from experiments.study import Row, Study, by_name, compared, draw_groups, finished
from resnet.analysis.runs import Run

ARTICLE = "the article's, 2 epochs"


def name(row: Row) -> str:
    return ARTICLE if row["optimizer"] == "adam" else f"default, {row['epochs']} epochs"


def over_seconds(run: Run) -> dict[str, object]:
    seen = [[row["seconds"], row["train/accuracy"]] for row in run.rows if row["train/accuracy"] is not None]
    return {"training accuracy over seconds": seen[:: max(len(seen) // 60, 1)]}


def figure(rows: Sequence[Row]) -> Figure:
    drawn = Figure(figsize=(13, 4.2), layout="constrained")
    left, right = drawn.subplots(1, 2)
    groups = by_name(rows, name)
    for color, (key, alike) in zip(("#c44e52", "#4c72b0", "#55a868"), groups.items(), strict=False):
        for row in finished(alike):
            seconds, accuracies = zip(*row["training accuracy over seconds"], strict=True)
            label = key if row is alike[0] else None
            left.plot(seconds, [100 * value for value in accuracies], color=color, lw=1, alpha=0.7, label=label)
    left.set(xlabel="seconds of training", ylabel="accuracy on the training batches (%)", ylim=(80, 100.5))
    left.grid(alpha=0.3)
    left.legend()
    draw_groups(right, groups, "test/accuracy")
    return drawn


def table(rows: Sequence[Row]) -> list[list[str]]:
    return compared(rows, name, {"default, 2 epochs": ARTICLE, "default, 3 epochs": ARTICLE}, "test/accuracy")


SETTINGS = ["optimizer", "epochs", "batch_size"]
STUDY = Study(Path(__file__).parent, ["recipe_article", "recipe_default"], SETTINGS, figure, table, more=over_seconds)
if __name__ == "__main__":
    STUDY.main()
