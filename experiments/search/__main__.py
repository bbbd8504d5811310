"""Learning rate, optimizer and depth: a grid and an Optuna search of as many jobs; their best, trained again with five new seeds."""

from collections.abc import Sequence
from itertools import accumulate
from math import comb, inf
from pathlib import Path

from matplotlib.figure import Figure

from experiments.study import Row, Study, by_name, compared, draw_groups, where
from resnet.analysis.naming import text_of
from resnet.analysis.runs import Run
from resnet.record.directory import FINISHED

AGAIN = {"grid": "grid_again", "grid_search": "grid_search_again"}  # the best of each sweep, trained again
SETTINGS = ["sweep.name", "optimizer", "lr", "model.layers"]


def best_again(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The best of each on held-out images, with other seeds: the best of many is best by luck too."""
    sweeps = {}
    for sweep, again in AGAIN.items():
        ended = [run for run in runs if run.setting("sweep.name") == sweep and run.summary["status"] == FINISHED]
        best = max(ended, key=lambda run: (run.value("val/accuracy") or 0, -(run.value("val/loss") or inf)))
        chosen = [f"{key}={best.setting(key)}" for key in ("optimizer", "lr", "model.layers")]
        sweeps[again] = ["data=fashion_mnist", "epochs=5", "data.train_size=6000", *chosen, "seed=range(5)"]
    return sweeps


def started(run: Run) -> dict[str, str | None]:
    return {"started": next((session["started"] for session in run.summary.get("sessions", [])), None)}


def accuracies(rows: Sequence[Row], sweep: str) -> list[float]:
    """Held out, in per cent, in the order of the runs; 0 where one failed."""
    ordered = sorted(where(rows, {"sweep.name": sweep}), key=lambda row: row["started"] or "")
    return [100 * (row["val/accuracy"] or 0) for row in ordered]


def best_of_first(found: Sequence[float]) -> list[float]:
    """The highest of the first n, in the mean over all orders."""
    ordered = sorted(found)
    return [
        sum(value * comb(lower, n - 1) for lower, value in enumerate(ordered)) / comb(len(ordered), n) for n in range(1, len(ordered) + 1)
    ]


def name(row: Row) -> str:
    origin = {"grid_again": "the grid's best", "grid_search_again": "the search's best"}[row["sweep.name"]]
    return f"{origin}: {row['optimizer']}, lr {row['lr']:.3g}, {text_of(row['model.layers'])}"


def again(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["sweep.name"] in AGAIN.values()]


def figure(rows: Sequence[Row]) -> Figure:
    drawn = Figure(figsize=(15, 4.2), layout="constrained")
    left, middle, right = drawn.subplots(1, 3)
    markers = {"[1,1,1]": "o", "[2,2,2]": "s", "[3,3,3]": "^"}
    colors = {"sgd": "#4c72b0", "adam": "#dd8452", "muon": "#55a868"}
    for sweep, filled in zip(AGAIN, (True, False), strict=True):
        for row in where(rows, {"sweep.name": sweep, "status": "finished"}):
            color, marker = colors[row["optimizer"]], markers[text_of(row["model.layers"])]
            left.plot(row["lr"], 100 * row["val/accuracy"], marker, color=color, mfc=color if filled else "none")
    for label, style in [
        *((name, {"color": color}) for name, color in colors.items()),
        *((f"layers {n}", {"marker": m, "color": "gray", "ls": ""}) for n, m in markers.items()),
    ]:
        left.plot([], [], label=label, **style)
    left.set(xscale="log", xlabel="lr (filled: the grid, hollow: the search)", ylabel="val/accuracy (%)")
    left.grid(alpha=0.3)
    left.legend(ncols=2)
    grid, search = (accuracies(rows, sweep) for sweep in AGAIN)
    middle.plot(range(1, len(grid) + 1), best_of_first(grid), label="the grid, in any order: mean")
    middle.step(range(1, len(search) + 1), list(accumulate(search, max)), where="mid", label="the search")
    middle.set(xlabel="jobs", ylabel="best val/accuracy so far (%)", ylim=(max(*grid, *search) - 6, None))
    middle.grid(alpha=0.3)
    middle.legend()
    draw_groups(right, by_name(again(rows), name), "test/accuracy")
    return drawn


def table(rows: Sequence[Row]) -> list[list[str]]:
    grids, searches = by_name(again(rows), name)
    return compared(again(rows), name, {searches: grids}, "test/accuracy")


STUDY = Study(Path(__file__).parent, list(AGAIN), SETTINGS, figure, table, more=started, follow=best_again)
if __name__ == "__main__":
    STUDY.main()
