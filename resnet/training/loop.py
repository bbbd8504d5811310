"""The training loop: an epoch of steps, an evaluation, a record, a checkpoint, and again. It can start from any step."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from resnet.data import Loader
from resnet.interrupt import Interrupted, StopSignals
from resnet.training.callbacks import Callbacks
from resnet.training.learner import Learner

SAVE_LAST, SAVE_BEST = "last", "best"
State = dict[str, Any]


class Observer(Protocol):
    """Receives the progress and the metrics of the loop."""

    def advance(self, step: int) -> None: ...

    def record(self, step: int, epoch: float, metrics: dict[str, float]) -> None: ...


class NotFinite(Exception):
    """A loss was infinite or not a number."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """When training ends and what happens on the way, in optimizer steps, epochs and minutes."""

    total_steps: int
    steps_per_epoch: int
    log_every: int
    eval_every: int
    choose_by: str = "accuracy"  # the name of a score
    chooses_lowest: bool = False
    early_stop: int | None = None
    save_every_steps: int | None = None
    save_every_minutes: float | None = None


@dataclass
class Progress:
    """The position of training, and the best held-out scores so far."""

    step: int = 0
    best_step: int | None = None
    best: dict[str, float] = field(default_factory=dict)  # by name
    evaluations_since_best: int = 0
    seconds: float = 0.0  # spent on training, evaluation and saving
    training_seconds: float = 0.0
    images: int = 0  # seen in training

    @classmethod
    def of(cls, values: State) -> "Progress":
        """Reads the progress from a checkpoint. An older one has only accuracy and loss as best scores."""
        values = dict(values)
        old = {name: values.pop(f"best_{name}") for name in ("accuracy", "loss") if f"best_{name}" in values}
        return cls(**{"best": old if values["best_step"] is not None else {}, **values})

    def judge(self, scores: Mapping[str, float], name: str = "accuracy", is_lowest: bool = False) -> bool:
        """Records the scores and returns True if they are the best so far by the score `name`. The loss breaks ties; a score that is not
        finite is never the best.
        """

        def rank(values: Mapping[str, float]) -> tuple[float, float]:
            return (-values[name] if is_lowest else values[name], -values["loss"])

        if not math.isfinite(scores[name]) or (self.best and rank(scores) <= rank(self.best)):
            self.evaluations_since_best += 1
            return False
        self.best_step, self.best = self.step, dict(scores)
        self.evaluations_since_best = 0
        return True


@dataclass(kw_only=True)
class Training:
    """One training run, from the start or from a state that was passed to `save`."""

    learner: Learner
    train: Loader
    val: Loader | None
    plan: Plan
    observer: Observer
    save: Callable[[str, State], None]
    signals: StopSignals
    callbacks: Callbacks
    progress: Progress = field(default_factory=Progress)
    best: State | None = None  # the weights of the best evaluation

    def __post_init__(self) -> None:
        self.window = Window(self.learner, self.progress)
        self.last_loss = math.nan  # held out

    def resume(self, state: State) -> None:
        self.learner.load_state(state)
        self.progress, self.best = Progress.of(state["progress"]), state["best"]
        self.window = Window(self.learner, self.progress, state["window"])
        self.callbacks.load_state(state.get("callbacks", {}))

    def fit(self) -> None:
        """Trains to the end of the plan. Passes the best and the last state to `save`.

        Raises:
            NotFinite: a training loss was not finite, raised before this step is saved; or the held-out loss of the best weights is not
        finite at the end.
            Interrupted: a signal came; the state was saved.
        """
        self.started = self.saved = time.perf_counter()
        self.window.start()
        self.seconds_before, self.saved_step = self.progress.seconds, self.progress.step
        with closing(self.train):
            if self.plan.total_steps == 0:
                self._end_epoch({})
            while not self._is_over():
                self._end_epoch(self._train_epoch())
                if not self._is_over():
                    self._save_where_due()
        if self.val is not None and not math.isfinite(self.progress.best.get("loss", math.nan)):
            raise NotFinite(self._why_nothing_was_best())

    def _why_nothing_was_best(self) -> str:
        if self.plan.choose_by == "loss" or not math.isfinite(self.last_loss):
            return "the held-out loss was not finite; try a lower lr, or clip_grad_norm=1"
        return f"val/{self.plan.choose_by}, which chooses the checkpoint, was never finite, and the loss was; see what that metric gives"

    def _train_epoch(self) -> dict[str, float]:
        """Trains from the current position to the end of its epoch. Returns the last metrics.

        Sums stay on the device between records, which avoids a CPU-GPU sync in each step.
        """
        epoch, position = divmod(self.progress.step, self.plan.steps_per_epoch)
        with closing(self.train.epoch(epoch, position)) as batches:
            for batch in batches:
                lr = self.learner.lr
                self.callbacks.before_step(self.progress.step + 1)
                sums = self.learner.step(*batch)
                self.window.add(lr, sums)
                seen = self.callbacks.after_step(self.progress.step)
                self.observer.advance(self.progress.step)
                if self.progress.step == self.plan.total_steps or self.progress.step % self.plan.steps_per_epoch == 0:
                    break
                metrics = self.window.close() if self.progress.step % self.plan.log_every == 0 else {}
                if metrics or seen:
                    self._record({**metrics, **seen})
                self._save_where_due()
        return {**self.window.close(), **seen}

    def _end_epoch(self, metrics: dict[str, float]) -> None:
        is_due, is_best = self._is_evaluation_due(), False
        if is_due and self.val is not None:
            scores = self.learner.scores(self.val.epoch())
            is_best = self.progress.judge(scores.by_name, self.plan.choose_by, self.plan.chooses_lowest)
            metrics |= {f"val/{name}": value for name, value in scores.by_name.items()}
            self.last_loss = scores.loss
        if is_due and metrics:
            self.learner.follow(metrics["train/loss" if self.val is None else "val/loss"])
        if is_due:
            metrics |= self.callbacks.evaluation(self.progress.step, metrics)
        self._record(metrics)
        if is_best:
            self.best = {"model": copied(self.learner.weights.state_dict()), "progress": asdict(self.progress)}
            self.save(SAVE_BEST, self.best)
        if is_due:
            self._save_last()

    def _record(self, metrics: dict[str, float]) -> None:
        self.observer.record(self.progress.step, round(self.progress.step / self.plan.steps_per_epoch, 6), metrics)

    def _save_where_due(self) -> None:
        """Saves if a number of steps or minutes has passed, or if a signal asks the run to end."""
        plan, step = self.plan, self.progress.step
        is_late = plan.save_every_minutes is not None and time.perf_counter() - self.saved > 60 * plan.save_every_minutes
        stopped_by = self._largest(self.signals.received or 0)
        is_due = plan.save_every_steps is not None and step % plan.save_every_steps == 0
        if step != self.saved_step and (stopped_by or self._largest(is_late) or is_due):
            self._save_last()
        if stopped_by:
            raise Interrupted(stopped_by)

    def _save_last(self) -> None:
        window = self.window.state()
        self.progress.seconds = self.seconds_before + time.perf_counter() - self.started
        state = {
            **self.learner.state(),
            "progress": asdict(self.progress),
            "window": window,
            "best": self.best,
            "callbacks": self.callbacks.state(),
        }
        self.save(SAVE_LAST, state)
        self.saved, self.saved_step = time.perf_counter(), self.progress.step

    def _largest(self, value: int) -> int:
        """Returns the maximum over all processes. To avoid extra syncs, several processes compare only at records; elsewhere all return
        0."""
        step, fabric = self.progress.step, self.learner.fabric
        if fabric.world_size == 1:
            return value
        if step % self.plan.log_every and step % self.plan.steps_per_epoch:
            return 0
        return int(cast(Tensor, fabric.all_reduce(torch.tensor(value, device=fabric.device), reduce_op="max")))

    def _is_evaluation_due(self) -> bool:
        epoch, position = divmod(self.progress.step, self.plan.steps_per_epoch)
        return self.progress.step >= self.plan.total_steps or (position == 0 and epoch % self.plan.eval_every == 0)

    def _is_over(self) -> bool:
        early_stop = self.plan.early_stop
        is_stuck = early_stop is not None and self.progress.evaluations_since_best >= early_stop
        return is_stuck or self.progress.step >= self.plan.total_steps


class Window:
    """The training metrics since the last record."""

    def __init__(self, learner: Learner, progress: Progress, state: State | None = None) -> None:
        self.learner, self.progress = learner, progress
        self._open()
        self.seconds_before = 0.0
        if state is not None:
            self.seconds_before = state["seconds"]
            self.lr = state["lr"]
            carried = state["sums"] if learner.fabric.is_global_zero else torch.zeros_like(state["sums"])
            self.sums = list(carried.to(learner.fabric.device))

    def start(self) -> None:
        """Starts the clock once everything is ready, so that setup time does not count as training."""
        self.started = time.perf_counter() - self.seconds_before

    def _open(self) -> None:
        self.started = time.perf_counter()
        self.lr = 0.0
        self.sums = list[Tensor]()

    def add(self, lr: float, sums: Tensor) -> None:
        self.progress.step += 1
        self.lr = lr
        self.sums.append(sums)

    def close(self) -> dict[str, float]:
        """Returns the means of the window and opens a new one."""
        loss, right, count = self.check().sum(0).tolist()
        seconds = time.perf_counter() - self.started
        self.progress.training_seconds += seconds
        self.progress.images += int(count)
        metrics = {"train/loss": loss / count, "train/accuracy": right / count, "lr": self.lr}
        self._open()
        return {**metrics, "images_per_second": count / seconds, "seconds": self.progress.training_seconds}

    def check(self) -> Tensor:
        """Returns the sums of all processes, (steps, 3). Raises NotFinite if a loss is not finite. On a GPU this is a CPU-GPU sync."""
        none = torch.zeros(3, device=self.learner.fabric.device)
        table = self.learner.total(torch.stack([*self.sums, none]))[:-1].cpu().double()
        bad = (~table[:, 0].isfinite()).nonzero()
        if len(bad):
            step = self.progress.step - len(table) + 1 + int(bad[0])
            raise NotFinite(f"the training loss was not finite at step {step}; try a lower lr (it was {self.lr:.4g}), or clip_grad_norm=1")
        return table

    def state(self) -> State:
        return {"sums": self.check().float(), "lr": self.lr, "seconds": time.perf_counter() - self.started}


def copied(state: State) -> State:
    """Returns copies on the CPU, which further training does not change."""
    return {key: value.detach().cpu().clone() for key, value in state.items()}
