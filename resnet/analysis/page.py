"""The comparison as a page: one HTML file that contains everything it shows and needs no network."""

import base64
import hashlib
import json
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import correlation, mean, pvariance
from typing import Any

from resnet.analysis.cautions import without_curve
from resnet.analysis.charts import COSTS, LATER, MOST_INTERVALS, charts, look
from resnet.analysis.comparison import Comparison, as_data, compare_all, order_of
from resnet.analysis.naming import IGNORED, differing, is_ignored, text_of, varying
from resnet.analysis.runs import MISSING, Run
from resnet.analysis.tables import cells
from resnet.plain import plain
from resnet.record.directory import FINISHED, RunDirectory
from resnet.record.metrics import Metric, others, read_metrics

REPORT = "report.html"
PARTS = Path(__file__).parent / "parts"
CURVES = ("val/accuracy", "val/loss", "train/accuracy", "train/loss")  # plus the other measured metrics
MOST_POINTS = 60_000  # points in all curves of a metric; longer curves are thinned, and the page says so
FEWEST_POINTS = 50  # points kept of each curve at least
PARALLEL_RUNS, PARALLEL_KEYS = 20, 3  # numbers from which parallel coordinates are drawn
ASSOCIATION_GROUPS = 30  # number from which the keys' associations are shown


def write_report(comparison: Comparison, result: dict[str, Any], file: Path) -> None:
    """Writes the page, with the same bytes for the same runs. `result` is the comparison as data. The target folder must exist."""
    content = page(comparison, result).encode()
    RunDirectory(file.parent).write(file.name, lambda target: target.write(content))


def report_on(paths: Sequence[Path], runs: Sequence[Run], file: Path, unreadable: Sequence[str] = ()) -> None:
    """Writes the page of a sweep or a single run."""
    comparison = compare_all(paths, runs, unreadable=unreadable)
    write_report(comparison, as_data(comparison), file)


def page(comparison: Comparison, result: dict[str, Any]) -> str:
    from bokeh.resources import Resources
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    counted = [run for group in comparison.groups for run in group.runs]
    numbers = {run.path: number for number, run in enumerate(counted)}
    settings = differing([run.config for run in comparison.runs])
    keys = [*settings[0], *(["seed"] if len({run.seed for run in comparison.runs}) > 1 else [])]
    shown = _shown_metrics(comparison)
    has_parallel = len(counted) >= PARALLEL_RUNS and len(settings[0]) >= PARALLEL_KEYS
    documents = charts(comparison, [*settings[0]] if has_parallel else [])
    curves, stride = _curves(counted)
    data = {
        "metric": comparison.metric,
        "shares": [key for key, read in read_metrics([run.summary for run in counted]).items() if read.is_share] + ["train/accuracy"],
        "groups": _groups(comparison, result["groups"], numbers),
        "curves": curves,
        "places": {name: document.place for name, document in documents.items()},
        "documents": {name: document.content for name, document in documents.items()},
    }
    ranked = f"val/{comparison.metric.partition('/')[2]}"  # its curves are shown first
    bokeh, script = (
        "\n".join(Resources(mode="inline", components=["bokeh"], log_level="error").js_raw),
        (PARTS / "page.js").read_text("utf-8"),
    )
    environment = Environment(
        loader=FileSystemLoader(PARTS), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}  # not sorted: Bokeh defines a model at its first use
    return environment.get_template("page.html").render(
        result={**result, "cautions": list(dict.fromkeys([*result["cautions"], *without_curve(counted)]))},
        where=sorted({plain(str(path)) for path in comparison.paths}),
        header=cells(result)[0],
        rows=cells(result)[1:],
        looks=[look(rank) for rank in range(len(result["groups"]))],
        most_intervals=MOST_INTERVALS,
        machines=_machines(comparison.runs),
        stride=stride,
        curve_metrics=sorted(curves["runs"], key=lambda metric: metric != ranked),
        has_parallel=has_parallel,
        costs=[name for name in COSTS if LATER in documents and name in documents[LATER].place["roots"].values()],
        associations=associations(comparison) if len(comparison.groups) >= ASSOCIATION_GROUPS else [],
        run_header=[
            "run",
            "status",
            *keys,
            *(read.title.replace("val/", "held-out ").replace("test/", "test ") for read in shown),
            "parameters",
            "operations an image",
            "seconds",
        ],
        runs=[_run_row(run, keys, shown, numbers) for run in comparison.runs],
        failed=[run for run in comparison.runs if run.summary["status"] != FINISHED],
        constant=_constant(comparison.runs),
        ignored=sorted(IGNORED),
        data=data,
        bokeh=bokeh,
        script=script,
        style=(PARTS / "page.css").read_text("utf-8"),
        hashes=[_hash(bokeh), _hash(script)],
    )


