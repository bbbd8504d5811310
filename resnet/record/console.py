"""The screen: a header, a live bar, a line per epoch and a closing table. Without a terminal it prints plain lines."""

from typing import Any

from rich.console import Console as Screen
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from resnet.plain import plain
from resnet.record import lines
from resnet.record.screen import pairs
from resnet.record.trackers import RunFacts, TestReport, Tracker


class Console(Tracker):
    """`is_brief` is for one job of many, whose sweep reports the rest: it prints only the epochs and a closing line."""

    failed = "the screen shows no more of it"

    def __init__(self, is_brief: bool = False) -> None:
        self.screen, self.is_brief = Screen(highlight=False), is_brief
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[metrics]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.screen,
            transient=True,
            refresh_per_second=4,
            disable=not self.screen.is_terminal,
        )

    def start(self, facts: RunFacts) -> None:
        self.facts = facts
        if not self.is_brief:
            self._table(lines.header(facts))
        elif facts.continued:
            self._say(f"continued: {facts.continued}")
        self.task = self.bar.add_task("training", total=facts.steps, completed=facts.start_step, metrics="")
        self.bar.start()

    def advance(self, step: int) -> None:
        self.bar.update(self.task, completed=step)

    def record(self, step: int, epoch: float, metrics: dict[str, float]) -> None:
        if "train/loss" not in metrics:
            return
        text = f"loss {metrics['train/loss']:.3f} acc {lines.percent(metrics['train/accuracy'])}"
        self.bar.update(self.task, metrics=f"{text} {metrics['images_per_second']:,.0f} images/s")
        if step % self.facts.steps_per_epoch == 0 or step == self.facts.steps:
            self._say(lines.epoch_line(step, epoch, self.facts, metrics))

    def finish(self, summary: dict[str, Any], report: TestReport) -> None:
        self.bar.stop()
        if self.is_brief:
            self._say(", ".join(f"{name}: {text}" for name, text in lines.closing(summary)))
            return
        self.screen.print()
        self._table(lines.closing(summary), style="bold green")
        self.screen.print()
        self._table(lines.next_steps(self.facts, summary))

    def fail(self, summary: dict[str, Any]) -> None:
        self.bar.stop()

    def close(self) -> None:
        self.bar.stop()

    def _say(self, text: str) -> None:
        self.screen.print(plain(text), soft_wrap=True, markup=False)

    def _table(self, rows: list[tuple[str, str]], style: str = "bold") -> None:
        """Prints an aligned table on a terminal; elsewhere plain `name: text` lines, never truncated."""
        if not self.screen.is_terminal:
            for name, text in rows:
                self._say(f"{name}: {text}" if name else f"  {text}")
            return
        self.screen.print(pairs(rows, style))
