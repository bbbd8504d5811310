"""Config -> objects."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from resnet.build_data import (
    build_augment,
    build_data,
    build_loaders,
    check_held_out,
    check_size,
    offered_by,
    steps_per_epoch,
    told_of_idle_augmentation,
)
from resnet.build_model import build_model, told_of_narrow_field, told_of_small_images, trial
from resnet.build_weights import load_weights
from resnet.config.errors import UserError, cause
from resnet.config.groups import check_groups
from resnet.config.launched import is_first_process
from resnet.config.load import check_foreign
from resnet.config.measured import READ, measured
from resnet.config.schema import Config
from resnet.config.targets import find_target
from resnet.data import DataSet, Loader, Size
from resnet.make import make, takes
from resnet.memory import step_bytes, told_of_memory
from resnet.training.callbacks import Callback
from resnet.training.learner import Learner, Metric
from resnet.training.loop import Plan
from resnet.training.objective import Objective
from resnet.training.optim.groups import frozen_parts, parameter_groups
from resnet.training.optim.trial import too_many_evaluations, try_out
from resnet.training.randomness import random_numbers_kept


@dataclass(frozen=True)
class Parts:
    """All parts of a run."""

    fabric: Fabric
    data: DataSet
    learner: Learner
    train: Loader
    val: Loader | None
    test: Loader
    plan: Plan
    callbacks: dict[str, Callback]
    size: Size  # of the model's input
    memory: int  # bytes that a step of one process needs, about
    notes: Sequence[str] = ()  # what the user should know of before training


def build(config: Config, fabric: Fabric) -> Parts:
    """Raises UserError if the data, the device or a _target_ does not fit the config. Writes nothing."""
    data = build_data(config)
    check_held_out(config, data)
    size = check_size(config, data)
    fabric.seed_everything(config.seed, verbose=False)
    plan = build_plan(config, steps_per_epoch(config, data))
    callbacks = build_callbacks(config)
    train, val, test = build_loaders(config, data, fabric, plan)
    model = build_model(config, data.channels, len(data.classes), size)
    tried = trial(config, data, size)
    memory = step_bytes(config, *tried, fabric.world_size)
    notes = [
        *data.notes,
        *told_of_memory(memory, fabric.device),
        *told_of_idle_augmentation(config),
        *told_of_small_images(config, *tried),
        *told_of_narrow_field(config, *tried),
    ]
    if config.model["weights"] is not None:
        notes += load_weights(model, config)
    objective = build_objective(config, fabric.device, **offered_by(data))
    try_objective(config, objective, data, size, fabric.device)
    try_metrics(config, len(data.classes))
    learner = build_learner(config, fabric, model, plan, objective)
    if fabric.global_rank:
        torch.manual_seed(config.seed + fabric.global_rank)  # separate dropout per process; the first one continues as it would alone
    return Parts(fabric, data, learner, train, val, test, plan, callbacks, size, memory, notes)


def build_plan(config: Config, steps_per_epoch: int) -> Plan:
    limits = [config.max_steps, config.epochs and config.epochs * steps_per_epoch]
    total_steps = min(limit for limit in limits if limit is not None)
    saves = config.checkpoint
    chosen = config.choose_by.removeprefix("val/")
    return Plan(
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        log_every=config.log_every,
        eval_every=config.eval_every,
        choose_by=chosen,
        chooses_lowest=how_read(config)[chosen]["direction"] == "minimize",
        early_stop=config.early_stop,
        save_every_steps=saves.every_steps,
        save_every_minutes=saves.every_minutes,
    )


def build_metrics(config: Config) -> dict[str, Metric]:
    """Returns the metrics besides loss and accuracy. Raises UserError."""
    made = {name: make(f"metrics.{name}", settings) for name, settings in measured(config).items()}
    for name, metric in made.items():
        given = f"metrics: {name}"
        if not callable(metric):
            raise UserError(f"{given}: it gives a {type(metric).__name__}; a callable of scores and labels is needed")
        if (direction := _reading(metric)["direction"]) not in ("maximize", "minimize"):
            raise UserError(f"{given}: direction={direction}; maximize or minimize is needed, as an attribute of its class or function")
        if (unit := _reading(metric)["unit"]) not in ("%", ""):
            raise UserError(f"{given}: unit={unit!r}; '%' is needed, for shares from 0 to 1, or ''")
    return made


def try_metrics(config: Config, num_classes: int) -> None:
    """Raises UserError if a metric fails on scores and labels of a few images, or gives no number."""
    labels = torch.arange(num_classes).repeat(2)
    scores = torch.linspace(-1, 1, len(labels) * num_classes).reshape(len(labels), num_classes)
    for name, metric in build_metrics(config).items():
        try:
            float(metric(scores, labels))
        except Exception as error:  # foreign code may raise anything
            raise UserError(f"metrics: {name}: it fails on scores (N, {num_classes}) and labels (N,): {cause(error)}") from None


def how_read(config: Config) -> dict[str, Mapping[str, str]]:
    """Returns direction and unit of each metric by name."""
    own = build_metrics(config).items()
    return {**READ, **{name: _reading(metric) for name, metric in own}}


def _reading(metric: Any) -> dict[str, Any]:
    said = getattr(metric, "func", metric)  # a function with its settings has its attributes there
    return {"direction": getattr(said, "direction", None), "unit": getattr(said, "unit", "")}


def build_learner(config: Config, fabric: Fabric, model: nn.Module, plan: Plan, objective: Objective) -> Learner:
    if config.fabric.sync_batch_norm:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    needs_closure = try_optimizer(config, model, plan)
    optimizer = build_optimizer(config, model)
    if config.fabric.precision == "16-mixed":  # torch's fused SGD keeps unset momentum if the first step overflows
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    scheduler = build_scheduler(config, optimizer, plan)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True) if config.ema else None
    if average is not None:
        average.module.to(fabric.device)  # its counter stays on the CPU: on a GPU each step would sync to read it
    compiled = torch.compile(model) if config.compile else model
    wrapped, fabric_optimizer = fabric.setup(compiled, optimizer)  # type: ignore[arg-type]
    return Learner(
        fabric=fabric,
        model=wrapped,
        optimizer=fabric_optimizer,
        scheduler=scheduler,
        objective=objective,
        metrics=build_metrics(config),
        average=average,
        accumulate=config.accumulate,
        clip_grad_norm=config.clip_grad_norm,
        needs_closure=needs_closure,
        frozen=frozen_parts(model, config.optimizer.get("groups") or []),
    )


def build_objective(config: Config, device: torch.device, **offered: Any) -> Objective:
    """Raises UserError."""
    with random_numbers_kept():  # a loss that draws random numbers must not change the model's
        loss = make("loss", config.loss, **offered)
    return Objective(loss.to(device) if isinstance(loss, nn.Module) else loss)


def try_objective(config: Config, objective: Objective, data: DataSet, size: Size, device: torch.device) -> None:
    """Raises UserError if the loss does not accept what training passes to it."""
    scores = torch.linspace(-1, 1, 2 * len(data.classes), device=device).reshape(2, -1)
    labels = torch.tensor([0, len(data.classes) - 1], device=device)
    images = torch.zeros(2, data.channels, *size, device=device)
    try:
        with random_numbers_kept():
            objective.check(scores.clone(), labels, images)
            if build_augment(config).mixes:
                objective.check(scores.clone(), scores.softmax(1), images)
    except Exception as error:  # foreign code may raise anything
        raise UserError(f"loss._target_={config.loss['_target_']}: {cause(error)}") from None


def build_optimizer(config: Config, model: nn.Module) -> Optimizer:
    return _optimizer(config, build_groups(config, model))


def build_groups(config: Config, model: nn.Module) -> list[dict[str, Any]]:
    """Returns the groups of trained parameters. Frozen parameters stop requiring gradients. Raises UserError."""
    settings = config.optimizer
    return parameter_groups(model, config.decay_norm_and_bias, settings.get("groups") or [], settings.get("layer_decay"))


def _optimizer(config: Config, groups: Sequence[dict[str, Any]]) -> Optimizer:
    optimizer = make("optimizer", config.optimizer, groups)
    if not isinstance(optimizer, Optimizer):
        given = f"optimizer._target_={config.optimizer['_target_']}"
        raise UserError(f"{given}: it gives a {type(optimizer).__name__}; a torch.optim.Optimizer is needed")
    for group in optimizer.param_groups:
        if "lr_scale" in group:
            group["lr"] = group["lr"] * group["lr_scale"]
    return optimizer


def try_optimizer(config: Config, model: nn.Module, plan: Plan) -> bool:
    """Returns True if the optimizer's steps need a closure. Raises UserError if it, or the schedule, cannot do what training needs."""
    target = str(config.optimizer["_target_"])
    check_groups(config.optimizer, import_foreign=True)
    if find_target(f"optimizer._target_={target}", target) is torch.optim.LBFGS:
        raise UserError(too_many_evaluations(target))

    def make_both(groups: Sequence[dict[str, Any]]) -> tuple[Optimizer, LRScheduler]:
        optimizer = _optimizer(config, groups)
        return optimizer, build_scheduler(config, optimizer, plan)

    found = try_out(target, make_both, build_groups(config, model))
    if found.needs_closure and config.fabric.precision == "16-mixed":
        raise UserError(f"fabric.precision=16-mixed: {target} steps with a closure, which scaled losses do not allow; take bf16-mixed")
    if found.forgets and is_first_process():
        print(f"warning: optimizer: {target}: its state_dict leaves out some of its state, so a resumed run will differ", file=sys.stderr)
    return found.needs_closure


