"""The recorded facts about a run: those before its first step, and its results after the last."""

import csv
import io
import os
import platform
from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from resnet.build import Parts, how_read, import_targets
from resnet.build_data import build_data, offered_by
from resnet.build_model import trial
from resnet.build_weights import weights_file
from resnet.config import Config, UserError
from resnet.config.components import COMPONENTS, has_target
from resnet.config.hashing import plain_values, set_files
from resnet.config.names import OUR_MODEL
from resnet.config.signature import read_signature
from resnet.data import DataError, DataSet, Size, plain_size, size_text
from resnet.data.digest import file_digests, whole
from resnet.models.weights import WeightsError
from resnet.record.code import Code, module_digests
from resnet.record.content import other_code
from resnet.record.directory import PATCH, SPLIT, RunDirectory
from resnet.record.trackers import Mistake, RunFacts, TestReport
from resnet.training.loop import Progress, Training

PACKAGES = ("torch", "torchvision", "lightning-fabric", "hydra-core", "omegaconf", "wandb", "numpy")
NUM_WORST = 16
TOLD = (  # settings of our networks that stand in the model's line if they are not the usual ones
    *("stage_widths", "groups", "width_per_group", "bottleneck_stride", "stem", "attention", "anti_alias"),
    *("norm", "weight_standardization", "activation", "init", "residual_scale"),
)


def facts(config: Config, parts: Parts, directory: Path, overrides: Sequence[str], start_step: int, continued: str) -> RunFacts:
    data = parts.data
    sizes = f"{len(data.train):,} training, {len(data.val) if data.val else 0:,} held-out, {len(data.test):,} test images"
    return RunFacts(
        name=config.name,
        overrides=overrides,
        config=_written(config),
        directory=directory,
        model=model_line(config.model),
        parameters=sum(parameter.numel() for parameter in parts.learner.weights.parameters()),
        flops=count_flops(config, data, parts.size),
        memory=parts.memory,
        data=f"{config.data.name}: {sizes}, {data.channels}x{size_text(parts.size)}, {len(data.classes)} classes",
        device=device_name(parts),
        steps=parts.plan.total_steps,
        steps_per_epoch=parts.plan.steps_per_epoch,
        measured={name: read["unit"] == "%" for name, read in how_read(config).items() if name in parts.learner.metrics},
        notes=() if start_step else parts.notes,  # they are of the start
        start_step=start_step,
        continued=continued,
    )


def model_line(settings: Mapping[str, Any]) -> str:
    """Describes a model in one line: the main settings of our networks, or name and settings of any other."""
    if settings["_target_"] != OUR_MODEL:
        own = {name: value for name, value in settings.items() if name not in ("_target_", *COMPONENTS["model"].kept)}
        return ", ".join([settings["_target_"], *(f"{name} {as_text(value)}" for name, value in own.items())])
    texts = {name: as_text(value) for name, value in settings.items()}
    usual = {one.name: as_text(one.default) for one in read_signature(OUR_MODEL, OUR_MODEL).parameters.values()}
    rest = [f", {name.replace('_', ' ')} {texts[name]}" for name in TOLD if texts[name] != usual[name]]
    return f"layers {texts['layers']}, width {texts['width']}, {texts['block']} blocks, shortcut {texts['shortcut']}{''.join(rest)}"


def as_text(value: Any) -> str:
    """Returns the text of a setting; a component is shown by its name only."""
    return str(value["_target_"] if has_target(value) else value).replace(" ", "")


def _written(config: Config) -> dict[str, Any]:
    """Returns the config with absolute paths of the user's own files, so that `resume` and `evaluate` find them from any working
    directory."""
    copy = deepcopy(config)
    set_files(copy, os.path.abspath)
    return plain_values(copy)