def _hash(script: str) -> str:
    """Returns the hash of a script for the page's content security policy, which allows no other scripts."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _groups(comparison: Comparison, rows: Sequence[dict[str, Any]], numbers: Mapping[str, int]) -> list[dict[str, Any]]:
    """Returns names, looks, run numbers and the settings that not all groups share. A setting that a group lacks is left out."""
    varied = varying([run.config for group in comparison.groups for run in group.runs])
    return [
        {
            "name": row["changed"],
            "look": look(rank),
            "runs": [numbers[path] for path in row["paths"]],
            "settings": _settings(comparison.groups[rank].runs, varied),
        }
        for rank, row in enumerate(rows)
    ]


def _settings(runs: Sequence[Run], keys: Sequence[str]) -> dict[str, str]:
    """Returns the settings of a group. If it was formed by other keys, a setting may have several values."""
    found = {key: sorted({text_of(run.config[key]) for run in runs if key in run.config}) for key in keys}
    return {key: texts[0] if len(texts) == 1 else f"several: {' '.join(texts)}" for key, texts in found.items() if texts}


def _curves(runs: Sequence[Run]) -> tuple[dict[str, Any], int]:
    """Returns, per metric, one curve per run: the index of its list of steps, and its values. Also returns the largest thinning stride."""
    steps: dict[str, int] = {}
    most, largest = max(MOST_POINTS // max(len(runs), 1), FEWEST_POINTS), 1
    found: dict[str, list[Any]] = {}
    for metric in dict.fromkeys([*CURVES, *(f"val/{name}" for run in runs for name in others(run.summary))]):
        lines = [run.curve(metric) for run in runs]
        if not any(lines):
            continue
        found[metric] = []
        for line in lines:
            stride = -(-len(line) // most) or 1
            largest = max(largest, stride)
            shown = line[::-stride][::-1]  # keeps the last point
            number = steps.setdefault(json.dumps([int(step) for step, _ in shown]), len(steps))
            found[metric].append([number, [float(f"{value:.5g}") for _, value in shown]])
    return {"steps": [json.loads(text) for text in steps], "runs": found}, largest


def _machines(runs: Sequence[Run]) -> list[str]:
    """Returns commit, device and torch version of the runs, without duplicates."""
    lines = []
    for run in runs:
        commit = run.summary.get("commit") or {}
        dirty = " with changed files" if commit.get("dirty") else ""
        sessions = run.summary.get("sessions") or [{}]
        device, torch = (sessions[-1].get(key, "unknown") for key in ("device", "torch"))
        lines.append(f"commit {str(commit.get('sha', 'unknown'))[:8]}{dirty}, {device}, torch {torch}")
    return list(dict.fromkeys(lines))


def _shown_metrics(comparison: Comparison) -> list[Metric]:
    """Returns the accuracies, the ranking metric and the other measured metrics."""
    summaries = [run.summary for run in comparison.runs]
    more = [f"{part}/{name}" for part in ("val", "test") for name in dict.fromkeys(name for one in summaries for name in others(one))]
    keys = dict.fromkeys(["val/accuracy", "test/accuracy", comparison.metric, *more])
    known = read_metrics(summaries)
    return [known[key] for key in keys]


def _run_row(run: Run, keys: Sequence[str], shown: Sequence[Metric], numbers: Mapping[str, int]) -> dict[str, Any]:
    """Returns a table row; each cell has a text and a sort value."""
    summary = run.summary
    costs = [run.cost(name) for name in COSTS]
    cells: list[tuple[str, Any]] = [(run.path, run.path), (summary["status"], summary["status"])]
    cells += [(text_of(run.setting(key)), _sort_value(run.setting(key))) for key in keys]
    cells += [_metric_cell(read, run.value(read.key)) for read in shown]
    cells += [("" if value is None else f"{value:,.0f}" if isinstance(value, int) else f"{value:.1f}", value) for value in costs]
    return {"number": numbers.get(run.path, -1), "cells": cells}


def _metric_cell(read: Metric, value: float | None) -> tuple[str, Any]:
    """Formats shares in per cent without the sign, which the header has."""
    if value is None:
        return "", None
    return read.show(value).removesuffix(" %"), round(100 * value, 4) if read.is_share else value


def _sort_value(value: Any) -> Any:
    if value is None or value is MISSING:
        return None
    is_text, number, text = order_of(value)
    return text if is_text else number


def _constant(runs: Sequence[Run]) -> dict[str, str]:
    varied = set(varying([run.config for run in runs]))
    return {key: text_of(value) for key, value in sorted(runs[0].config.items()) if key not in varied and not is_ignored(key)}


def associations(comparison: Comparison) -> list[tuple[str, str, float]]:
    """Returns (key, kind, size) of the rank association between a setting and the groups' means, the strongest first.

    For ordered values it is Spearman's coefficient (-1..1). Otherwise it is the share of the ranks' variance between the setting's values
    (0..1).
    """
    found = []
    for key in comparison.groups[0].differing:
        known = [(group.differing[key], group.mean) for group in comparison.groups if group.differing[key] not in (MISSING, None)]
        orders = [order_of(value) for value, _ in known]
        if len(set(orders)) < 2:
            continue
        own, ranks = (
            _ranks(orders),
            _ranks([average for _, average in known]),
        )  # `mean` here would confuse Python 3.12.1 with the function's own
        if any(is_text for is_text, _, _ in orders):
            parts = [mean(rank for rank, other in zip(ranks, own, strict=True) if other == place) for place in own]
            found.append((key, "share of rank variance", pvariance(parts) / (pvariance(ranks) or 1)))
        elif len(set(ranks)) > 1:
            found.append((key, "Spearman", correlation(own, ranks)))
    return sorted(found, key=lambda row: -(row[2] ** 2 if row[1] == "Spearman" else row[2]))  # the square is also a share of variance


def _ranks(values: Sequence[Any]) -> list[float]:
    """Returns ranks from 1; equal values get the mean of their ranks."""
    ordered = sorted(values)
    return [(bisect_left(ordered, value) + bisect_right(ordered, value) + 1) / 2 for value in values]
