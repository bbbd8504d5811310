"""How `python -m resnet check-data` shows its report."""

from collections.abc import Sequence
from typing import Any

from resnet.plain import plain
from resnet.record.screen import cell, screen, table

MOST_CLASSES, MOST_LISTED = 30, 5


def checked_data(result: dict[str, Any]) -> None:
    from resnet.data import as_size, size_text  # imports torch

    parts = result["classes"]
    names = list(parts["train"])
    counts = table(("class", *parts), left=("class",), fold=False)
    for name in names[:MOST_CLASSES]:
        counts.add_row(cell(name), *(f"{numbers[name]:,}" for numbers in parts.values()))
    if len(names) > MOST_CLASSES:
        counts.add_row(f"and {len(names) - MOST_CLASSES:,} more", *("" for _ in parts))
    counts.add_section()
    counts.add_row(f"{len(names):,} classes", *(f"{sum(numbers.values()):,}" for numbers in parts.values()))
    print(plain(f"{result['data']}: images of {result['channels']}x{size_text(as_size(result['image_size']))}"))
    screen().print(counts)
    for note in result["notes"]:
        if not (note.startswith("left out") and "cannot be read" in note):
            print(plain(note))
    _listed("cannot be read", result["unreadable"])
    _listed("the same image under several labels", [" = ".join(those) for those in result["label_conflicts"]])
    _listed("the same image in several parts", [" = ".join(those) for those in result["between_parts"]])
    _listed("the same image more than once", [" = ".join(those) for those in result["duplicates"]])
    near = [f"{one['image']} ~ {one['train']} ({one['correlation']:.3f})" for one in result["nearly_same"]]
    _listed("nearly the same image in training and another part (correlation at 16x16 pixels)", near)
    print(plain(f"a sheet of each class: {result['sheet']}"))


def _listed(what: str, found: Sequence[str]) -> None:
    print(f"{what}: {len(found):,}" if found else f"{what}: none")
    for line in found[:MOST_LISTED]:
        print(plain(f"  {line}"))
    if len(found) > MOST_LISTED:
        print(f"  and {len(found) - MOST_LISTED:,} more (--json lists all)")