def description(config: Config, parts: Parts, known: RunFacts, code: Code) -> dict[str, Any]:
    """Returns the part of the summary that is known before training."""
    return {
        "name": config.name,
        "overrides": list(known.overrides),
        "seed": config.seed,
        "parameters": known.parameters,
        "memory": {"step": known.memory},
        "flops": {"forward": known.flops, "training": 3 * known.flops},  # backward: two products for each one of the forward pass
        "data": data_facts(parts.data),
        "input_size": plain_size(parts.size),
        "notes": list(parts.notes),
        "choose_by": config.choose_by,
        "metrics": how_read(config),
        "device": known.device,
        "threads": torch.get_num_threads(),
        "commit": code.commit,
        "code": {"modules": code.modules},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def data_facts(data: DataSet) -> dict[str, Any]:
    """Raises UserError if a file can no longer be read."""
    try:
        digests = data.digests
    except DataError as error:
        raise UserError(str(error)) from None
    return {
        "train": len(data.train),
        "val": len(data.val) if data.val else 0,
        "test": len(data.test),
        "classes": data.classes,
        "channels": data.channels,
        "image_size": plain_size(data.size),
        "pictures": data.pictures,
        "notes": list(data.notes),
        "mean": data.mean,
        "std": data.std,
        "class_counts": offered_by(data)["class_counts"],
        "digest": whole(digests),
        "digests": digests,
    }


def weights_digest(path: Any) -> str | None:
    """Returns the digest of the weights that training starts from, or of a teacher's, or None if there are none."""
    if not isinstance(path, str):
        return None
    try:
        return file_digests([weights_file(path)])[0].hex()
    except (DataError, WeightsError):  # the start of the run reports it if it still needs the file
        return None


def made_of_files(config: Config) -> dict[str, str | None]:
    return {"weights": weights_digest(config.model["weights"]), "teacher": weights_digest(config.loss.get("teacher"))}


def made_of(config: Config) -> dict[str, Any]:
    """Returns what the summary of a run that began now would say of its data, initial weights and code. Raises UserError."""
    import_targets(config)
    return {"data": data_facts(build_data(config)), **made_of_files(config), "code": {"modules": module_digests()}}


def session(parts: Parts, step: int, extended: list[str], code: Code) -> dict[str, Any]:
    """Describes one start of the run: its step, and what its rounding depends on."""
    return {
        "step": step,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "threads": torch.get_num_threads(),
        "processes": parts.fabric.world_size,
        "device": parts.fabric.device.type,
        "torch": torch.__version__,
        "extended": extended,
        "code": code.modules,
    }


def ended(before: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the sessions so far, and adds to the last one how it ended."""
    *earlier, last = before.get("sessions") or [{}]
    return [*earlier, {**last, "ended": before["error"] or before["status"]}] if last else []


def changes(before: list[dict[str, Any]], now: dict[str, Any]) -> list[str]:
    """Returns notes about a continued run whose result may differ in the last digits from an uninterrupted one."""
    keys = ("threads", "processes", "device", "torch")
    last = before[-1] if before else {}
    differing = [f"{key} {last[key]} before, {now[key]} now" for key in keys if key in last and last[key] != now[key]]
    modules = other_code(*({"code": {"modules": start.get("code")}} for start in (last, now)))
    notes = [f"the code has changed since step {now['step']:,} ({', '.join(modules)})"] if modules else []
    return [*now["extended"], *notes, *([f"{', '.join(differing)}: the last digits may differ"] if differing else [])]


def keep_split(directory: RunDirectory, data: DataSet) -> None:
    """Saves which file is in which part, with its class, if the images come from files."""
    parts = {"train": data.train, "val": data.val, "test": data.test}
    rows = [
        (part, data.classes[label], name)
        for part, split in parts.items()
        if split is not None and split.origins is not None
        for label, name in zip(split.labels.tolist(), split.origins.names, strict=True)
    ]
    if rows:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([("part", "class", "file"), *rows])
        directory.write(SPLIT, lambda file: file.write(text.getvalue().encode("utf-8", "surrogateescape")))


def keep_patch(directory: RunDirectory, patch: bytes, step: int) -> None:
    """Saves how the code differs from its commit. The patch of an earlier start is kept under the step at which that start ended."""
    before = b""
    if (directory / PATCH).is_file():
        with (directory / PATCH).open("rb") as file:
            before = file.read(len(patch) + 1)
    if patch != before:
        directory.write(PATCH, lambda file: file.write(patch), keep=f"code.until-step-{step}.patch")


def best(progress: Progress) -> dict[str, float] | None:
    """Returns the best step and its scores. None if nothing was held out; the last checkpoint is tested then."""
    if progress.best_step is None:
        return None
    return {"step": progress.best_step, **{f"val/{name}": value for name, value in progress.best.items()}}


def ended_early(training: Training) -> dict[str, int] | None:
    """Returns where early_stop ended training; None if it ran to its end."""
    step, plan = training.progress.step, training.plan
    return {"step": step, "of": plan.total_steps, "evaluations": plan.early_stop} if step < plan.total_steps and plan.early_stop else None


def speed(progress: Progress) -> dict[str, float]:
    return {
        "seconds": progress.seconds,
        "training_seconds": progress.training_seconds,
        "images_per_second": progress.images / progress.training_seconds if progress.images else 0.0,
    }


def count_flops(config: Config, data: DataSet, size: Size) -> int:
    """Returns the operations of the forward pass of one image; a multiply-add counts as two."""
    model, images = trial(config, data, size)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(images[:1])
    return int(counter.get_total_flops())


def test_report(parts: Parts, logits: Tensor | None) -> TestReport:
    """Returns the predictions, and the mistakes with the highest predicted probability."""
    assert logits is not None
    labels, answers = parts.data.test.labels[: len(logits)], logits.argmax(1)
    probability = logits.softmax(1).max(1).values
    wrong = (answers != labels).nonzero().flatten()
    surest = wrong[probability[wrong].argsort(descending=True)][:NUM_WORST]
    names = parts.data.classes
    worst = [Mistake(_image(parts, i), names[labels[i]], names[answers[i]], float(probability[i])) for i in surest.tolist()]
    return TestReport(labels.numpy(), answers.numpy(), names, worst)


def _image(parts: Parts, index: int) -> Any:
    images = parts.data.test.images
    image = images[index] if isinstance(images, Tensor) else images.decode(index)
    return image.permute(1, 2, 0).numpy()


def device_name(parts: Parts) -> str:
    device, world_size = parts.fabric.device, parts.fabric.world_size
    is_cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if is_cuda else f"{device.type}, {torch.get_num_threads()} threads"
    return name if world_size == 1 else f"{world_size} processes, {name} each"
