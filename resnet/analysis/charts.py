"""The charts of the comparison page, as Bokeh models. They need no network; the page's style sheet sets light or dark colours."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resnet.analysis.comparison import Comparison, order_of
from resnet.analysis.naming import text_of
from resnet.analysis.runs import MISSING, Run

if TYPE_CHECKING:  # the import takes most of a second
    from bokeh.models import ColumnDataSource
    from bokeh.plotting import figure

# Each colour has a contrast of at least 3:1 on white and on the dark background. Neighbours differ in more than colour.
COLORS = ("#3b7dd8", "#d9720b", "#1e9e66", "#a45bd0", "#e0455a", "#1399a8", "#a8743a", "#7f7f7f")
MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "hex")
DASHES = ("solid", "8 4", "2 3", "8 3 2 3")
FIRST, LATER = "first", "later"  # documents: FIRST is drawn at once, LATER after FIRST is on the screen
MOST_INTERVALS = 20  # groups in the interval plot; the table has all of them
ROW = 34  # pixels per group in the interval plot
COSTS = {"parameters": "parameters", "flops": "operations an image", "seconds": "seconds of training"}
MISSING_AT = -0.15  # height of the slot for missing values, below the axis from 0 to 1
LOG_FROM = 20  # ratio of largest to smallest value from which an axis is logarithmic


def look(rank: int) -> tuple[str, str, str]:
    """Returns colour, marker and dash of a group by its rank."""
    return COLORS[rank % len(COLORS)], MARKERS[rank % len(MARKERS)], DASHES[rank // len(COLORS) % len(DASHES)]


@dataclass(frozen=True)
class Document:
    """A Bokeh document as JSON. `place` says where on the page each of its figures goes."""

    content: dict[str, Any]
    place: dict[str, Any]


def charts(comparison: Comparison, keys: Sequence[str]) -> dict[str, Document]:
    """`keys` are the settings that get an axis in the parallel coordinates plot."""
    source = _runs_source(comparison, keys)
    later = {name: _scatter(comparison, source, name) for name in COSTS if len(set(source.data[name])) > 1}
    if "xs" in source.data:
        later["parallel"] = _parallel(comparison, source, keys)
    drawn = {FIRST: {"intervals": _intervals(comparison), "curves": _curves()}, LATER: later}
    return {name: _document(name, plots) for name, plots in drawn.items() if plots}


def _document(name: str, plots: Mapping[str, "figure"]) -> Document:
    from bokeh.document import Document as Models

    models = Models()
    for place, plot in plots.items():
        plot.name = place
        models.add_root(plot)
    text = json.dumps([models.to_json(deferred=False), [plot.id for plot in plots.values()]], separators=(",", ":"))
    content, ids = json.loads(_renumbered(text, name))
    return Document(content, {"docid": name, "roots": dict(zip(ids, plots, strict=True)), "root_ids": ids})


def _renumbered(text: str, prefix: str) -> str:
    """Renumbers Bokeh's models from 1, so that the same input gives the same bytes. Bokeh itself counts them over the whole process."""
    numbers: dict[str, str] = {}
    text = re.sub(r'"id":"(p\d+)"', lambda match: f'"id":"{numbers.setdefault(match[1], f"{prefix}{len(numbers) + 1}")}"', text)
    body, bracket, roots = text.rpartition("[")
    return body + bracket + re.sub(r"p\d+", lambda match: numbers[match[0]], roots)


def scale(comparison: Comparison) -> int:
    """Returns the factor for drawing values: shares are drawn in per cent."""
    return 100 if comparison.read.is_share else 1


def _figure(**chosen: Any) -> "figure":
    from bokeh.plotting import figure

    plot = figure(sizing_mode="stretch_width", toolbar_location=None, **chosen)
    plot.outline_line_color = None
    return plot


def _runs_source(comparison: Comparison, keys: Sequence[str]) -> "ColumnDataSource":
    """Returns one row per counted run, ordered by group. Scatter plots and parallel coordinates share it, so they also share the
    selection."""
    from bokeh.models import ColumnDataSource

    runs = [(rank, group, run) for rank, group in enumerate(comparison.groups) for run in group.runs]
    values = [scale(comparison) * (run.value(comparison.metric) or 0.0) for _, _, run in runs]
    data: dict[str, list[Any]] = {
        "run": [run.path for _, _, run in runs],
        "group": [comparison.changed(group) for _, group, _ in runs],
        "seed": [run.seed for _, _, run in runs],
        "value": values,
        "color": [look(rank)[0] for rank, _, _ in runs],
        "marker": [look(rank)[1] for rank, _, _ in runs],
        **{name: [run.cost(name) for _, _, run in runs] for name in COSTS},
    }
    if keys:
        axes = [axis([run.setting(key) for _, _, run in runs]) for key in keys] + [axis(values)]
        data["xs"] = [list(range(len(axes)))] * len(runs)
        data["ys"] = [list(heights) for heights in zip(*(one.heights for one in axes), strict=True)]
    return ColumnDataSource(data)


