"""A live board for parallel jobs: it shows where each job is, read from the run directories."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from resnet.plain import plain
from resnet.record.directory import INTERRUPTED, RUNNING, RunDirectory, run_ids
from resnet.record.metrics import chosen_by, read_metrics
from resnet.record.reading import Unreadable
from resnet.record.screen import cell, table

SECONDS = 1.0  # between updates


@contextmanager
def board(directory: Path, ids: Sequence[str]) -> Iterator[None]:
    """Shows the board while open. Without ids, it shows all jobs that exist. Without a terminal, it prints a line when a job's state
    changes.
    """
    screen, over = Console(highlight=False), threading.Event()
    thread = threading.Thread(target=_show if screen.is_terminal else _tell, args=(screen, directory, ids, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _show(screen: Console, directory: Path, ids: Sequence[str], over: threading.Event) -> None:
    with Live(console=screen, refresh_per_second=2, transient=True) as live:
        while not over.wait(SECONDS):
            live.update(_table(directory, _states(directory, ids)))


def _tell(screen: Console, directory: Path, ids: Sequence[str], over: threading.Event) -> None:
    before, is_last = _states(directory, ids), False
    while not is_last:
        is_last = over.wait(SECONDS)
        now = _states(directory, ids)
        for name, state in now.items():
            if state != before.get(name):
                screen.print(plain(f"{name}: {state}"), markup=False)
        before = now


def _states(directory: Path, ids: Sequence[str]) -> dict[str, str]:
    return {name: RunDirectory(directory / name).status for name in ids or run_ids(directory)}


def _table(directory: Path, states: dict[str, str]) -> Table:
    counts = Counter(states.values())
    columns = ("job", "state", "step", "train loss", "held-out score")
    board = table(columns, left=columns, title=", ".join(f"{count} {state}" for state, count in counts.items()))
    for name, state in states.items():
        if state in (RUNNING, INTERRUPTED):
            board.add_row(cell(name), state, *_latest(RunDirectory(directory / name)))
    return board


def _latest(run: RunDirectory) -> tuple[str, str, str]:
    """Returns the step, the training loss and the held-out score that chooses the checkpoint, each from the last row that has it."""
    last: dict[str, float] = {}
    score = ""
    with suppress(OSError, Unreadable):  # not there yet, or damaged
        for row in run.metrics:
            last |= {key: value for key, value in row.items() if value is not None}
        chosen = read_metrics([run.summary])[chosen_by([run.summary])]
        score = chosen.show(last[chosen.key]) if chosen.key in last else ""
    loss = last.get("train/loss")
    return f"{last.get('step', 0):.0f}", "" if loss is None else f"{loss:.4f}", score
