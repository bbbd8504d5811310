"""Table 6 of He et al. 2015: the paper, two public reimplementations, and what was trained here."""

import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure

from experiments.study import Row, Study, finished, spread
from resnet.analysis.runs import Run

FOLDER = Path(__file__).parent
FAST, FIRST_EPOCH = "cifar10_fast_seeds", "table6"  # sweep.name
SOURCES = {"paper": "He et al. 2015", "akamaster": "akamaster/pytorch_resnet_cifar10", "changyu98": "changyu98/ResNet-PyTorch"}


def published() -> list[dict[str, str]]:
    """Test errors (%), which stand in the sources."""
    with (FOLDER / "published.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def layers(row: Row) -> int:
    return 6 * row["model.layers"][0] + 2


def loss(run: Run) -> dict[str, object]:
    curve = run.curve("train/loss")
    return {"loss": curve[:: max(len(curve) // 60, 1)]}


def figure(rows: Sequence[Row]) -> Figure:
    drawn = Figure(figsize=(13, 4.2), layout="constrained")
    left, right = drawn.subplots(1, 2)
    lines = published()
    depths = [int(line["layers"]) for line in lines]
    for (source, name), marker in zip(SOURCES.items(), "os^", strict=True):
        left.plot(depths, [float(line[source]) for line in lines], f"{marker}-", label=name, alpha=0.7)
    ours = [100 * (1 - row["test/accuracy"]) for row in finished(rows) if row["sweep.name"] == FAST]
    left.plot([20] * len(ours), ours, "k.", label="experiment=cifar10_fast, a dot a seed")
    left.set(xlabel="layers", ylabel="test error (%)", xticks=depths)
    for row in sorted((row for row in rows if row["sweep.name"] == FIRST_EPOCH), key=layers):
        right.plot([step for step, _ in row["loss"]], [value for _, value in row["loss"]], label=f"ResNet-{layers(row)}")
    right.set(xlabel="optimizer step of the paper's 64,000", ylabel="training loss")
    for panel in (left, right):
        panel.grid(alpha=0.3)
        panel.legend()
    return drawn


def table(rows: Sequence[Row]) -> list[list[str]]:
    lines = [["network", "parameters", *(f"{name}, test error, %" for name in SOURCES.values()), "trained here"]]
    for line in published():
        depth = int(line["layers"])
        alike = [row for row in rows if layers(row) == depth]
        lines.append([f"ResNet-{depth}", f"{int(line['parameters']):,}", *(line[source] for source in SOURCES), in_words(alike)])
    return lines


def in_words(rows: Sequence[Row]) -> str:
    ended = finished(rows)
    if not ended:
        return "nothing"
    if ended[0]["sweep.name"] == FAST:
        error = 100 * (1 - mean(row["test/accuracy"] for row in ended))
        return f"{error:.2f} % test error (accuracy {spread(rows, 'test/accuracy')}) in a fifth of the paper's images"
    accuracy = 100 * mean(row["val/accuracy"] for row in ended)
    return f"one epoch of 182 by the paper's recipe: {accuracy:.1f} % held out; the rest waits for a GPU"


STUDY = Study(FOLDER, [FAST, FIRST_EPOCH], ["sweep.name", "model.layers"], figure, table, more=loss, on_cifar10=True)
if __name__ == "__main__":
    STUDY.main()
