"""Compares runs: finds, groups and ranks them, and compares each group with a baseline. Terminal, page and files all use this result."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet.analysis.alike import alike, unlike
from resnet.analysis.cautions import cautions, of_folds, seed_order, unmatched, without_curve
from resnet.analysis.compare import compare, in_words, seeds_to_settle
from resnet.analysis.filtering import filter_runs
from resnet.analysis.grouping import Group, group_runs
from resnet.analysis.naming import text_of
from resnet.analysis.runs import Found, Run, look_for_runs
from resnet.config import UserError
from resnet.record.hints import is_plain_name, kept_overrides
from resnet.record.metrics import Metric, chosen_by, read_metrics


@dataclass(frozen=True)
class Comparison:
    """`groups` are those with a value, in their order."""

    paths: Sequence[Path]
    metric: str
    read: Metric  # unit and direction of the metric
    chooses: bool  # if there is a best group; False if only the test set could choose it and --on-test is not given
    by: Sequence[str]
    sorted_by: str
    runs: list[Run]
    groups: list[Group]
    baseline: Group
    best: Group
    left_out: list[str]

    @property
    def on_test(self) -> bool:
        return self.metric.startswith("test/")

    @property
    def num_comparisons(self) -> int:
        return max(len(self.groups) - 1, 1)

    @property
    def unit_of_runs(self) -> str:
        return "runs" if self.by else "seeds"

    def changed(self, group: Group) -> str:
        """Says how a group differs from the baseline, like `lr=0.1 -> 0.2`."""
        pairs = {key: (text_of(self.baseline.differing[key]), text_of(value)) for key, value in group.differing.items()}
        changes = " ".join(f"{key}={before} -> {now}" for key, (before, now) in pairs.items() if before != now)
        return changes or (f"baseline: {group.name}" if len(self.groups) > 1 else group.name)


def compare_runs(
    paths: Sequence[Path],
    metric: str | None = None,
    baseline: str | None = None,
    on_test: bool = False,
    conditions: str = "",
    sort: str | None = None,
    by: Sequence[str] = (),
) -> Comparison:
    """Compares the runs in these folders. Without `baseline`, the baseline is the group with the first settings.

    Raises:
        UserError: there is nothing to compare, no such key or baseline, or a test metric was given without `on_test`.
    """
    if metric is not None and metric.startswith("test/") and not on_test:
        raise UserError(f"metric {metric}: the best of several on the test set is no honest result; --on-test ranks by it, and says so")
    found = look_for_runs(paths)
    selected = filter_runs(found.runs, conditions)
    if not selected:
        raise UserError(f"filter {conditions}: none of {len(found.runs)} runs meets it")
    summaries = [run.summary for run in selected]
    known = read_metrics(summaries)
    metric = chosen_by(summaries) if metric is None else metric
    if metric not in known:
        raise UserError(f"metric {metric}: no such metric; choose one of {', '.join(known)}")
    return _compared(paths, Found(selected, found.unreadable), metric, True, baseline, sort, by)


def compare_all(paths: Sequence[Path], runs: Sequence[Run], metric: str | None = None, unreadable: Sequence[str] = ()) -> Comparison:
    """Compares the given runs by a held-out metric. Without `metric`, it is the one that chose their checkpoints.

    If nothing was held out, it lists test accuracies in the order found and chooses no best group.
    """
    metric = metric or chosen_by([run.summary for run in runs])
    has_held_out = any(run.value(metric) is not None for run in runs) or not any(run.value("test/accuracy") is not None for run in runs)
    found = Found(list(runs), list(unreadable))
    return _compared(paths, found, metric if has_held_out else "test/accuracy", has_held_out)


def _compared(
    paths: Sequence[Path],
    found: Found,
    metric: str,
    chooses: bool,
    baseline: str | None = None,
    sort: str | None = None,
    by: Sequence[str] = (),
) -> Comparison:
    runs = alike(found.runs)
    groups, read = group_runs(runs, metric, by), read_metrics([run.summary for run in runs])[metric]
    counted = [group for group in groups if group.values]
    reasons = [*found.unreadable, *(reason for group in groups for reason in group.left_out)]
    if not counted:
        more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        raise UserError(f"no finished run with a {metric} among {len(runs)}: {'; '.join(reasons[:3])}{more}")
    ranked = sorted(counted, key=lambda group: group.mean if read.is_lowest else -group.mean) if chooses else counted
    return Comparison(
        paths=paths,
        metric=metric,
        read=read,
        chooses=chooses,
        by=by,
        sorted_by=sort or (metric if chooses else "the order found"),
        runs=list(runs),
        groups=ranked if sort is None else _sorted(ranked, sort),
        baseline=_baseline(counted, baseline),
        best=ranked[0],
        left_out=reasons,
    )


def _sorted(groups: Sequence[Group], key: str) -> list[Group]:
    if key not in groups[0].differing:
        raise UserError(f"sort {key}: the groups do not differ in it; choose one of {', '.join(groups[0].differing) or 'nothing'}")
    return sorted(groups, key=lambda group: order_of(group.differing[key]))


def _baseline(groups: Sequence[Group], wanted: str | None) -> Group:
    if wanted is None:
        return min(groups, key=lambda group: [order_of(value) for value in group.differing.values()])
    found = [group for group in groups if set(wanted.split()) <= set(group.name.split())]
    if len(found) != 1:
        names = "; ".join(group.name for group in groups)
        raise UserError(f"baseline {wanted}: {len(found)} groups match; name one of: {names}")
    return found[0]


def order_of(value: Any) -> tuple[bool, float, str]:
    """Returns a sort key: numbers by size, lists of numbers by their sum, then everything else by its text."""
    numbers = value if isinstance(value, list) else [value]
    is_number = all(isinstance(number, int | float) for number in numbers)
    return not is_number, float(sum(numbers)) if is_number else 0.0, str(value)


def as_data(comparison: Comparison) -> dict[str, Any]:
    """Returns plain values for --json and for the tables."""
    groups = comparison.groups
    rows = [_row(comparison, group) for group in groups]
    most = max((row["seeds_to_settle"] or 0 for row in rows), default=0)  # the same seeds for all groups: they are compared in pairs
    for row, group in zip(rows, groups, strict=True):
        row["command"] = command(group.runs[0], most) if row["seeds_to_settle"] else None
    first = comparison.baseline.runs[0], *(group.runs[0] for row, group in zip(rows, groups, strict=True) if row["command"])
    return {
        "answer": answer(comparison),
        "metric": comparison.metric,
        "is_share": comparison.read.is_share,
        "on_test": comparison.on_test,
        "chooses": comparison.chooses,
        "runs": len(comparison.runs),
        "unit_of_runs": comparison.unit_of_runs,
        "sorted_by": comparison.sorted_by,
        "baseline": comparison.baseline.name,
        "groups": rows,
        "left_out": comparison.left_out,
        "cautions": [
            *cautions(comparison.runs),
            *of_folds(groups),
            *unlike(comparison.runs),
            *unmatched(groups),
            *without_curve([group.runs[0] for group in groups]),
            *(_not_pasted(first) if most else []),
        ],
        "settle": [command(comparison.baseline.runs[0], most), *(row["command"] for row in rows if row["command"])] if most else [],
        "grouped": f"by {', '.join(comparison.by) or 'all of their config but the seed and what the machine decides'}",
    }


def _row(comparison: Comparison, group: Group) -> dict[str, Any]:
    baseline, number = comparison.baseline, comparison.num_comparisons
    difference = None if group is baseline else compare(group, baseline, number)
    is_open = difference is not None and not difference.is_resolved and not comparison.by
    return {
        "name": group.name,
        "changed": comparison.changed(group),
        "differing": {key: text_of(value) for key, value in group.differing.items()},
        "n": len(group.values),
        "mean": group.mean,
        "deviation": group.deviation,
        "interval": group.interval,
        "seeds": dict(sorted(group.values.items(), key=lambda item: seed_order(item[0]))),
        "difference": difference and difference.value,
        "difference_interval": difference and difference.interval,
        "is_paired": difference and difference.is_paired,
        "against_baseline": "baseline" if difference is None else in_words(difference, comparison.read.is_share, comparison.unit_of_runs),
        "is_resolved": None if difference is None else difference.is_resolved,
        "seeds_to_settle": seeds_to_settle(group, baseline, number) if is_open else None,
        "may_be_best": comparison.chooses and _may_be_best(comparison, group),
        "curve": [] if comparison.by else [value for _, value in group.runs[0].curve(comparison.metric.replace("test/", "val/"))],
        "parameters": _shared([run.summary.get("parameters") for run in group.runs]),
        "paths": [run.path for run in group.runs],
    }


def _shared(values: Sequence[Any]) -> Any:
    return values[0] if len(set(values)) == 1 else None


def _may_be_best(comparison: Comparison, group: Group) -> bool:
    """True if a group is the best or not resolved from it. The same values choose the best, so the intervals are widened for all pairs."""
    pairs = len(comparison.groups) * (len(comparison.groups) - 1) // 2
    return group is comparison.best or not compare(group, comparison.best, pairs).is_resolved


def command(run: Run, seeds: int) -> str:
    """Returns the command that trains this config with this number of seeds, in its own sweep, where existing seeds are kept."""
    overrides, _ = _overrides(run)
    name = str(run.config["sweep.name"])
    where = [f"sweep.name={name}"] if is_plain_name(name) else []
    chosen = [text for text in overrides if not text.startswith("seed=")]
    return shlex.join(["python", "train.py", "-m", *chosen, f"seed=range({seeds})", *where])


def _overrides(run: Run) -> tuple[list[str], str]:
    return kept_overrides(run.summary.get("overrides", []), run.summary.get("directory"), run.folder)


def _not_pasted(runs: Sequence[Run]) -> list[str]:
    lacking = dict.fromkeys(f"{run.path}: the commands leave out {keys}" for run in runs if (keys := _overrides(run)[1]))
    return [f"{text}: it may be a stranger's; add it where it is yours" for text in lacking]


def answer(comparison: Comparison) -> str:
    """Returns one sentence: which group is best, by how much, and how certain that is."""
    best, metric = comparison.best, comparison.metric
    if not comparison.chooses:
        return f"Nothing was held out, so none is chosen: {metric} of {len(comparison.groups)} group(s), in the order found."
    name, number = best.name, len(best.values)
    value = comparison.read.show(best.mean)
    seeds = f"mean of {number} {comparison.unit_of_runs}" if number > 1 else f"one {comparison.unit_of_runs.removesuffix('s')}"
    if len(comparison.groups) == 1:
        return f"{name}: {metric} {value} ({seeds})."
    rank, worse = ("lowest", "higher") if comparison.read.is_lowest else ("highest", "lower")
    first = f"{name} has the {rank} {metric}, {value} ({seeds})"
    others = [group for group in comparison.groups if group is not best]
    if best is not comparison.baseline:
        difference = compare(best, comparison.baseline, comparison.num_comparisons)
        first += (
            f"; against the baseline, {comparison.baseline.name}: {in_words(difference, comparison.read.is_share, comparison.unit_of_runs)}"
        )
        if len(others) == 1:
            return f"{first}."
    unresolved = sum(_may_be_best(comparison, group) for group in others)
    if unresolved == 0:
        return f"{first}. All others are {worse} in this setup."
    return f"{first}. {unresolved} of {len(others)} others may be as good: not resolved from it."
