"""Tables on the screen: the one place that decides how they look."""

import sys
from collections.abc import Collection, Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from resnet.plain import plain

WIDE = 10_000  # columns


def table(columns: Iterable[str], left: Collection[str] = (), title: str | None = None, *, fold: bool = True) -> Table:
    """With a bold header and no frame. The columns named in `left` begin on the left; the others, numbers, end on the right.

    `fold`: a cell that is wider than its column goes on below; otherwise it is not broken.
    """
    made = _bare(show_header=True, title=title)
    for name in columns:
        made.add_column(cell(name), justify="left" if name in left else "right", overflow="fold", no_wrap=not fold)
    return made


def pairs(rows: Iterable[tuple[str, str]], style: str) -> Table:
    """Names and what they stand for, without a header."""
    made = _bare(show_header=False)
    made.add_column(style=style, no_wrap=True)
    made.add_column(overflow="fold")
    for row in rows:
        made.add_row(*map(cell, row))
    return made


def screen() -> Console:
    """Standard output; where it is no terminal, as wide as the tables are, so that nothing is broken into lines."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)


def cell(text: object) -> str:
    """Text from outside, whose brackets are no markup and whose control characters do nothing."""
    return escape(plain(str(text)))


def _bare(*, show_header: bool, title: str | None = None) -> Table:
    return Table(box=None, header_style="bold", padding=(0, 2, 0, 0), show_header=show_header, title=title)
