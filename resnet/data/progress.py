"""Shows how far long work on data is, on standard error: a bar on a terminal, elsewhere a line now and then."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SILENT, BETWEEN = 1.0, 10.0  # seconds before the first line, and between lines
Item = TypeVar("Item")


def shown(items: Iterable[Item], total: int, text: str) -> Iterator[Item]:
    """Yields the items, and shows how many of `total` are done once it takes longer than a second."""
    screen = Console(stderr=True, highlight=False)
    return _with_bar(items, total, text, screen) if screen.is_terminal else _with_lines(items, total, text)


def _with_bar(items: Iterable[Item], total: int, text: str, screen: Console) -> Iterator[Item]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    bar, started = Progress(*columns, console=screen, transient=True), time.monotonic()
    task = bar.add_task(text, total=total)
    try:
        for number, item in enumerate(items, 1):
            yield item
            if time.monotonic() - started > SILENT:
                bar.start()
            bar.update(task, completed=number)
    finally:
        bar.stop()


def _with_lines(items: Iterable[Item], total: int, text: str) -> Iterator[Item]:
    started = time.monotonic()
    next_line = started + SILENT
    for number, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now > next_line and number < total:
            left = (now - started) / number * (total - number)
            print(f"{text}: {number:,} of {total:,}, about {left:,.0f} s left", file=sys.stderr, flush=True)
            next_line = now + BETWEEN
