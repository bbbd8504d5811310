"""Mirrors a run to Weights & Biases: the real client, offline unless asked otherwise."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import wandb

from resnet.runs.directory import BEST, INTERRUPTED, LAST, PROBES, Row
from resnet.tracking.base import RunFacts, TestReport, Tracker, TrackerError

SUMMARIES = {"train/loss": "min,last", "train/accuracy": "max,last", "val/loss": "min,last", "val/accuracy": "max,last"}


class WandbTracker(Tracker):
    """One W&B run, whatever number of interruptions it has. `settings` are the keys of conf/wandb.

    Offline, the record is written anew from the rows of metrics.csv, as W&B cannot go on with an offline file; online it resumes.
    """

    def __init__(self, settings: dict[str, Any], facts: RunFacts, run_id: str, rows: Sequence[Row]) -> None:
        self.log_model = settings["log_model"]
        overrides = list(facts.overrides)
        for before in Path(settings["dir"], "wandb").glob(f"offline-run-*-{run_id}"):
            shutil.rmtree(before)
        try:
            self.run = wandb.init(
                **{key: settings[key] for key in ("mode", "project", "entity", "group", "notes", "job_type", "dir")},
                id=run_id,
                resume="allow" if settings["mode"] == "online" else None,
                name=settings["name"] or " ".join(overrides) or facts.name,
                tags=[*settings["tags"], *(text for text in overrides if len(text) <= 64)],  # W&B's limit
                config={**facts.config, "overrides": overrides, "run_name": facts.name},
                settings=wandb.Settings(
                    silent=True, reinit="finish_previous", init_timeout=15, x_transaction_log_flush_interval=1.0, console="off"
                ),
            )
        except (wandb.errors.UsageError, wandb.errors.CommError, wandb.errors.AuthenticationError) as error:
            reason = str(error).split("\n")[0].split(". ")[0]
            raise TrackerError(f"wandb.mode={settings['mode']}: {reason}; run `wandb login`, or use wandb=offline") from None
        self._define_metrics()
        for row in rows:
            known = {key: value for key, value in row.items() if value is not None}
            self.record(int(known.pop("step")), known.pop("epoch"), known)

    def _define_metrics(self) -> None:
        self.run.define_metric("step")
        for metric in ("epoch", "lr", "images_per_second", "seconds"):
            self.run.define_metric(metric, step_metric="step")
        for metric, summary in SUMMARIES.items():
            self.run.define_metric(metric, step_metric="step", summary=summary)

    @property
    def links(self) -> dict[str, str]:
        """How to look at the run, as label and text."""
        if self.run.settings.mode == "online" and self.run.url:
            return {"W&B": self.run.url}
        folder = Path(self.run.dir).parent
        return {"W&B, look offline": f"wandb leet {folder.parent}", "W&B, upload": f"wandb sync {folder}"}

    def start(self, facts: RunFacts) -> None:
        self.directory = facts.directory
        self.run.summary.update({"parameters": facts.parameters, "flops": facts.flops})

    def record(self, step: int, epoch: float, metrics: dict[str, float]) -> None:
        with suppress(ConnectionError):  # scancel ends W&B's process too: the run shall still save, and its next start writes all anew
            self.run.log({"step": step, "epoch": epoch, **metrics}, step=step)

    def finish(self, summary: dict[str, Any], report: TestReport) -> None:
        matrix = wandb.plot.confusion_matrix(
            y_true=report.labels.tolist(), preds=report.answers.tolist(), class_names=list(report.classes), title="Test set"
        )
        worst = [
            wandb.Image(item.image, caption=f"{item.label} taken for {item.answer} ({100 * item.probability:.0f} %)")
            for item in report.worst
        ]
        self.run.log({"test/confusion_matrix": matrix, **({"test/worst_mistakes": worst} if worst else {})})
        if (self.directory / PROBES).exists():
            self.run.log({"probes": wandb.Image(str(self.directory / PROBES))})
        self.run.summary.update(
            {"test/accuracy": summary["test"]["accuracy"], "test/loss": summary["test"]["loss"], "status": summary["status"]}
        )
        if self.log_model:
            self._upload_checkpoint()
        self.run.finish(exit_code=0)

    def _upload_checkpoint(self) -> None:
        best = self.directory / BEST
        artifact = wandb.Artifact(f"model-{self.run.id}", "model")
        artifact.add_file(str(best if best.exists() else self.directory / LAST))
        self.run.log_artifact(artifact)

    def fail(self, summary: dict[str, Any]) -> None:
        self.run.summary.update({"status": summary["status"], "error": summary["error"]})
        if summary["status"] == INTERRUPTED:
            self.run.mark_preempting()
        self.run.finish(exit_code=1)
