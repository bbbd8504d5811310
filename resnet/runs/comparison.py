"""The comparison as rows: what the terminal, CSV, JSON and Markdown show alike."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resnet.config import UserError
from resnet.runs.compare import METRICS, Group, cautions, compare, find_runs, group_runs, in_words, seeds_to_settle, text_of


def comparison(paths: Sequence[Path], metric: str, baseline: str | None, on_test: bool) -> dict[str, Any]:
    """The groups, best first, each against the baseline (the first one found, where none is named).

    Raises:
        UserError: nothing to compare, no such baseline, or a ranking by a test metric that was not asked for by name.
    """
    if metric not in METRICS:
        raise UserError(f"metric {metric}: no such metric; choose one of {', '.join(METRICS)}")
    if metric.startswith("test/") and not on_test:
        raise UserError(f"metric {metric}: the best of several on the test set is no honest result; --on-test ranks by it, and says so")
    runs = find_runs(paths)
    groups = group_runs(runs, metric)
    counted = [group for group in groups if group.values]
    if not counted:
        raise UserError(f"no finished run with a {metric} among {len(runs)}")
    reference = _baseline(counted, baseline)
    others = len(counted) - 1
    sign = 1 if metric.endswith("loss") else -1
    ranked = sorted(counted, key=lambda group: sign * group.mean)
    return {
        "metric": metric,
        "on_test": metric.startswith("test/"),
        "runs": len(runs),
        "baseline": reference.name,
        "groups": [_row(group, reference, others, metric) for group in ranked],
        "left_out": [reason for group in groups for reason in group.left_out],
        "cautions": [*cautions(runs), *(["unmatched seeds"] if len({tuple(sorted(group.values)) for group in counted}) > 1 else [])],
        "ignored": "seed, paths and hosts",
    }


def _baseline(groups: Sequence[Group], wanted: str | None) -> Group:
    if wanted is None:
        return groups[0]
    found = [group for group in groups if set(wanted.split()) <= set(group.name.split())]
    if len(found) != 1:
        names = "; ".join(group.name for group in groups)
        raise UserError(f"baseline {wanted}: {len(found)} groups match; name one of: {names}")
    return found[0]


def _row(group: Group, reference: Group, others: int, metric: str) -> dict[str, Any]:
    difference = None if group is reference else compare(group, reference, max(others, 1))
    settle = None if difference is None or difference.is_resolved else seeds_to_settle(group, reference, max(others, 1))
    return {
        "name": group.name,
        "differing": {key: text_of(value) for key, value in group.differing.items()},
        "n": len(group.values),
        "mean": group.mean,
        "deviation": group.deviation,
        "interval": group.interval,
        "seeds": {str(seed): value for seed, value in sorted(group.values.items())},
        "against_baseline": "baseline" if difference is None else in_words(difference, metric),
        "is_resolved": None if difference is None else difference.is_resolved,
        "seeds_to_settle": settle,
        "parameters": group.runs[0].summary.get("parameters"),
        "paths": [run.path for run in group.runs],
    }


def cells(result: dict[str, Any]) -> list[list[str]]:
    """A header and a line per group."""
    keys = list(result["groups"][0]["differing"])
    is_share = result["metric"].endswith("accuracy")

    def show(value: float) -> str:
        return f"{100 * value:.2f}" if is_share else f"{value:.4f}"

    def spread(row: dict[str, Any]) -> str:
        if row["n"] == 1:
            return "one seed, no interval"
        if row["interval"] is None:
            return " and ".join(show(value) for value in row["seeds"].values())
        return f"[{show(row['interval'][0])}, {show(row['interval'][1])}]"

    header = ["", *keys, f"{result['metric']}{' (%)' if is_share else ''}", "std", "n", "95 % interval", "against the baseline"]
    rows = []
    for rank, row in enumerate(result["groups"], 1):
        deviation = "" if row["deviation"] is None else show(row["deviation"])
        rows.append(
            [str(rank), *row["differing"].values(), show(row["mean"]), deviation, str(row["n"]), spread(row), row["against_baseline"]]
        )
    return [header, *rows]


def as_csv(result: dict[str, Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(cells(result))
    return text.getvalue()


def as_markdown(result: dict[str, Any]) -> str:
    header, *rows = ([cell.replace("|", "\\|") for cell in row] for row in cells(result))
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
