"""A single run: identity, build, lock, training, one test, summary. It starts anew or from its last checkpoint. Does not use Hydra."""

import shlex
import signal
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from subprocess import Popen
from typing import Any

from lightning_fabric import Fabric

from resnet import facts as record
from resnet.build import Parts, build, needs_length
from resnet.build_data import build_data
from resnet.build_fabric import build_fabric
from resnet.closing import Closing
from resnet.config import Config, RunFailed, RunInterrupted, UserError, config_hash
from resnet.config.targets import remember_built
from resnet.ending import Ending
from resnet.interrupt import Interrupted, StopSignals, undone_if_ended
from resnet.metrics import never_predicted
from resnet.plain import plain
from resnet.record import wandb_record
from resnet.record.code import Code, read_code
from resnet.record.console import Console
from resnet.record.content import data_digest
from resnet.record.death import crashes_told_in
from resnet.record.directory import (
    BEST,
    FINISHED,
    LAST,
    LOG,
    METRICS,
    MIRRORED,
    PREVIOUS,
    RUNNING,
    DirectoryError,
    DirectoryGone,
    RunDirectory,
    shortest,
)
from resnet.record.hints import without
from resnet.record.identity import OTHER_CODE, ExistingRun, examine
from resnet.record.local import LocalRecord, warn
from resnet.record.trackers import COLUMNS, Recorded, RunFacts, TestReport, Tracker, TrackerError, Trackers, reason
from resnet.record.wandb import Mirrored, WandbTracker
from resnet.restoring import restore
from resnet.training import checkpoint
from resnet.training.callbacks import CallbackError, Callbacks, Context
from resnet.training.hang import Insistence
from resnet.training.loop import SAVE_BEST, SAVE_LAST, State, Training
from resnet.training.processes import Watch, end_children, end_with_parent, in_every_process, in_first_process, take_children, tell_failure


def run(config: Config, path: Path, overrides: list[str], in_sweep: bool = False) -> float | None:
    """Trains into `path`, or continues there. In a sweep it prints less.

    Returns choose_by of the best checkpoint, for a search; None if nothing is held out.

    Raises:
        UserError: before anything is written.
        RunFailed: the run started and failed; its directory says why.
        RunInterrupted: a signal came; the directory says so, and the same config continues it.
    """
    with StopSignals() as signals:
        children: list[Popen[bytes]] = []
        try:
            end_with_parent()
            fabric = build_fabric(config)
            children = take_children(fabric)
            config, path, overrides = fabric.broadcast((config, path, overrides))  # each process has its own time stamp
            session = Session(config, RunDirectory(path), overrides, fabric=fabric, signals=signals, children=children, in_sweep=in_sweep)
            summary = session.go()
            if in_sweep and signals.received is not None:  # came while a finished run was drawn; the sweep must end too
                raise Interrupted(signals.received)
            return summary["best"] and summary["best"][config.choose_by]
        except Interrupted as error:
            tell_failure(error)
            raise RunInterrupted(error.number == signal.SIGINT) from None
        except (UserError, RunFailed):  # all processes have met this error
            raise
        except Exception as error:
            if failure := tell_failure(error):
                raise RunFailed(f"{path}: failed: {failure.text}") from None
            raise
        finally:
            end_children(children)


