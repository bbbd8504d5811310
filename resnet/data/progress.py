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
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=screen, transient=True
    )
    task, started, told = bar.add_task(text, total=total), time.monotonic(), time.monotonic() + SILENT - BETWEEN
    try:
        for number, item in enumerate(items, 1):
            yield item
            now = time.monotonic()
            if screen.is_terminal:
                if now - started > SILENT:
                    bar.start()
                bar.update(task, completed=number)
            elif now - told > BETWEEN and number < total:
                left = (now - started) / number * (total - number)
                print(f"{text}: {number:,} of {total:,}, about {left:,.0f} s left", file=sys.stderr, flush=True)
                told = now
    finally:
        bar.stop()
