"""What the studies share: one trains its sweeps, keeps a row per run, and draws its figure and table from those rows alone."""

import argparse
import csv
import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean, median, stdev
from typing import TYPE_CHECKING, Any

from resnet.analysis.compare import compare, in_words
from resnet.analysis.grouping import Group
from resnet.analysis.intervals import t_interval
from resnet.analysis.naming import text_of
from resnet.analysis.runs import Run, look_for_runs
from resnet.interrupt import passing_on
from resnet.record.directory import FINISHED
from resnet.streams import keep_going

if TYPE_CHECKING:  # importing it takes a second
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- table: written by the study -->", "<!-- end of the table -->"

LAST = 4  # records of training that are averaged at its end

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """`sweeps` are options of conf/sweep; `settings` the config keys that tell their runs apart.

    `figure` and `table` are given all rows, those of failed runs too, whose metrics are None. `more` adds to a run's row; `follow` gives
    sweeps, by name, that depend on what the runs so far came to.
    """

    folder: Path
    sweeps: Sequence[str]
    settings: Sequence[str]
    figure: Callable[[Sequence[Row]], "Figure"]
    table: Callable[[Sequence[Row]], Sequence[Sequence[str]]]  # a header and lines, for the README
    more: Callable[[Run], Mapping[str, Any]] = lambda run: {}
    follow: Callable[[Sequence[Run]], Mapping[str, Sequence[str]]] = lambda runs: {}
    on_cifar10: bool = False

    def main(self) -> None:
        """Of `python -m experiments.<name>`."""
        keep_going()
        parser = argparse.ArgumentParser(
            prog=f"python -m experiments.{self.folder.name}", description="Runs the study, or what is left of it, and draws it."
        )
        parser.add_argument("--draw", action="store_true", help="run nothing: figure and table from results.csv")
        parser.add_argument("--cifar10", metavar="FILE", help="CIFAR-10 from an .npz file (see conf/data/arrays.yaml), not downloaded")
        parser.add_argument("overrides", nargs="*", help="of train.py, like hydra/launcher=parallel")
        chosen = parser.parse_args()
        if not chosen.draw:
            arrays = ["data=arrays", f"data.path={chosen.cifar10}"] if chosen.cifar10 and self.on_cifar10 else []
            self.run([*arrays, *chosen.overrides])
        self.draw()

    def run(self, overrides: Sequence[str]) -> None:
        """Trains what is not trained yet, here, under multirun/. A run that fails is a result too, and stands in the table."""
        for sweep in self.sweeps:
            train(f"sweep={sweep}", *overrides)
        runs = found([Path("multirun", sweep) for sweep in self.sweeps])
        followed = self.follow(runs)
        for name, more in followed.items():
            train("-m", *more, *overrides, f"sweep.name={name}")
            runs += found([Path("multirun", name)])
        rows = sorted((self._row(run) for run in runs), key=self._identity)
        for one, other in pairwise(rows):
            if self._identity(one) == self._identity(other):
                settings = " ".join(f"{key}={text_of(one[key])}" for key in self.settings)
                raise SystemExit(
                    f"error: two runs have {settings} seed={one['seed']}: multirun/ holds runs of another length or data; move them away"
                )
        with (self.folder / "results.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            table.writeheader()
            table.writerows({key: json.dumps(rounded(value)) for key, value in row.items()} for row in rows)

    def _identity(self, row: Row) -> list[Any]:
        return [*(text_of(row[key]) for key in self.settings), row["seed"]]

    def _row(self, run: Run) -> dict[str, Any]:
        """Of a run; a metric that it did not come to is null."""
        is_finished = run.summary["status"] == FINISHED
        commit = run.summary.get("commit") or {}
        return {
            **{key: run.setting(key) for key in self.settings},
            "seed": run.seed,
            "status": run.summary["status"],
            **{metric: run.value(metric) if is_finished else None for metric in ("val/accuracy", "test/accuracy")},
            "parameters": run.cost("parameters"),
            "operations": run.cost("flops"),  # of an image, forward
            "training seconds": run.summary.get("training_seconds"),
            **self.more(run),
            "commit": (commit.get("sha") or "")[:8] + ("+" if commit.get("dirty") else ""),
        }

    def draw(self) -> None:
        """The figure, and the table in README.md."""
        if not (self.folder / "results.csv").exists():
            print(f"experiments/{self.folder.name}: not run yet: no results.csv")
            return
        with (self.folder / "results.csv").open(encoding="utf-8", newline="") as file:
            rows = [{key: json.loads(value) for key, value in row.items()} for row in csv.DictReader(file)]
        self.figure(rows).savefig(self.folder / "figure.png", dpi=80)
        readme = self.folder / "README.md"
        before, _, rest = readme.read_text("utf-8").partition(BEGIN)
        readme.write_text("\n".join([before + BEGIN, *as_markdown(self.table(rows)), END]) + rest.partition(END)[2], "utf-8")


def found(folders: Sequence[Path]) -> list[Run]:
    """What cannot be read is named, and left out."""
    there = look_for_runs(folders)
    for line in there.unreadable:
        print(f"left out: {line}", file=sys.stderr)
    return there.runs


def train(*arguments: str) -> None:
    sweep = subprocess.Popen([sys.executable, ROOT / "train.py", *arguments])
    with passing_on(sweep):
        status = sweep.wait()
    if status not in (0, 1):  # with 1 some runs have failed
        raise SystemExit(status)


def rounded(value: Any) -> Any:
    """To six significant digits, in lists too; a number that is not finite is null."""
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def as_markdown(lines: Sequence[Sequence[str]]) -> list[str]:
    header, *rest = lines
    return [f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rest)]


