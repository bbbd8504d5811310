"""The comparison as rows: what the terminal, CSV, JSON and Markdown show alike."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resnet.config import UserError
from resnet.runs.compare import METRICS, Group, cautions, compare, filter_runs, find_runs, group_runs, in_words, seeds_to_settle, text_of


def comparison(
    paths: Sequence[Path], metric: str, baseline: str | None = None, on_test: bool = False, conditions: str = "", sort: str | None = None
) -> dict[str, Any]:
    """The groups, best first or by a key, each against the baseline (the first one found, where none is named).

    Raises:
        UserError: nothing to compare, no such baseline, or a ranking by a test metric that was not asked for by name.
    """
    if metric not in METRICS:
        raise UserError(f"metric {metric}: no such metric; choose one of {', '.join(METRICS)}")
    if metric.startswith("test/") and not on_test:
        raise UserError(f"metric {metric}: the best of several on the test set is no honest result; --on-test ranks by it, and says so")
    runs = filter_runs(find_runs(paths), conditions)
    groups = group_runs(runs, metric)
    counted = [group for group in groups if group.values]
    if not counted:
        raise UserError(f"no finished run with a {metric} among {len(runs)}")
    reference = _baseline(counted, baseline)
    others = len(counted) - 1
    sign = 1 if metric.endswith("loss") else -1
    ranked = sorted(counted, key=lambda group: sign * group.mean)
    best = ranked[0]
    if sort is not None:
        if sort not in best.differing:
            raise UserError(f"sort {sort}: the groups do not differ in it; choose one of {', '.join(best.differing) or 'nothing'}")
        ranked.sort(key=lambda group: _order(group.differing[sort]))
    return {
        "metric": metric,
        "on_test": metric.startswith("test/"),
        "runs": len(runs),
        "sorted_by": sort or metric,
        "baseline": reference.name,
        "groups": [_row(group, reference, best, others, metric) for group in ranked],
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


def _order(value: Any) -> tuple[bool, float, str]:
    """Numbers by size, lists of them by their sum, before what is none."""
    numbers = value if isinstance(value, list) else [value]
    is_number = all(isinstance(number, int | float) for number in numbers)
    return not is_number, float(sum(numbers)) if is_number else 0.0, str(value)


def _row(group: Group, reference: Group, best: Group, others: int, metric: str) -> dict[str, Any]:
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
        "may_be_best": group is best or not compare(group, best, max(others, 1)).is_resolved,
        "curve": group.runs[0].curve(metric.replace("test/", "val/")),
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


def as_latex(result: dict[str, Any]) -> str:
    """A booktabs table; in bold what may be the best: the best mean, and all that is not resolved from it."""
    header, *rows = cells(result)
    lines = []
    for row, line in zip(result["groups"], rows, strict=True):
        shown = [_escaped(cell) for cell in line[1:-1]]
        mean = len(row["differing"])
        shown[mean] = f"\\textbf{{{shown[mean]}}}" if row["may_be_best"] else shown[mean]
        lines.append(" & ".join(shown) + r" \\")
    numbers = sorted({row["n"] for row in result["groups"]})
    seeds = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    caption = (
        f"{result['metric']}, mean, standard deviation and 95 % t interval over n = {seeds} seeds. Bold: the best mean and all that these "
    )
    caption += "seeds do not resolve from it."
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escaped(caption)}}}",
            rf"\begin{{tabular}}{{{'l' * len(result['groups'][0]['differing'])}rrrl}}",
            r"\toprule",
            " & ".join(_escaped(cell) for cell in header[1:-1]) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _escaped(text: str) -> str:
    """A cell that begins with a bracket would be an option of the line break before it."""
    text = re.sub(r"([%_&#$])", r"\\\1", text)
    return f"{{{text}}}" if text.startswith("[") else text


def sparkline(values: Sequence[float], width: int = 12) -> str:
    """The course of a metric in one line of blocks, from its lowest to its highest value."""
    if len(values) < 2 or max(values) == min(values):
        return ""
    shown = [values[index * (len(values) - 1) // (min(width, len(values)) - 1)] for index in range(min(width, len(values)))]
    low, high = min(shown), max(shown)
    return "".join("▁▂▃▄▅▆▇█"[int(7 * (value - low) / ((high - low) or 1))] for value in shown)