class Session:
    """One session of a run in this process, from the state of its directory to its end. A continued run has several sessions."""

    def __init__(
        self,
        config: Config,
        directory: RunDirectory,
        overrides: list[str],
        *,
        fabric: Fabric,
        signals: StopSignals,
        children: Sequence[Popen[bytes]],
        in_sweep: bool,
    ) -> None:
        self.config, self.directory, self.overrides = config, directory, overrides
        self.fabric, self.signals, self.children, self.in_sweep = fabric, signals, children, in_sweep
        self.path = shortest(directory.path)
        self.ending = Ending(directory, config.name, is_first=fabric.is_global_zero, in_sweep=in_sweep, children=children)
        self.mirror: WandbTracker | None = None

    def go(self) -> dict[str, Any]:
        """Returns the summary of the finished run."""
        with Watch(self.children, self.ending.before_beginning), undone_if_ended(self._remove_unbegun):
            existing = in_first_process(self.fabric, self._examine, UserError)
            if existing.is_finished:
                return self._finished_before(existing)
            if self.fabric.world_size > 1:  # only one process downloads
                in_first_process(self.fabric, lambda: bool(build_data(self.config)), UserError)
            parts = in_every_process(self.fabric, lambda: build(self.config, self.fabric), UserError)
            in_first_process(self.fabric, self._acquire, UserError)
        try:
            with undone_if_ended(self._remove_unbegun):
                existing = in_first_process(self.fabric, self._examine, UserError)  # again: another process may have come in between
                if existing.is_finished:
                    return self._finished_before(existing)
                state, note = in_first_process(self.fabric, lambda: self._restored(existing), UserError)
                return self._train(parts, existing, state, note)
        except DirectoryError as error:
            if not isinstance(error, DirectoryGone):
                self._remove_unbegun()
            raise RunFailed(str(error)) from None
        except UserError:
            self._remove_unbegun()
            raise
        except TrackerError as error:  # before the first step
            if self.fabric.is_global_zero:
                self.directory.write_summary(existing.summary) if existing.summary else self.directory.remove()
            raise UserError(str(error)) from None
        finally:
            if self.mirror is not None:
                self.mirror.close()
            self.directory.release()

    def _examine(self) -> ExistingRun:
        restart = shlex.join(["python", "train.py", *without(self.overrides, "model.weights"), f"model.weights={self.path}", "name=..."])
        existing = examine(self.directory, self.config, needs_length(self.config), restart, lambda: record.made_of(self.config))
        if not (self.in_sweep and existing.is_finished and existing.other_code):
            return existing
        return self._with_other_code(existing)

    def _with_other_code(self, existing: ExistingRun) -> ExistingRun:
        """Decides about a finished job of a sweep whose code has changed: its result would be compared with results of other code."""
        choice = self.config.sweep.on_code_change
        if choice == "refuse":
            raise UserError(f"{self.path}: {OTHER_CODE.format(', '.join(existing.other_code))}")
        if choice == "rerun":
            try:
                place = shortest(self.directory.set_aside())
            except DirectoryError as error:
                raise UserError(str(error)) from None
            modules = ", ".join(existing.other_code)
            print(plain(f"{self.path}: trained again, as its code has changed ({modules}); the old run is kept in {place}"))
            return ExistingRun(None, [])
        return existing

    def _finished_before(self, existing: ExistingRun) -> dict[str, Any]:
        assert existing.summary is not None
        if self.fabric.is_global_zero:
            Closing(self.directory, self.in_sweep).tell_finished(self.config, existing)
        return existing.summary

    def _remove_unbegun(self) -> None:
        if self.fabric.is_global_zero:
            self.directory.remove_unbegun()

    def _acquire(self) -> None:
        try:
            self.directory.acquire()
            self.directory.check_inside()
        except DirectoryError as error:
            raise UserError(str(error)) from None

    def _restored(self, existing: ExistingRun) -> tuple[State | None, str | None]:
        if existing.summary is None:
            return None, None
        return restore(self.directory, existing.summary["status"], data_digest(record.made_of(self.config)))

    def _train(self, parts: Parts, existing: ExistingRun, state: State | None, note: str | None) -> dict[str, Any]:
        before = existing.summary or {}
        callbacks = Callbacks(parts.callbacks, lambda text: warn(self.directory, text))
        in_every_process(self.fabric, lambda: self._start_callbacks(callbacks, parts), UserError)
        training = Training(
            learner=parts.learner,
            train=parts.train,
            val=parts.val,
            plan=parts.plan,
            observer=Tracker(),
            save=self._save,
            signals=self.signals,
            callbacks=callbacks,
        )
        if state is not None:
            in_every_process(self.fabric, lambda: self._resume(training, state), UserError)
        code = read_code()
        session = record.session(parts, training.progress.step, existing.extended, code)
        moved = wandb_record.told_of(before, self.directory.path) if self.config.wandb.mode != "disabled" else None
        notes = [*filter(None, [note, moved]), *existing.notes, *record.changes(before.get("sessions", []), session)]
        facts = record.facts(self.config, parts, self.directory.path, self.overrides, training.progress.step, "; ".join(notes))
        summary = {
            "status": RUNNING,
            "error": None,
            **record.description(self.config, parts, facts, code),
            **({key: before.get(key) for key in ("weights", "teacher")} if before else record.made_of_files(self.config)),
            "config_hash": config_hash(self.config),
            **wandb_record.identity(before, self.directory.path),
            "sessions": [*record.ended(before), session],
        }
        self.data_digest = summary["data"]["digest"]
        remember_built()
        self.signals.begin()
        tracker = in_every_process(
            self.fabric,
            lambda: self._start(facts, summary, [*COLUMNS, *self.columns, *(f"val/{name}" for name in parts.learner.metrics)], code),
            TrackerError,
        )
        if self.fabric.is_global_zero:
            record.keep_split(self.directory, parts.data)
        training.observer = self.recorded = recorded = Recorded(tracker, self.directory.metrics if self.fabric.is_global_zero else [])
        if training.best is not None:  # best.pt may be damaged, or come from a step after this state
            self._save(SAVE_BEST, training.best)
        try:
            with (
                Watch(self.children, lambda failure: self.ending.with_failed_process(summary, tracker, failure)),
                Insistence(self.ending.announce, lambda number: self.ending.in_hung_step(summary, training, number)),
                self._crashes_told(),
            ):
                training.fit()
                if self.fabric.world_size == 1:
                    self.signals.stop_waiting()  # the test is not a step after which the run could save
                results, report = self._test(parts, training, recorded.last)
                callbacks.end(is_finished=True)
                summary |= results
            if isinstance(tracker, Trackers):
                self._finish(summary, tracker, report)
        except (Exception, Interrupted) as error:
            with suppress(CallbackError):  # may come from the same failure
                callbacks.end(is_finished=False)
            self.ending.with_error(summary, tracker, training, error)
            raise
        return summary

    def _resume(self, training: Training, state: State) -> None:
        try:
            training.resume(state)
        except CallbackError as error:
            raise UserError(f"{self.path}: {error}; start anew under another name=...") from None
        except (KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            reason = str(error).split("\n")[0]
            raise UserError(f"{self.path}: its checkpoint does not fit its config ({reason}); start anew under another name=...") from None

    def _start_callbacks(self, callbacks: Callbacks, parts: Parts) -> None:
        title = f"{record.model_line(self.config.model)}; {record.device_name(parts)}"
        context = Context(learner=parts.learner, data=parts.data, plan=parts.plan, directory=self.directory, title=title)
        try:
            callbacks.start(lambda name: replace(context, name=name))
            callbacks.state()  # one that cannot be kept is told now
            self.columns = callbacks.columns([*COLUMNS, *(f"val/{name}" for name in parts.learner.metrics)])
        except CallbackError as error:
            raise UserError(str(error)) from None

    def _start(self, facts: RunFacts, summary: dict[str, Any], columns: list[str], code: Code) -> Tracker:
        """Returns the trackers. From here on, the directory has the status `running`."""
        if not self.fabric.is_global_zero:
            return Tracker()
        mirrors: list[Tracker] = []
        columns = self.directory.begin(facts.config, columns, facts.start_step)
        record.keep_patch(self.directory, code.patch, facts.start_step)
        (self.directory / MIRRORED).unlink(missing_ok=True)  # left by a shorter run that now continues
        self.directory.write_summary(summary)  # has the id of the W&B run, so that it is found again after a kill
        if self.config.wandb.mode != "disabled":
            self.mirror = WandbTracker(asdict(self.config.wandb), Mirrored.of(facts), summary)
            summary["wandb_folder"] = str(self.mirror.folder)
            self.directory.write_summary(summary)
            self.mirror.replay(self.directory.metrics)
            mirrors.append(self.mirror)
        mirrors.append(Console(self.in_sweep))
        tracker = Trackers(LocalRecord(self.directory, columns), mirrors, lambda text: warn(self.directory, text))
        tracker.start(facts)
        return tracker

    def _save(self, name: str, content: State) -> None:
        if self.fabric.is_global_zero:
            self.directory.sync(METRICS)  # a checkpoint is never ahead of its rows
            if name == SAVE_LAST:
                content = {**content, "rows": self.recorded.rows.known}
            file, keep = {SAVE_LAST: (LAST, PREVIOUS), SAVE_BEST: (BEST, None)}[name]
            self.directory.write(file, lambda target: checkpoint.save({**content, "data_digest": self.data_digest}, target), keep)
        self.fabric.barrier()

    def _test(self, parts: Parts, training: Training, last: dict[str, float]) -> tuple[dict[str, Any], TestReport]:
        if training.best is not None:
            parts.learner.weights.load_state_dict(training.best["model"])
        scores = parts.learner.scores(parts.test.epoch(), keep_logits=True)
        results = {
            "status": FINISHED,
            "best": record.best(training.progress),
            "last": last,
            "test": {**scores.by_name, "images": parts.test.num_images},
            "ended_early": record.ended_early(training),
            **record.speed(training.progress),
        }
        report = record.test_report(parts, scores.logits)
        return {**results, "never_predicted": never_predicted(report.answers, report.labels, report.classes)}, report

    def _finish(self, summary: dict[str, Any], tracker: Trackers, report: TestReport) -> None:
        """Writes the summary, which makes the run finished. Errors after it only warn, and a signal only cuts the work short."""
        self.directory.write_summary(summary)
        try:
            closing = Closing(self.directory, self.in_sweep)
            closing.draw(summary)
            tracker.finish({**summary, "links": self.mirror.links if self.mirror in tracker.mirrors else {}}, report)
            if self.mirror is not None and self.mirror in tracker.mirrors:
                closing.note_mirrored(self.mirror)
        except (Exception, Interrupted) as error:
            again = f"python -m resnet resume {shlex.quote(self.path)} does the rest"
            warn(self.directory, f"not all of it was drawn and mirrored: {reason(error)}; {again}")

    def _crashes_told(self) -> AbstractContextManager[None]:
        return crashes_told_in(self.directory / LOG) if self.fabric.is_global_zero else nullcontext()