def _intervals(comparison: Comparison) -> "figure":
    """Draws a row per group, the first on top: every seed as a dot, the mean as a bar, the interval as a line."""
    from bokeh.models import ColumnDataSource, HoverTool

    factor, shown = scale(comparison), comparison.groups[:MOST_INTERVALS]
    heights = [-rank for rank in range(len(shown))]
    values = [factor * value for group in shown for value in group.values.values()]
    ends = [factor * end for group in shown for end in group.interval or ()]
    low, high = min(values + ends), max(values + ends)
    margin = 0.05 * (high - low) or 0.01 * abs(high) or 1.0
    plot = _figure(height=60 + ROW * len(shown), tools="", y_range=(heights[-1] - 0.5, 0.7), x_range=(low - margin, high + margin))
    plot.yaxis.visible = plot.ygrid.visible = False
    plot.xaxis.axis_label = comparison.read.title
    plot.vspan([factor * comparison.baseline.mean], line_dash="dashed", line_color="#808080")
    looks = [look(rank) for rank in range(len(shown))]
    dots = [
        (factor * value, -rank, seed, group.name, *looks[rank][:2])
        for rank, group in enumerate(shown)
        for seed, value in group.values.items()
    ]
    spans = [
        (factor * group.interval[0], factor * group.interval[1], -rank, looks[rank][0])
        for rank, group in enumerate(shown)
        if group.interval
    ]
    plot.segment("low", "y", "high", "y", source=_columns(("low", "high", "y", "color"), spans), color="color", line_width=2)
    means = ColumnDataSource({"x": [factor * group.mean for group in shown], "y": heights, "color": [color for color, _, _ in looks]})
    plot.scatter("x", "y", source=means, marker="dash", angle=math.pi / 2, size=18, line_width=3, color="color")
    points = plot.scatter(
        "x",
        "y",
        source=_columns(("x", "y", "seed", "group", "color", "marker"), dots),
        marker="marker",
        size=8,
        color="color",
        fill_alpha=0.4,
    )
    names = ColumnDataSource({"x": [low - margin] * len(shown), "y": [height + 0.42 for height in heights]})
    names.data["text"] = [f"{rank + 1}. {comparison.changed(group)}" for rank, group in enumerate(shown)]
    plot.text("x", "y", "text", source=names, x_offset=4, text_baseline="middle", text_font_size="12px", name="ink")
    plot.add_tools(HoverTool(renderers=[points], tooltips=[("group", "@group"), ("seed", "@seed"), (comparison.metric, "@x{0.[0000]}")]))
    return plot


def _columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> "ColumnDataSource":
    from bokeh.models import ColumnDataSource

    return ColumnDataSource({name: [row[index] for row in rows] for index, name in enumerate(names)})


def _curves() -> "figure":
    """Returns an empty plot. The page fills it with the chosen metric, groups and smoothing."""
    from bokeh.models import HoverTool

    plot = _figure(height=380, tools="pan,box_zoom,reset", x_axis_label="optimizer step")
    plot.toolbar_location = "above"
    lines = dict.fromkeys(("xs", "ys", "color", "group"), ())
    plot.patches("xs", "ys", source=_columns(("xs", "ys", "color"), []), color="color", fill_alpha=0.12, line_alpha=0, name="bands")
    plot.multi_line("xs", "ys", source=_columns([*lines], []), line_color="color", line_alpha=0.25, line_width=1, name="raw")
    plot.multi_line("xs", "ys", source=_columns([*lines], []), line_color="color", line_alpha=0.5, line_width=1, name="seeds")
    means = plot.multi_line(
        "xs", "ys", source=_columns([*lines, "dash"], []), line_color="color", line_dash="dash", line_width=2.5, name="means"
    )
    plot.scatter("x", "y", source=_columns(("x", "y", "color", "marker"), []), color="color", marker="marker", size=7, name="points")
    tooltips = [("group", "@group"), ("step", "$snap_x{0,0}"), ("mean", "$snap_y{0.[0000]}")]
    plot.add_tools(HoverTool(renderers=[means], line_policy="nearest", tooltips=tooltips))
    return plot