def where(rows: Sequence[Row], settings: Mapping[str, Any]) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in settings.items())]


def values(rows: Sequence[Row], metric: str) -> dict[str, float]:
    """By seed, of the runs that have it."""
    return {str(row["seed"]): row[metric] for row in rows if row[metric] is not None}


def spread(rows: Sequence[Row], metric: str) -> str:
    """In per cent: mean, standard deviation, n, and how many of the runs are not in it."""
    found = [100 * value for value in values(rows, metric).values()]
    lacking = f", {len(rows) - len(found)} failed" if len(found) < len(rows) else ""
    if not found:
        return f"none{lacking}"
    deviation = f" ± {stdev(found):.2f}" if len(found) > 1 else ""
    return f"{mean(found):.2f}{deviation} (n = {len(found)}{lacking})"


def power_of_ten(exponents: Sequence[float]) -> str:
    """10 to the mean, with the 95 % t interval of the mean."""
    interval = t_interval(exponents)
    return f"{10 ** mean(exponents):.3f}" + (f" [{10 ** interval[0]:.3f}, {10 ** interval[1]:.3f}]" if interval else "")


def difference(one: Mapping[str, float], other: Mapping[str, float], metric: str, comparisons: int) -> str:
    """`one` against `other`, values by seed, in words: paired, and widened for the number of comparisons in the table."""
    if not one or not other:
        return "nothing to compare"
    return in_words(compare(Group({}, dict(one), []), Group({}, dict(other), []), comparisons), metric.endswith("accuracy"))


def in_training(run: Run) -> dict[str, Any]:
    """Accuracy on the augmented training batches over steps, and at the end."""
    curve = run.curve("train/accuracy")
    is_finished = run.summary["status"] == FINISHED and len(curve) >= LAST
    return {"train/accuracy": mean(value for _, value in curve[-LAST:]) if is_finished else None, "training curve": curve}


def finished(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["status"] == FINISHED]


def compared(rows: Sequence[Row], name: Callable[[Row], str], baselines: Mapping[str, str], *metrics: str) -> list[list[str]]:
    """A table with a line per name: its metrics, against the name's baseline, where it has one, and what the runs cost."""
    groups = by_name(rows, name)
    columns = [column for metric in metrics for column in (f"{metric}, %", f"{metric} against")]
    lines = [["", *columns, "parameters", "operations an image", "seconds of training"]]
    for key, alike in groups.items():
        cells = []
        for metric in metrics:
            cells.append(spread(alike, metric))
            if baseline := baselines.get(key, ""):
                one, other = (values(group, metric) for group in (alike, groups[baseline]))
                baseline += f": {difference(one, other, metric, len(metrics) * len(baselines))}"
            cells.append(baseline)
        first, *_ = finished(alike) or alike
        cost = [f"{first['parameters']:,}", f"{first['operations'] / 1e6:.1f} million"] if first["parameters"] else ["", ""]
        seconds = [row["training seconds"] for row in finished(alike)]
        lines.append([key, *cells, *cost, f"{median(seconds):.0f}" if seconds else ""])
    return lines


def by_name(rows: Sequence[Row], name: Callable[[Row], str]) -> dict[str, list[Row]]:
    """In the order in which they come."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(name(row), []).append(row)
    return groups


def draw_groups(axes: "Axes", groups: Mapping[str, Sequence[Row]], metric: str) -> None:
    """A line per group, the first on top: a dot a seed, the mean, and its 95 % interval where there are three seeds."""
    for place, rows in enumerate(groups.values()):
        found = [100 * value for value in values(rows, metric).values()]
        axes.plot(found, [place] * len(found), "o", color="#4c72b0", alpha=0.5)
        if found:
            axes.plot([mean(found)], [place], "|", color="black", ms=18)
        if len(found) > 2 and (interval := t_interval(found)):
            axes.plot(interval, [place, place], color="black", lw=1)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlabel(f"{metric} (%): seeds, mean, 95 % interval")
    axes.grid(alpha=0.3)