def build_callbacks(config: Config) -> dict[str, Callback]:
    """Raises UserError."""
    made = {name: make(f"callbacks.{name}", settings) for name, settings in config.callbacks.items()}
    for name, one in made.items():
        if not isinstance(one, Callback):
            target = config.callbacks[name]["_target_"]
            raise UserError(f"callbacks.{name}: {target} gives a {type(one).__name__}; a resnet.training.callbacks.Callback is needed")
    return made


def build_scheduler(config: Config, optimizer: Optimizer, plan: Plan) -> LRScheduler:
    """Schedules get `total_steps` if they have this parameter and their settings leave it open."""
    scheduler = make("scheduler", config.scheduler, optimizer, total_steps=max(plan.total_steps, 1))
    if not callable(getattr(scheduler, "step", None)) or not callable(getattr(scheduler, "state_dict", None)):
        given = f"scheduler._target_={config.scheduler['_target_']}"
        raise UserError(f"{given}: it gives a {type(scheduler).__name__}; a torch schedule is needed, with step and state_dict")
    return cast(LRScheduler, scheduler)


def needs_length(config: Config) -> bool:
    """True if the schedule or the image sizes depend on the length of training."""
    return build_augment(config).needs_length or takes("scheduler", config.scheduler, "total_steps")


def import_targets(config: Config) -> None:
    """Imports the user's modules, so that their code can be read. Raises UserError."""
    check_foreign(config)
