"""One run: identity, build, lock, training, the test set once, summary. Knows no Hydra."""

import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from resnet import record
from resnet.build import Parts, build
from resnet.config import Config, RunFailed, UserError, config_hash
from resnet.runs.curves import draw_curves
from resnet.runs.directory import BEST, FAILED, FINISHED, INTERRUPTED, LAST, LOG, RUNNING, DirectoryError, RunDirectory, shortest
from resnet.runs.identity import finished_run
from resnet.tracking import Console, LocalRecord, RunFacts, Tracker, Trackers
from resnet.tracking.base import COLUMNS, TrackerError
from resnet.training import checkpoint
from resnet.training.loop import NotFinite, fit


def run(config: Config, path: Path, overrides: list[str]) -> float:
    """Trains into `path`; returns the held-out accuracy of the best checkpoint (of the last training record without a split).

    Raises:
        UserError: before anything is written.
        RunFailed: the run started and failed; its directory says why.
    """
    directory = RunDirectory(path)
    finished = finished_run(directory, config)
    if finished is not None:
        print(f"{shortest(path)}: this run is finished, with test accuracy {100 * finished['test']['accuracy']:.2f} %")
        return objective(finished)
    parts = build(config)
    try:
        if parts.fabric.is_global_zero:
            directory.create(asdict(config), COLUMNS)
    except DirectoryError as error:
        raise UserError(str(error)) from None
    try:
        return objective(_run_in(directory, config, parts, overrides))
    except TrackerError as error:  # before the first step
        directory.remove()
        raise UserError(str(error)) from None
    finally:
        directory.release()


def objective(summary: dict[str, Any]) -> float:
    """What a search maximises: never the test set."""
    return float(summary["best"]["val/accuracy"] if summary["best"] else summary["last"]["train/accuracy"])


def _run_in(directory: RunDirectory, config: Config, parts: Parts, overrides: list[str]) -> dict[str, Any]:
    facts = record.facts(config, parts, directory.path, overrides)
    summary = {"status": RUNNING, "error": None, **record.description(config, parts, facts), "config_hash": config_hash(config)}
    is_writer = parts.fabric.is_global_zero
    if is_writer:
        directory.write_summary(summary)
    tracker, summary["wandb_run"], links = _trackers(directory, config, parts, facts) if is_writer else (Tracker(), None, {})
    tracker.start(facts)
    try:
        summary |= _train_and_test(directory, parts, tracker)
    except (Exception, KeyboardInterrupt) as error:
        _end_badly(directory, summary, tracker, error)
        raise
    if is_writer:
        report = summary.pop("report")
        directory.write_summary(summary)
        draw_curves(directory, f"{' '.join(overrides) or config.name}: test accuracy {100 * summary['test']['accuracy']:.2f} %")
        tracker.finish({**summary, "links": links}, report)
    return summary


def _trackers(directory: RunDirectory, config: Config, parts: Parts, facts: RunFacts) -> tuple[Tracker, str | None, dict[str, str]]:
    """The trackers, the id of the W&B run, and how to look at it."""
    chosen: list[Tracker] = [LocalRecord(directory)]
    run_id, links = None, {}
    if config.wandb.mode != "disabled":
        from resnet.tracking.wandb import WandbTracker

        mirror = WandbTracker(asdict(config.wandb), facts.name, facts.config, list(facts.overrides))
        run_id, links = mirror.run.id, mirror.links
        chosen.append(mirror)
    return Trackers([*chosen, Console()]), run_id, links


def _train_and_test(directory: RunDirectory, parts: Parts, tracker: Tracker) -> dict[str, Any]:
    last: dict[str, float] = {}

    class Recorded(Tracker):
        """Keeps the latest values of what the tracker is told."""

        def advance(self, step: int) -> None:
            tracker.advance(step)

        def record(self, step: int, epoch: float, metrics: dict[str, float]) -> None:
            last.update({"step": step, "epoch": epoch, **metrics})
            tracker.record(step, epoch, metrics)

    def save(name: str, content: dict[str, Any]) -> None:
        if parts.fabric.is_global_zero:
            checkpoint.save(directory.write, {"last": LAST, "best": BEST}[name], content)
        parts.fabric.barrier()

    progress = fit(parts.learner, parts.train, parts.val, parts.plan, Recorded(), save)
    best = record.best(progress)
    if best:
        parts.learner.weights.load_state_dict(checkpoint.load(directory / BEST)["model"])
    scores = parts.learner.scores(parts.test.epoch(), keep_logits=True)
    test = {"loss": scores.loss, "accuracy": scores.accuracy, "images": parts.test.num_images}
    return {
        "status": FINISHED,
        "best": best,
        "last": dict(last),
        "test": test,
        **record.speed(progress),
        "report": record.test_report(parts, scores.logits),
    }


def _end_badly(directory: RunDirectory, summary: dict[str, Any], tracker: Tracker, error: BaseException) -> None:
    """Says in the directory and to the trackers how the run ended; a failure of the training itself becomes RunFailed."""
    interrupted = isinstance(error, KeyboardInterrupt)
    text = "Ctrl-C" if interrupted else str(error) or type(error).__name__
    summary |= {"status": INTERRUPTED if interrupted else FAILED, "error": text}
    with (directory / LOG).open("a") as log:
        log.write(traceback.format_exc())
    directory.write_summary(summary)
    tracker.fail(summary)
    where = shortest(directory.path)
    if interrupted:
        print(f"{where}: interrupted")
        return
    kept = "its last good checkpoint is kept" if (directory / LAST).exists() else "it had no checkpoint yet"
    name = "" if isinstance(error, NotFinite) else f"{type(error).__name__}: "
    raise RunFailed(f"{where}: failed: {name}{text}; {kept}, the traceback is in {LOG}") from error
