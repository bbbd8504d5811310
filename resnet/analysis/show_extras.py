"""How `evaluate` shows what it was asked for besides the scores."""

from collections.abc import Callable
from typing import Any

from rich.table import Table

from resnet.record.lines import percent, unpredicted
from resnet.record.screen import cell, table

Result = dict[str, Any]


def extra_tables(result: Result) -> list[Table]:
    made: dict[str, Callable[[Any], Table]] = {"ensemble": _members, "corruptions": _corruptions, "attacks": _attacks}
    return [make(result[name]) for name, make in made.items() if name in result]


def extra_lines(result: Result) -> list[str]:
    made = {"averaged": _averaged, "temperature": _temperature}
    return [line for name, make in made.items() if name in result for line in make(result[name])]


def never_predicted(result: Result) -> list[str]:
    return [f"warning: never predicted: {unpredicted(result['never_predicted'])}"] if result["never_predicted"] else []


def interval(value: dict[str, float]) -> tuple[str, str]:
    return percent(value["value"]), f"{percent(value['low'])} to {percent(value['high'])}"


def _members(rows: list[dict[str, Any]]) -> Table:
    members = table(("member", "step", "accuracy", "95 % interval"), left=("member",), fold=False)
    for row in rows:
        members.add_row(cell(row["run"]), f"{row['step']:,}", *interval(row["accuracy"]))
    return members


def _corruptions(found: dict[str, Any]) -> Table:
    severities = [str(number) for number in range(1, len(found["mean_by_severity"]) + 1)]
    shown = table(("accuracy at severity", *severities, "mean"), left=("accuracy at severity",), fold=False)
    for name, values in found["by_name"].items():
        shown.add_row(name, *map(percent, values), percent(sum(values) / len(values)))
    shown.add_section()
    shown.add_row("mean", *map(percent, found["mean_by_severity"]), percent(found["mean"]))
    return shown


def _attacks(found: dict[str, Any]) -> Table:
    shown = table(("attack", "eps", "accuracy", "95 % interval"), left=("attack",), fold=False)
    for name, rows in found["by_name"].items():
        for row in rows:
            shown.add_row(f"{name}, {found['steps']} steps" if name == "pgd" else name, _in_255(row["eps"]), *interval(row["accuracy"]))
    return shown


def _in_255(size: float) -> str:
    return f"{255 * size:.4g}/255"


def _averaged(averaged: dict[str, Any]) -> list[str]:
    without = averaged["accuracy_without"]
    compared = f"; without: accuracy {percent(without['value'])}" if without else ""
    return [f"mean probability over {' and '.join(averaged['views'])} of each image{compared}"]


def _temperature(fitted: dict[str, Any]) -> list[str]:
    before, after = fitted["before"], fitted["after"]
    return [
        f"temperature {fitted['value']:.4g}, fitted on {fitted['held_out_images']:,} held-out images: "
        f"cross entropy {before['loss']:.4f} -> {after['loss']:.4f}, "
        f"calibration error {percent(before['calibration_error'])} -> {percent(after['calibration_error'])}",
        f"saved: {fitted['saved']}; predict and export scale their probabilities by it until you delete it"
        if fitted["saved"]
        else f"not saved: {fitted['not_saved']}",
    ]
