"""The training loop: an epoch of steps, an evaluation, a record, a checkpoint, and again."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from resnet.data import Loader
from resnet.training.learner import Learner, Scores

SAVE_LAST, SAVE_BEST = "last", "best"


class Observer(Protocol):
    """What the loop tells of itself."""

    def advance(self, step: int) -> None: ...

    def record(self, step: int, epoch: float, metrics: dict[str, float]) -> None: ...


class NotFinite(Exception):
    """The training loss was infinite or not a number."""


@dataclass(frozen=True)
class Plan:
    """When training ends and what happens on the way, in optimizer steps and epochs."""

    total_steps: int
    steps_per_epoch: int
    log_every: int
    eval_every: int
    early_stop: int | None = None


@dataclass
class Progress:
    """Where training is, and the best checkpoint so far: the highest held-out accuracy, of equal ones the lowest loss."""

    step: int = 0
    best_step: int = 0
    best_accuracy: float = -math.inf
    best_loss: float = math.inf
    evaluations_since_best: int = 0
    seconds: float = 0.0  # of training, evaluation and saving
    training_seconds: float = 0.0
    images: int = 0  # seen in training

    def judge(self, scores: Scores) -> bool:
        """Whether these are the best scores so far."""
        if (scores.accuracy, -scores.loss) <= (self.best_accuracy, -self.best_loss):
            self.evaluations_since_best += 1
            return False
        self.best_step, self.best_accuracy, self.best_loss = self.step, scores.accuracy, scores.loss
        self.evaluations_since_best = 0
        return True


def fit(
    learner: Learner, train: Loader, val: Loader | None, plan: Plan, observer: Observer, save: Callable[[str, dict[str, Any]], None]
) -> Progress:
    """Trains to the end of the plan; the best and the last state are handed to `save`.

    Raises:
        NotFinite: at the record after the step, before anything of it is saved.
    """
    progress, started = Progress(), time.perf_counter()
    while progress.step < plan.total_steps:
        metrics = train_epoch(learner, train, plan, progress, observer)
        is_due = _is_due(plan, progress)
        is_best = False
        if is_due and val is not None:
            scores = learner.scores(val.epoch())
            is_best = progress.judge(scores)
            metrics |= {"val/loss": scores.loss, "val/accuracy": scores.accuracy}
        observer.record(progress.step, progress.step / plan.steps_per_epoch, metrics)
        progress.seconds = time.perf_counter() - started
        if is_due:
            save(SAVE_LAST, {**learner.state(), "progress": asdict(progress)})
        if is_best:
            save(SAVE_BEST, {"model": learner.weights.state_dict(), "progress": asdict(progress)})
        if plan.early_stop is not None and progress.evaluations_since_best >= plan.early_stop:
            break
    return progress


def train_epoch(learner: Learner, train: Loader, plan: Plan, progress: Progress, observer: Observer) -> dict[str, float]:
    """From where progress stands to the end of its epoch, whose last metrics are returned.

    Sums stay on the device between records: no synchronisation.
    """
    epoch, position = divmod(progress.step, plan.steps_per_epoch)
    window = _Window(learner, progress)
    for images, targets in train.epoch(epoch, position):
        window.add(learner.lr, learner.step(images, targets))
        observer.advance(progress.step)
        if progress.step == plan.total_steps or progress.step % plan.steps_per_epoch == 0:
            break
        if progress.step % plan.log_every == 0:
            observer.record(progress.step, progress.step / plan.steps_per_epoch, window.close())
    return window.close()


class _Window:
    """The training metrics since the last record."""

    def __init__(self, learner: Learner, progress: Progress) -> None:
        self.learner, self.progress = learner, progress
        self._open()

    def _open(self) -> None:
        self.started = time.perf_counter()
        self.sums: list[Tensor] = []

    def add(self, lr: float, sums: Tensor) -> None:
        self.progress.step += 1
        self.lr = lr
        self.sums.append(sums)

    def close(self) -> dict[str, float]:
        """The means of the window; on a GPU this waits for its steps."""
        table = cast(Tensor, self.learner.fabric.all_reduce(torch.stack(self.sums).double(), reduce_op="sum")).cpu()
        self._check(table[:, 0])
        loss, right, count = table.sum(0).tolist()
        seconds = time.perf_counter() - self.started
        self.progress.training_seconds += seconds
        self.progress.images += int(count)
        self._open()
        metrics = {"train/loss": loss / count, "train/accuracy": right / count}
        return {**metrics, "lr": self.lr, "images_per_second": count / seconds, "seconds": self.progress.training_seconds}

    def _check(self, losses: Tensor) -> None:
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            step = self.progress.step - len(losses) + 1 + int(bad[0])
            raise NotFinite(f"the training loss was not finite at step {step}; try a lower lr (it was {self.lr:.4g}), or clip_grad_norm=1")


def _is_due(plan: Plan, progress: Progress) -> bool:
    """Whether an evaluation follows this epoch."""
    epoch, position = divmod(progress.step, plan.steps_per_epoch)
    return progress.step >= plan.total_steps or (position == 0 and epoch % plan.eval_every == 0)