def _scatter(comparison: Comparison, source: "ColumnDataSource", column: str) -> "figure":
    from bokeh.models import BasicTicker, HoverTool, LogTicker, NoOverlap

    label = COSTS[column]
    known = [value for value in source.data[column] if value]
    kind = "log" if known and max(known) >= LOG_FROM * min(known) else "linear"
    plot = _figure(height=260, tools="", x_axis_type=kind, x_axis_label=label, y_axis_label=comparison.read.title)
    plot.xaxis.ticker = (LogTicker if kind == "log" else BasicTicker)(desired_num_ticks=4)
    plot.xaxis.major_label_policy = NoOverlap()
    points = plot.scatter(column, "value", source=source, color="color", marker="marker", size=8, fill_alpha=0.5, nonselection_alpha=0.08)
    tooltips = [("group", "@group"), ("seed", "@seed"), (label, f"@{column}{{0,0}}"), (comparison.metric, "@value{0.[0000]}")]
    plot.add_tools(HoverTool(renderers=[points], tooltips=tooltips))
    return plot


@dataclass(frozen=True)
class Axis:
    """The height of each value, from 0 to 1 or in the slot for missing values, and the tick labels by height."""

    heights: list[float]
    ticks: dict[float, str]


def axis(values: Sequence[Any]) -> Axis:
    known = [value for value in values if value is not MISSING]
    is_number = bool(known) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
    if is_number and min(known) < max(known):
        is_log = min(known) > 0 and max(known) >= LOG_FROM * min(known)
        low, high = (math.log(end) if is_log else float(end) for end in (min(known), max(known)))
        at = {value: ((math.log(value) if is_log else value) - low) / (high - low) for value in set(known)}
        ends = [low + step * (high - low) / 4 for step in range(5)]
        written = {step / 4: f"{math.exp(end) if is_log else end:.3g}" for step, end in enumerate(ends)}
        ticks = {at[value]: f"{value:.4g}" for value in at} if len(at) <= 6 else written
        heights = [at[value] if value is not MISSING else MISSING_AT for value in values]
    else:
        choices = [text_of(value) for value in sorted(known, key=order_of)]
        places = {text: index for index, text in enumerate(dict.fromkeys(choices))}
        ticks = {index / max(len(places) - 1, 1): text for text, index in places.items()}
        heights = [places[text_of(value)] / max(len(places) - 1, 1) if value is not MISSING else MISSING_AT for value in values]
    return Axis(heights, ticks if len(known) == len(values) else {**ticks, MISSING_AT: MISSING})


def _short(keys: Sequence[str]) -> list[str]:
    """Drops the keys' groups where the names stay different."""
    last = [key.rpartition(".")[2] for key in keys]
    return [name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)]


def _parallel(comparison: Comparison, source: "ColumnDataSource", keys: Sequence[str]) -> "figure":
    """Draws a line per run across one axis per setting, coloured by the metric. A box drawn over an axis selects the runs that pass it."""
    from bokeh.models import BoxSelectTool
    from bokeh.transform import linear_cmap

    names = [*_short(keys), comparison.read.title]
    runs: list[Run] = [run for group in comparison.groups for run in group.runs]
    values = list(source.data["value"])
    axes = [axis([run.setting(key) for run in runs]) for key in keys] + [axis(values)]
    plot = _figure(height=360, tools="", min_width=110 * len(names), x_range=(-0.3, len(names) - 0.3), y_range=(-0.25, 1.1))
    plot.yaxis.visible = plot.grid.visible = False
    plot.xaxis.ticker = list(range(len(names)))
    plot.xaxis.major_label_overrides = dict(enumerate(names))
    color = linear_cmap("value", "Viridis256", min(values), max(values))
    plot.multi_line("xs", "ys", source=source, line_color=color, line_width=1.5, line_alpha=0.7, nonselection_line_alpha=0.06)
    plot.segment(list(range(len(names))), 0, list(range(len(names))), 1, line_color="#808080")
    ticks = [(index, height, text) for index, one in enumerate(axes) for height, text in one.ticks.items()]
    plot.text(
        "x", "y", "text", source=_columns(("x", "y", "text"), ticks), x_offset=4, text_baseline="middle", text_font_size="11px", name="ink"
    )
    plot.quad("left", "right", "bottom", "top", source=_columns(("left", "right", "bottom", "top"), []), alpha=0.2, name="brushes")
    box = BoxSelectTool()
    plot.add_tools(box)
    plot.toolbar.active_drag = box
    return plot
