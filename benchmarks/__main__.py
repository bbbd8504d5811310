"""`make bench`: runs all measurements, prints the tables, and writes them as table.md and table.csv."""

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.accuracy import accuracy
from benchmarks.measure import ROOT, machine, run
from benchmarks.speed import ARTICLE, DEEP, DEFAULT, PEAK, SAME_32, SAME_128, speed
from benchmarks.start import start
from resnet.streams import keep_going

Row = Sequence[str]


def speed_rows(found: Mapping[str, Mapping[str, float]]) -> list[Row]:
    peak, base = found[PEAK]["operations"], found[ARTICLE]["images_per_second"]
    rows: list[Row] = [("program", "images/s", "to the article's", "share of the peak", "memory", "first step")]
    for name, one in found.items():
        if "images_per_second" not in one:
            continue
        share = f"{one['operations'] / peak:.0%}" if "operations" in one else ""
        ratio = f"{one['images_per_second'] / base:.2f}" if name != DEEP else ""
        rows.append((name, f"{one['images_per_second']:,.0f}", ratio, share, f"{one['megabytes']:,.0f} MB", f"{one['first_step']:.1f} s"))
    return rows


def target_rows(found: Mapping[str, Mapping[str, float]], inside: Mapping[str, float], begun: Mapping[str, float]) -> list[Row]:
    peak, least, most = found[PEAK]["operations"], "at least", "at most"

    def ratio(name: str) -> float:
        return found[name]["images_per_second"] / found[ARTICLE]["images_per_second"]

    def share(name: str) -> float:
        return found[name]["operations"] / peak

    measured = [
        ("images/s at the article's settings, batch 32, to the article's program", ratio(SAME_32), least, 1.45),
        ("images/s at the article's settings, batch 128, to the article's program", ratio(SAME_128), least, 1.45),
        ("images/s of the default recipe, to the article's program", ratio(DEFAULT), least, 2.0),
        ("share of the peak, [2,2,2]", share(DEFAULT), least, 0.65),
        ("share of the peak, [9,9,9]", share(DEEP), least, 0.65),
        ("what tracking, progress and Fabric cost", inside["overhead"], most, 0.02),
        ("augmentation in batches of 128, to torchvision's with PIL", inside["augmentation"], least, 100.0),
        ("evaluation, to training", inside["evaluation"], least, 2.5),
        ("--cfg job, to import hydra", begun["config"], most, 3.0),
        ("first step of data=digits, to import torch, lightning_fabric", begun["first_step"], most, 1.6),
    ]
    rows: list[Row] = [("what", "measured", "wanted", "")]
    for name, value, bound, wanted in measured:
        holds = value >= wanted if bound == least else value <= wanted
        rows.append((name, f"{value:.3g}", f"{bound} {wanted:.3g}", "holds" if holds else "does not hold"))
    return rows


def write(folder: Path, tables: Sequence[Sequence[Row]], notes: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "table.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(row for table in tables for row in table)
    lines = []
    for head, *rows in tables:
        lines += ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)] + [""]
    (folder / "table.md").write_text("\n".join([*lines, *notes, ""]), "utf-8")


def show(tables: Sequence[Sequence[Row]], notes: Sequence[str]) -> None:
    screen = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    for head, *rows in tables:
        table = Table(*head, box=None, header_style="bold", padding=(0, 2, 0, 0))
        for row in rows:
            table.add_row(*row)
        screen.print(table, "")
    screen.print(*notes, sep="\n")


def main() -> None:
    keep_going()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="folder of MNIST, which is downloaded where it is not there")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="five seeds instead of one, and the article's program for five epochs")
    parser.add_argument(
        "--packages", type=Path, nargs="*", default=[], help="folders that pytorch-lightning is in, where it is not installed"
    )
    parser.add_argument("--to", type=Path, default=Path("outputs/benchmark"), help="folder of the tables")
    chosen = parser.parse_args()
    if chosen.repetitions < 1:
        parser.error(f"--repetitions {chosen.repetitions}: it must be at least 1")
    data = chosen.data.resolve()
    found = speed(data, chosen.repetitions, [folder.resolve() for folder in chosen.packages])
    with tempfile.TemporaryDirectory() as folder:
        inside = json.loads(run(["-m", "benchmarks.inside", data], Path(folder)).output.splitlines()[-1])
    begun = start(chosen.repetitions)
    raced = accuracy(data, chosen.full)
    tables = [speed_rows(found), target_rows(found, inside, begun), raced]
    notes = [
        f"{machine()}; medians of {chosen.repetitions} interleaved repetitions",
        f"float32 matrix products: {found[PEAK]['operations'] / 1e9:,.0f} billion operations a second",
        f"command: python -m benchmarks {' '.join(sys.argv[1:])}",
    ]
    show(tables, notes)
    write(chosen.to, tables, notes)
    print(f"written: {chosen.to}/table.md, table.csv")


if __name__ == "__main__":
    main()
