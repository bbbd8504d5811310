"""A comparison as text: table cells, CSV, Markdown, LaTeX, and a curve in one line."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from resnet.plain import for_latex, for_markdown, for_spreadsheet


def cells(result: dict[str, Any]) -> list[list[str]]:
    """Returns a header and one line per group."""
    keys = list(result["groups"][0]["differing"])
    is_share = result["is_share"]

    def show(value: float) -> str:
        return f"{100 * value:.2f}" if is_share else f"{value:.4f}"

    def spread(row: dict[str, Any]) -> str:
        if row["n"] == 1:
            return f"one {result['unit_of_runs'].removesuffix('s')}, no interval"
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
    csv.writer(text, lineterminator="\n").writerows([for_spreadsheet(cell) for cell in row] for row in cells(result))
    return text.getvalue()


def as_markdown(result: dict[str, Any]) -> str:
    header, *rows = ([for_markdown(cell) for cell in row] for row in cells(result))
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def as_latex(result: dict[str, Any]) -> str:
    """Returns a booktabs table. Bold marks what may be the best: the best mean, and all means that are not resolved from it."""
    header, *rows = cells(result)
    lines = []
    for row, line in zip(result["groups"], rows, strict=True):
        shown = [for_latex(cell) for cell in line[1:-1]]
        mean = len(row["differing"])
        shown[mean] = f"\\textbf{{{shown[mean]}}}" if row["may_be_best"] else shown[mean]
        lines.append(" & ".join(shown) + r" \\")
    numbers = sorted({row["n"] for row in result["groups"]})
    seeds = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
    unit = result["unit_of_runs"]
    caption = (
        f"{result['metric']}, mean, standard deviation and 95 % t interval over n = {seeds} {unit}. "
        f"Bold: the best mean and all that these {unit} do not resolve from it."
    )
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{for_latex(caption)}}}",
            rf"\begin{{tabular}}{{{'l' * len(result['groups'][0]['differing'])}rrrl}}",
            r"\toprule",
            " & ".join(for_latex(cell) for cell in header[1:-1]) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def sparkline(values: Sequence[float], width: int = 12) -> str:
    """Returns the course of a metric as one line of blocks, from its lowest to its highest value."""
    if len(values) < 2 or max(values) == min(values):
        return ""
    shown = [values[index * (len(values) - 1) // (min(width, len(values)) - 1)] for index in range(min(width, len(values)))]
    low, high = min(shown), max(shown)
    return "".join("▁▂▃▄▅▆▇█"[int(7 * (value - low) / ((high - low) or 1))] for value in shown)
