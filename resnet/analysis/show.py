"""How `python -m resnet` shows its results: tables on the screen, and CSV for rows."""

import csv
import sys
from collections.abc import Callable
from typing import Any

from rich.table import Table

from resnet.analysis.show_extras import extra_lines, extra_tables, interval, never_predicted
from resnet.analysis.tables import as_csv, as_latex, as_markdown, cells, sparkline
from resnet.plain import for_spreadsheet, plain
from resnet.record.lines import count, duration, percent
from resnet.record.screen import cell, screen, table


def nothing(result: Any) -> None:
    """Shows nothing, for commands that have already shown what they did."""


def files(result: list[str]) -> None:
    for file in result:
        print(plain(file))


def description(result: dict[str, Any]) -> None:
    known = any(row["receptive_field"] is not None for row in result["stages"])
    stages = table(("stage", "output", "parameters", "operations", *(["receptive field"] if known else [])), left=("stage",), fold=False)
    for row in result["stages"]:
        shape = "x".join(map(str, row["output"] or ()))
        field = "" if row["receptive_field"] is None else str(row["receptive_field"])
        stages.add_row(cell(row["stage"]), shape, f"{row['parameters']:,}", count(row["flops"]), *([field] if known else []))
    stages.add_section()
    stages.add_row("total", "", f"{result['parameters']:,}", count(result["flops"]))
    splits = {name: result["data"][name] for name in ("train", "val", "test") if name in result["data"]}
    counts = table(("class", *splits), left=("class",), fold=False)
    for name in next(iter(splits.values())):
        counts.add_row(cell(name), *(f"{split[name]:,}" for split in splits.values()))
    counts.add_section()
    counts.add_row("total", *(f"{sum(split.values()):,}" for split in splits.values()))
    print(plain(f"model: {result['model']}"))
    for note in result["notes"]:
        print(plain(f"note: {note}"))
    _print(stages, counts)
    print(
        f"operations: of one image forward, two per multiply-add; data: {result['data']['name']}, mean {_few(result['data']['mean'])}, "
        f"std {_few(result['data']['std'])}"
    )
    epochs = result["steps"] / result["steps_per_epoch"]
    print(
        f"an epoch of {result['steps_per_epoch']:,} steps: about {duration(result['seconds_per_epoch'])} on {result['device']}, "
        f"{epochs:.4g} epochs: about {duration(result['seconds_per_epoch'] * epochs)}; about {count(result['memory'])}B of memory a step"
    )


def evaluation(result: dict[str, Any]) -> None:
    metrics = table(("metric", "value", "95 % interval"), left=("metric",), fold=False)
    for key, name in (("accuracy", "accuracy"), ("top5", "top-5 accuracy"), ("loss", "loss"), ("calibration_error", "calibration error")):
        if key in result:
            show = (lambda value: f"{value:.4f}") if key == "loss" else percent
            metrics.add_row(name, *_with_interval(result[key], show, result["number"]))
    for name, value in result["metrics"].items():
        metrics.add_row(cell(name), *_with_interval(value, percent if value["unit"] == "%" else "{:.4f}".format, result["number"]))
    classes = table(("class", "images", "precision", "recall", "95 % interval", "f1"), left=("class",), fold=False)
    for row in result["classes"]:
        interval = f"{percent(row['recall_low'])} to {percent(row['recall_high'])}" if row["images"] else ""
        scores = percent(row["precision"]), percent(row["recall"]), interval, f"{row['f1']:.4f}"
        classes.add_row(cell(row["class"]), f"{row['images']:,}", *scores)
    images = f"{result['number']:,} {result['images']} image{'s' if result['number'] > 1 else ''}"
    members = result.get("ensemble", [])
    who = f"{len(members)} runs together" if members else f"{result['run']}, {result['checkpoint']} of step {result['step']:,}"
    print(plain(f"{who}, on {images}"))
    _print(metrics, classes, *extra_tables(result))
    for line in (*extra_lines(result), *never_predicted(result)):
        print(plain(line))
    _changed(result)
    print(plain(f"confusion matrix: {result['picture'] or result['no_picture']}"))


def _with_interval(value: dict[str, Any], show: Callable[[float], str], images: int) -> tuple[str, str]:
    low, high = value["low"], value["high"]
    none = "one image, no interval" if images == 1 else ""
    return show(value["value"]), none if low is None else f"{show(low)} to {show(high)}"


