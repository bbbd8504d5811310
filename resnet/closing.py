"""Work after a finished run: pictures, page, W&B. Each may fail with a one-line warning, and none changes the run's result."""

import shlex
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from resnet.analysis.drawing import drawings, missing
from resnet.analysis.page import REPORT
from resnet.config import Config, UserError
from resnet.config.hashing import plain_values
from resnet.plain import plain
from resnet.record import wandb_record
from resnet.record.directory import MIRRORED, DirectoryError, RunDirectory, shortest
from resnet.record.identity import ExistingRun
from resnet.record.lines import percent
from resnet.record.local import warn
from resnet.record.trackers import TrackerError, reason
from resnet.record.wandb import Mirrored, WandbTracker


class Closing:
    def __init__(self, directory: RunDirectory, in_sweep: bool) -> None:
        self.directory, self.in_sweep = directory, in_sweep
        self.left_out = {REPORT} if in_sweep else set()  # the sweep's own page shows all its runs
        self.path = shortest(directory.path)

    def draw(self, summary: dict[str, Any], only: Iterable[str] | None = None) -> None:
        for name, make in drawings(self.directory, summary).items():
            if name in self.left_out or (only is not None and name not in only):
                continue
            try:
                make()
            except Exception as error:  # an error of matplotlib, the page or the disk
                again = f"python -m resnet draw {shlex.quote(self.path)} makes it again"
                warn(self.directory, f"there is no {name}: {reason(error)}; {again}")

    def tell_finished(self, config: Config, existing: ExistingRun) -> None:
        """Reports a run that was finished before this command: its result, and what has changed since."""
        assert existing.summary is not None
        notes = list(existing.notes)
        if existing.other_code:
            other = "it counts as it is" if self.in_sweep else "another name=... trains with the code of now"
            notes.append(f"the code has changed since ({', '.join(existing.other_code)}): {other}")
        and_notes = "".join(f"; {note}" for note in notes)
        print(plain(f"{self.path}: this run is finished, with test accuracy {percent(existing.summary['test']['accuracy'])}{and_notes}"))
        self.complete(config, existing.summary)

    def complete(self, config: Config, summary: dict[str, Any]) -> None:
        """Makes what a finished run lacks because its process ended early. The test set is not used again."""
        lacking = [name for name in missing(self.directory, drawings(self.directory, summary)) if name not in self.left_out]
        is_old = not {"directory", "name", "parameters", "flops"} <= summary.keys()  # an old summary says too little for a record
        is_mirrored = config.wandb.mode == "disabled" or is_old or (self.directory / MIRRORED).exists()
        if (lacking or not is_mirrored) and not self.directory.is_held_elsewhere:
            try:
                self.directory.acquire()
            except (DirectoryError, UserError) as error:
                warn(self.directory, f"not all of it is drawn and mirrored: {reason(error)}")
                return
            try:
                self._complete(config, summary, lacking, is_mirrored)
            finally:
                self.directory.release()

    def _complete(self, config: Config, summary: dict[str, Any], lacking: list[str], is_mirrored: bool) -> None:
        self.draw(summary, lacking)
        made = [name for name in lacking if (self.directory / name).exists()]
        if not is_mirrored and self._mirror(config, summary):
            made.append("the W&B record")
        if made:
            print(f"{self.path}: made what was missing: {', '.join(made)}")

    def _mirror(self, config: Config, summary: dict[str, Any]) -> bool:
        """Writes the W&B record again. It lacks the pictures of predictions, which only the testing process had. The run's summary does not
        change.
        """
        known = {**summary, **wandb_record.identity(summary, self.directory.path)}
        run = Mirrored(
            directory=self.directory.path,
            name=summary["name"],
            overrides=summary["overrides"],
            config=plain_values(config),
            parameters=summary["parameters"],
            flops=summary["flops"].get("forward", 0),
        )
        try:
            mirror = WandbTracker(asdict(config.wandb), run, known)
        except TrackerError as error:
            warn(self.directory, f"{WandbTracker.failed}: {error}")
            return False
        try:
            mirror.replay(self.directory.metrics)
            mirror.finish(summary, None)
        except Exception as error:
            warn(self.directory, f"{mirror.failed}: {reason(error)}; {mirror.again}")
            return False
        finally:
            mirror.close()
        self.note_mirrored(mirror)
        return True

    def note_mirrored(self, mirror: WandbTracker) -> None:
        """Notes that the W&B record is complete. This is a separate file, because the summary of a finished run never changes."""
        with suppress(DirectoryError):  # without it, the next start writes the record again
            self.directory.write(MIRRORED, lambda file: file.write(f"{mirror.folder}\n".encode()))
