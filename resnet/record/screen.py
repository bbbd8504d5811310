"""Tables on the screen. Only this module decides how they look."""

import sys
from collections.abc import Collection, Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from resnet.plain import plain

WIDE = 10_000  # columns


def table(columns: Iterable[str], left: Collection[str] = (), title: str | None = None, *, fold: bool = True) -> Table:
    """Returns a table with a bold header and no frame. Columns in `left` are aligned left; the others hold numbers and are aligned right.

    `fold`: a cell wider than its column continues on the next line; otherwise it is not broken.
    """
    made = _bare(show_header=True, title=title)
    for name in columns:
        made.add_column(cell(name), justify="left" if name in left else "right", overflow="fold", no_wrap=not fold)
    return made


def pairs(rows: Iterable[tuple[str, str]], style: str) -> Table:
    """Returns a table of names and their texts, without a header."""
    made = _bare(show_header=False)
    made.add_column(style=style, no_wrap=True)
    made.add_column(overflow="fold")
    for row in rows:
        made.add_row(*map(cell, row))
    return made


def screen() -> Console:
    """Returns standard output as a screen. Outside a terminal it is wide enough that no table is folded."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)


def cell(text: object) -> str:
    """Makes outside text safe to print: brackets are not markup, and control characters have no effect."""
    return escape(plain(str(text)))


def _bare(*, show_header: bool, title: str | None = None) -> Table:
    return Table(box=None, header_style="bold", padding=(0, 2, 0, 0), show_header=show_header, title=title)