def predictions(result: list[dict[str, Any]]) -> None:
    rows = csv.writer(sys.stdout, lineterminator="\n")
    read = [row for row in result if "error" not in row]
    rows.writerow([for_spreadsheet(plain(name)) for name in ("file", "class", "probability", "unlike", *read[0]["probabilities"])])
    for row in read:
        texts = [for_spreadsheet(plain(text)) for text in (row["file"], row["class"])]
        unlike = {True: "yes", False: "no", None: ""}[row["unlike"]]
        rows.writerow([*texts, f"{row['probability']:.6f}", unlike, *(f"{value:.6f}" for value in row["probabilities"].values())])


def explanations(result: list[dict[str, Any]]) -> None:
    shown = table(("picture", "class", "probability", "nearest training images"), left=("picture", "class", "nearest training images"))
    for row in (row for row in result if "error" not in row):
        labels = ", ".join(f"{one['label']} ({one['likeness']:.2f})" for one in row["nearest"])
        shown.add_row(cell(row["picture"]), cell(row["class"]), percent(row["probability"]), cell(labels))
    _print(shown)


def features(result: dict[str, Any]) -> None:
    sizes = ", ".join(f"{number:,} {name}" for name, number in result["images"].items())
    print(plain(f"{result['run']}, {result['checkpoint']} of step {result['step']:,}: {result['features']:,} features of {sizes} images"))
    if result["labelled"]:
        title = f"on {result['labelled']:,} {result['judged_on']} images"
        shown = table((title, "accuracy", "95 % interval"), left=(title,), fold=False)
        shown.add_row("the network itself", *interval(result["network"]))
        shown.add_row(f"nearest neighbours, k={result['neighbours']['setting']}", *interval(result["neighbours"]["accuracy"]))
        shown.add_row(f"linear probe, C={result['linear']['setting']:g}", *interval(result["linear"]["accuracy"]))
        _print(shown)
    else:
        print("no image lies in a folder that is named as a class: nothing to judge by")
    _changed(result)
    for reason in result["left_out"]:
        print(plain(f"left out: {reason}"))
    if result["output"]:
        print(plain(f"features: {result['output']}"))


def exports(result: dict[str, Any]) -> None:
    for kind, written in result["written"].items():
        names = f", under {result['names']} names" if kind == "safetensors" else ""
        print(
            plain(f"{written['file']}: ") + f"{written['bytes']:,} bytes{names}, {result['checkpoint']} of step {result['step']:,}; "
            f"its class scores differ by at most {written['largest_difference']:.1e} on {result['checked_on']}"
        )
    if result["temperature"]:
        print(f"probabilities in the ONNX are scaled by the temperature {result['temperature']:.4g} that evaluate has saved")
    _changed(result)


def _changed(result: dict[str, Any]) -> None:
    for part in result["changed_data"]:
        print(f"mind: these are not the data that it was trained with: {part}")


def comparison(result: dict[str, Any]) -> None:
    if result["format"] != "table":
        print({"csv": as_csv, "markdown": as_markdown, "latex": as_latex}[result["format"]](result), end="")
        return
    header, *rows = cells(result)
    groups = table((*header[:-1], "course"), left=(*header[:-1], "course"))
    for row, line in zip(result["groups"], rows, strict=True):
        groups.add_row(*map(cell, line[:-1]), sparkline(row["curve"]))
    _print(groups)
    if len(rows) > 1:
        print(plain(f"against the baseline, {result['baseline']}:"))
        print("\n".join(f"  {line[0]}: {line[-1]}" for line in rows) + "\n")
    print(plain(result["answer"]))
    marked = " on the TEST set: the best of several there is no honest result" if result["on_test"] else ""
    runs = f"{result['runs']} run{'s' if result['runs'] > 1 else ''}"
    print(plain(f"{runs}, grouped {result['grouped']}; sorted by {result['sorted_by']}{marked}"))
    if result["settle"]:
        print("to settle what is not resolved, if differences and spreads stay as they are:")
        print("\n".join(f"  {plain(command)}" for command in result["settle"]))
    for name, lines in (("left out", result["left_out"]), ("mind", result["cautions"])):
        for line in lines:
            print(f"{name}: {plain(line)}")
    if result["page"]:
        print(plain(f"page: {result['page']}"))


def _print(*tables: Table) -> None:
    out = screen()
    for one in tables:
        out.print()
        out.print(one)
    out.print()


def _few(values: list[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
