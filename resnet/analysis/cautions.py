"""Finds what makes runs hard to compare: different commits, data splits or devices, missing seeds, damaged curves."""

import json
from collections.abc import Sequence

from resnet.analysis.grouping import Group
from resnet.analysis.runs import Run
from resnet.record.lines import unpredicted


def cautions(runs: Sequence[Run]) -> list[str]:
    """Returns what makes these runs hard to compare."""
    commits = {json.dumps(run.summary.get("commit")) for run in runs}
    notes = never_predicted(runs)
    notes += [f"{len(commits)} different commits"] if len(commits) > 1 else []
    if any((run.summary.get("commit") or {}).get("dirty") for run in runs):
        notes.append("files differed from their commit")
    for key, name in (("data.split_seed", "data splits"), ("data.val_size", "held-out sizes"), ("epochs", "numbers of epochs")):
        if len({repr(run.config.get(key)) for run in runs}) > 1:
            notes.append(f"different {name}")
    for key in ("torch", "device"):
        if len({session[key] for run in runs for session in run.summary.get("sessions", [])[-1:] if key in session}) > 1:
            notes.append(f"different {'torch versions' if key == 'torch' else 'devices'}")
    return notes


def never_predicted(runs: Sequence[Run]) -> list[str]:
    """Returns one line about the runs that never predict a class of the test images."""
    found = [(run.path, classes) for run in runs if (classes := run.summary.get("never_predicted"))]
    if not found:
        return []
    path, classes = found[0]
    some = f"{len(found)} of {len(runs)} runs never predict some class, like " if len(runs) > 1 else ""
    return [f"{some}{path}: never predicted: {unpredicted(classes)}"]


def of_folds(groups: Sequence[Group]) -> list[str]:
    """Returns a note if groups are the folds of a cross-validation."""
    if not any(group.overlap for group in groups):
        return []
    return ["folds of a cross-validation share training images: intervals are those of Nadeau and Bengio (2003)"]


def without_curve(runs: Sequence[Run]) -> list[str]:
    """Returns a note for each run with a damaged metrics.csv. Its results still count, since they are in the summary."""
    return [f"{run.rows_problem}; its curve is left out" for run in runs if run.rows_problem]


def unmatched(groups: Sequence[Group]) -> list[str]:
    """Returns notes about groups that lack seeds of other groups."""
    seeds = dict.fromkeys(seed for group in groups for seed in group.values)
    lacking: dict[str, list[str]] = {}
    for group in groups:
        if missing := sorted((seed for seed in seeds if seed not in group.values), key=seed_order):
            lacking.setdefault(", ".join(missing), []).append(group.name)
    return [f"unmatched seeds: {_first_of(names)} {missing}" for missing, names in lacking.items()]


def _first_of(names: Sequence[str]) -> str:
    others = len(names) - 1
    return f"{names[0]} and {others} other group{'s' * (others > 1)} lack" if others else f"{names[0]} lacks"


def seed_order(member: str) -> tuple[int, str]:
    return int(member.split()[0]), member
