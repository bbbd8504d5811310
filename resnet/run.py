"""One run: identity, build, lock, training, the test set once, summary; from the start or from its last checkpoint. Knows no Hydra."""

import faulthandler
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from subprocess import Popen
from typing import Any

from lightning_fabric import Fabric

from resnet import facts as record
from resnet.build import Parts, build, build_data, build_fabric, needs_length
from resnet.closing import Closing
from resnet.config import Config, RunFailed, RunInterrupted, UserError, config_hash
from resnet.config.targets import remember_built
from resnet.interrupt import Interrupted, StopSignals, name_of, status_of, undoing
from resnet.plain import plain
from resnet.record import wandb_record
from resnet.record.code import Code, read_code
from resnet.record.console import Console
from resnet.record.content import as_digest, data_digest, short
from resnet.record.death import crashes_told_in
from resnet.record.directory import (
    BEST,
    FAILED,
    FINISHED,
    INTERRUPTED,
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
from resnet.record.identity import OTHER_CODE, Standing, examine
from resnet.record.local import LocalRecord, warn
from resnet.record.trackers import COLUMNS, Recorded, RunFacts, TestReport, Tracker, TrackerError, Trackers, reason
from resnet.record.wandb import Mirrored, WandbTracker
from resnet.training import checkpoint
from resnet.training.callbacks import CallbackError, Callbacks, Context
from resnet.training.checkpoint import CheckpointError
from resnet.training.hang import Insistence
from resnet.training.loop import SAVE_BEST, SAVE_LAST, NotFinite, State, Training
from resnet.training.processes import Failure, Watch, adopt, end_with_parent, ended, leave, on_first, tell_failure, together


def run(config: Config, path: Path, overrides: list[str], in_sweep: bool = False) -> float | None:
    """Trains into `path`, or goes on there; in a sweep it says less on the screen.

    Returns choose_by of the best checkpoint, for a search; None where nothing is held out.

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
            children = adopt(fabric)
            config, path, overrides = fabric.broadcast((config, path, overrides))  # each process has its own time stamp
            summary = Run(config, RunDirectory(path), overrides, fabric, signals, children, in_sweep).go()
            if in_sweep and signals.received is not None:  # while a finished run was drawn: the sweep's other jobs wait
                raise Interrupted(signals.received)
            return summary["best"] and summary["best"][config.choose_by]
        except Interrupted as error:
            tell_failure(error)
            raise RunInterrupted(error.number == signal.SIGINT) from None
        except (UserError, RunFailed):  # which all processes met
            raise
        except Exception as error:
            if failure := tell_failure(error):
                raise RunFailed(f"{path}: failed: {failure.text}") from None
            raise
        finally:
            leave(children)


class Run:
    """What the steps of one run share."""

    def __init__(
        self,
        config: Config,
        directory: RunDirectory,
        overrides: list[str],
        fabric: Fabric,
        signals: StopSignals,
        children: Sequence[Popen[bytes]],
        in_sweep: bool,
    ) -> None:
        self.config, self.directory, self.overrides = config, directory, overrides
        self.fabric, self.signals, self.children, self.in_sweep = fabric, signals, children, in_sweep
        self.path = shortest(directory.path)
        self.mirror: WandbTracker | None = None

    def go(self) -> dict[str, Any]:
        """The summary of the finished run."""
        with Watch(self.children, self._say_failed), undoing(self._remove_unbegun):
            standing = on_first(self.fabric, self._examine, UserError)
            if standing.is_finished:
                return self._is_finished(standing)
            if self.fabric.world_size > 1:  # one downloads
                on_first(self.fabric, lambda: bool(build_data(self.config)), UserError)
            parts = together(self.fabric, lambda: build(self.config, self.fabric), UserError)
            on_first(self.fabric, self._acquire, UserError)
        try:
            with undoing(self._remove_unbegun):
                standing = on_first(self.fabric, self._examine, UserError)  # again: another process may have been here meanwhile
                if standing.is_finished:
                    return self._is_finished(standing)
                state, note = on_first(self.fabric, lambda: self._restore(standing), UserError)
                return self._train(parts, standing, state, note)
        except DirectoryError as error:
            if not isinstance(error, DirectoryGone):
                self._remove_unbegun()
            raise RunFailed(str(error)) from None
        except UserError:
            self._remove_unbegun()
            raise
        except TrackerError as error:  # before the first step
            if self.fabric.is_global_zero:
                self.directory.write_summary(standing.summary) if standing.summary else self.directory.remove()
            raise UserError(str(error)) from None
        finally:
            if self.mirror is not None:
                self.mirror.leave()
            self.directory.release()

    def _say_failed(self, failure: Failure) -> None:
        """Before there is a directory to say it in."""
        if self.fabric.is_global_zero:
            with suppress(OSError):  # a run that goes on is in it
                self.directory.path.rmdir()
            print(f"{failure.traceback}\nerror: {self.path}: failed: {failure.text}", file=sys.stderr, flush=True)

    def _examine(self) -> Standing:
        restart = shlex.join(["python", "train.py", *without(self.overrides, "model.weights"), f"model.weights={self.path}", "name=..."])
        standing = examine(self.directory, self.config, needs_length(self.config), restart, lambda: record.made_of(self.config))
        if not (self.in_sweep and standing.is_finished and standing.other_code):
            return standing
        return self._with_other_code(standing)

    def _with_other_code(self, standing: Standing) -> Standing:
        """A finished job of a sweep, in which results of two codes would be compared as if they were of one."""
        choice = self.config.sweep.on_code_change
        if choice == "refuse":
            raise UserError(f"{self.path}: {OTHER_CODE.format(', '.join(standing.other_code))}")
        if choice == "rerun":
            try:
                place = shortest(self.directory.set_aside())
            except DirectoryError as error:
                raise UserError(str(error)) from None
            modules = ", ".join(standing.other_code)
            print(plain(f"{self.path}: trained again, as its code has changed ({modules}); the old run is kept in {place}"))
            return Standing(None, [])
        return standing

    def _is_finished(self, standing: Standing) -> dict[str, Any]:
        assert standing.summary is not None
        if self.fabric.is_global_zero:
            accuracy = 100 * standing.summary["test"]["accuracy"]
            print(plain(f"{self.path}: this run is finished, with test accuracy {accuracy:.2f} %{self._since(standing)}"))
            Closing(self.directory, self.in_sweep).complete(self.config, standing.summary)
        return standing.summary

    def _since(self, standing: Standing) -> str:
        """What is to be said about a finished run that would not be the same today."""
        notes = list(standing.notes)
        if standing.other_code:
            other = "it counts as it is" if self.in_sweep else "another name=... trains with the code of now"
            notes.append(f"the code has changed since ({', '.join(standing.other_code)}): {other}")
        return "".join(f"; {note}" for note in notes)

    def _remove_unbegun(self) -> None:
        if self.fabric.is_global_zero:
            self.directory.remove_unbegun()

    def _acquire(self) -> None:
        try:
            self.directory.acquire()
            self.directory.check_inside()
        except DirectoryError as error:
            raise UserError(str(error)) from None

    def _restore(self, standing: Standing) -> tuple[State | None, str | None]:
        """The last good checkpoint, and what is to be said about it. Where none was written yet: None."""
        if standing.summary is None:
            return None, None
        problems: list[str] = []
        for name in (LAST, PREVIOUS):
            try:
                state = checkpoint.load(self.directory / name)
                step = state["progress"]["step"]
                self._check_same_data(name, state)
                self.directory.check_rows(state.get("rows"))
            except (CheckpointError, KeyError, TypeError, ValueError) as error:
                problems.append(str(error))
            else:
                return state, "; ".join([*problems, f"from step {step:,} ({name}), {standing.summary['status']} before"])
        if any((self.directory / name).exists() for name in (LAST, PREVIOUS)):
            raise UserError(f"{'; '.join(problems)}: no good checkpoint is left; put a copy back, or start anew under another name=...")
        return None, f"from the start ({standing.summary['status']} before its first checkpoint)"

    def _check_same_data(self, name: str, state: State) -> None:
        """Of a checkpoint that was copied here from another run. Older ones do not say what they were trained on."""
        before, now = as_digest(state.get("data_digest")), data_digest(record.made_of(self.config))
        if before not in (None, now):
            raise CheckpointError(f"{self.directory / name}: of other data than this run's (digest {short(before)}, not {short(now)})")

    def _train(self, parts: Parts, standing: Standing, state: State | None, note: str | None) -> dict[str, Any]:
        before = standing.summary or {}
        callbacks = Callbacks(parts.callbacks, lambda text: warn(self.directory, text))
        together(self.fabric, lambda: self._start_callbacks(callbacks, parts), UserError)
        training = Training(parts.learner, parts.train, parts.val, parts.plan, Tracker(), self._save, self.signals, callbacks)
        if state is not None:
            together(self.fabric, lambda: self._resume(training, state), UserError)
        code = read_code()
        session = record.session(parts, training.progress.step, standing.extended, code)
        moved = wandb_record.told_of(before, self.directory.path) if self.config.wandb.mode != "disabled" else None
        notes = [*filter(None, [note, moved]), *standing.notes, *record.changes(before.get("sessions", []), session)]
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
        tracker = together(
            self.fabric,
            lambda: self._start(facts, summary, [*COLUMNS, *self.columns, *(f"val/{name}" for name in parts.learner.metrics)], code),
            TrackerError,
        )
        training.observer = self.recorded = recorded = Recorded(tracker, self.directory.metrics if self.fabric.is_global_zero else [])
        if training.best is not None:  # best.pt may be one that this state has yet to come to, or damaged
            self._save(SAVE_BEST, training.best)
        try:
            with (
                Watch(self.children, lambda failure: self._end_for(summary, tracker, failure)),
                Insistence(self._tell_waiting, lambda number: self._end_hung(summary, training, number)),
                self._crashes_told(),
            ):
                training.fit()
                if self.fabric.world_size == 1:
                    self.signals.stop_waiting()  # the test is no step, after which to save
                results, report = self._test(parts, training, recorded.last)
                callbacks.end(is_finished=True)
                summary |= results
            if isinstance(tracker, Trackers):
                self._finish(summary, tracker, report)
        except (Exception, Interrupted) as error:
            with suppress(CallbackError):  # of the failure itself, or of what it led to
                callbacks.end(is_finished=False)
            self._end_badly(summary, tracker, training, error)
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
        context = Context(parts.learner, parts.data, parts.plan, self.directory, title)
        try:
            callbacks.start(lambda name: replace(context, name=name))
            self.columns = callbacks.columns([*COLUMNS, *(f"val/{name}" for name in parts.learner.metrics)])
        except CallbackError as error:
            raise UserError(str(error)) from None

    def _start(self, facts: RunFacts, summary: dict[str, Any], columns: list[str], code: Code) -> Tracker:
        """The trackers; from here on the directory says that the run is running."""
        if not self.fabric.is_global_zero:
            return Tracker()
        mirrors: list[Tracker] = []
        columns = self.directory.begin(facts.config, columns, facts.start_step)
        record.keep_patch(self.directory, code.patch, facts.start_step)
        (self.directory / MIRRORED).unlink(missing_ok=True)  # of a shorter run, which now goes on
        self.directory.write_summary(summary)  # with the id of the W&B run: killed meanwhile, it is found again
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
            self.directory.sync(METRICS)  # no checkpoint is ever ahead of its rows
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
            **record.speed(training.progress),
        }
        return results, record.test_report(parts, scores.logits)

    def _finish(self, summary: dict[str, Any], tracker: Trackers, report: TestReport) -> None:
        """The run is finished once its summary says so. What follows can only warn, and a signal only cuts it short."""
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

    def _end_badly(self, summary: dict[str, Any], tracker: Tracker, training: Training, error: BaseException) -> None:
        """Says in the directory and to the trackers how the run ended; a failure of the training itself becomes RunFailed."""
        is_interrupted = isinstance(error, Interrupted)
        is_everywhere = is_interrupted or isinstance(error, NotFinite)
        other = None if is_everywhere else tell_failure(error) or ended(self.children)
        if not self.fabric.is_global_zero:
            return
        is_plain = is_everywhere or isinstance(error, DirectoryError | CallbackError)
        text = other.text if other else str(error) if is_plain else reason(error)
        if isinstance(error, DirectoryGone):
            self._end_elsewhere({**summary, "status": FAILED, "error": text}, tracker, error.now)
            raise RunFailed(text) from None
        summary |= {"status": INTERRUPTED if is_interrupted else FAILED, "error": text}
        self._write_end(summary, tracker, (other and other.traceback) or "".join(traceback.format_exception(error)))
        kept = self._kept(training)
        if is_interrupted:
            print(plain(f"{self.path}: interrupted by {text}; {kept}; {self._again()}"))
            return
        raise RunFailed(f"{self.path}: failed: {text}; {kept}, the traceback is in {LOG}") from error

    def _end_elsewhere(self, summary: dict[str, Any], tracker: Tracker, now: Path | None) -> None:
        """Where the directory is gone, nothing is made in its place."""
        with suppress(OSError, DirectoryError):
            if now is not None:
                RunDirectory(now).write_summary(summary)
        with suppress(OSError, DirectoryError):
            tracker.fail(summary)

    def _kept(self, training: Training) -> str:
        return f"its checkpoint of step {training.saved_step:,} is kept" if (self.directory / LAST).exists() else "it had no checkpoint yet"

    def _again(self) -> str:
        again = "the same command" if self.in_sweep else f"the same command, with {shlex.quote(f'name={self.config.name}')}"
        return f"{again}, or {shlex.join(['python', '-m', 'resnet', 'resume', self.path])}, continues it"

    def _crashes_told(self) -> AbstractContextManager[None]:
        return crashes_told_in(self.directory / LOG) if self.fabric.is_global_zero else nullcontext()

    def _tell_waiting(self, number: int) -> None:
        if self.fabric.is_global_zero:
            text = f"{self.path}: {name_of(number)}: it saves and ends after this step; a second signal ends it at once, without saving"
            with suppress(OSError, ValueError):  # a closed terminal
                print(text, file=sys.stderr, flush=True)

    def _end_hung(self, summary: dict[str, Any], training: Training, number: int) -> None:
        """The end of a run whose main thread does not come back from a step; in a thread of its own."""
        if self.fabric.is_global_zero:
            text = f"a second {name_of(number)} in the middle of a step ({LOG} says where)"
            with suppress(OSError, DirectoryError):
                with self.directory.append(LOG) as log:
                    faulthandler.dump_traceback(log)
                self.directory.write_summary({**summary, "status": INTERRUPTED, "error": text})
            with suppress(OSError, ValueError):  # a closed terminal
                print(plain(f"{self.path}: interrupted by {text}; {self._kept(training)}; {self._again()}"), flush=True)
        os._exit(status_of(number))

    def _end_for(self, summary: dict[str, Any], tracker: Tracker, failure: Failure) -> None:
        """The end of a run whose main thread waits for a process that has failed."""
        if self.fabric.is_global_zero:
            self._write_end({**summary, "status": FAILED, "error": failure.text}, tracker, failure.traceback)
            print(plain(f"error: {self.path}: failed: {failure.text}; the traceback is in {LOG}"), file=sys.stderr, flush=True)

    def _write_end(self, summary: dict[str, Any], tracker: Tracker, details: str) -> None:
        with suppress(OSError, DirectoryError):  # a full disk: a run that says `running` while nobody holds its lock reads as interrupted
            with self.directory.append(LOG) as log:
                log.write(details)
            self.directory.write_summary(summary)
        tracker.fail(summary)
