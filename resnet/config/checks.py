"""Finds what is wrong with a typed config: values out of range, choices that do not exist, keys that contradict each other."""

import dataclasses
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from resnet.config.hashing import flatten, plain_values
from resnet.config.names import CALLBACKS, DATA_SETS, is_target
from resnet.config.network import contradictions_of, is_ours
from resnet.config.schema import Config
from resnet.config.suggest import nearest

SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)  # matches names of environment variables that hold secrets
LARGEST = 2**63  # the absolute value of every integer must be below this
MOST_PIXELS = 16_384  # per side of an image
LONGEST = 255  # most bytes in a file name, on all common systems
COMPARISONS = {
    "at_least": (lambda value, limit: value >= limit, "at least {}"),
    "above": (lambda value, limit: value > limit, "above {}"),
    "at_most": (lambda value, limit: value <= limit, "at most {}"),
    "below": (lambda value, limit: value < limit, "below {}"),
}


def mistakes(config: Config) -> list[str]:
    """One line per mistake, each naming the key, the value and what is allowed."""
    return [*_all_out_of_limits(config), *_bad_unions(config), *_contradictions(config)]


def _all_out_of_limits(settings: Any, prefix: str = "") -> Iterator[str]:
    for entry in dataclasses.fields(settings):
        key, value = prefix + entry.name, getattr(settings, entry.name)
        if dataclasses.is_dataclass(value):
            yield from _all_out_of_limits(value, f"{key}.")
        else:
            yield from out_of_limits(key, value, entry.metadata)


def out_of_limits(key: str, value: Any, limits: Mapping[str, Any]) -> Iterator[str]:
    """Checks a value, or each value of a list. Null, where the type allows it, is within all limits."""
    if isinstance(value, list):
        if not value and limits and not limits.get("may_be_empty"):
            yield f"{key}=[]: at least one value is needed"
        for item in value:
            yield from _broken_limits(f"{key}={value}".replace(" ", ""), item, limits)
    elif value is not None:
        yield from _broken_limits(f"{key}={value}", value, limits)


def _broken_limits(given: str, value: Any, limits: Any) -> Iterator[str]:
    if "choices" in limits and value not in limits["choices"]:
        yield f"{given}: no such choice{nearest(value, limits['choices'])}; choose one of {', '.join(map(str, limits['choices']))}"
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{given}: a finite number is needed"
        return
    if isinstance(value, int) and abs(value) >= LARGEST:
        yield f"{given}: out of range; it must be below 2**63"
        return
    bounds = [(COMPARISONS[name], limit) for name, limit in limits.items() if name in COMPARISONS]
    if not all(holds(value, limit) for (holds, _), limit in bounds):
        wanted = " and ".join(text.format(limit) for (_, text), limit in bounds)
        yield f"{given}: out of range; it must be {wanted}"


def _bad_unions(config: Config) -> Iterator[str]:
    """Checks the keys whose type OmegaConf cannot express."""
    data, devices = config.data, config.fabric.devices
    for key, value in (("mean", data.mean), ("std", data.std)):
        numbers = value if isinstance(value, list) else [value]
        if value is not None and not all(_is_number(number) for number in numbers):
            yield f"data.{key}={value}: a finite number is needed, or a list of one per channel, or null"
        elif key == "std" and value is not None and min(numbers, default=0) <= 0:
            yield f"data.std={value}: out of range; it must be above 0"
    sides = data.image_size if isinstance(data.image_size, list) else [data.image_size] * 2
    if data.image_size is not None and not (len(sides) == 2 and all(type(side) is int and 1 <= side <= MOST_PIXELS for side in sides)):
        yield f"data.image_size={data.image_size}: pixels per side are needed, from 1 to {MOST_PIXELS}, or [height,width], or null"
    size = data.val_size
    if not (type(size) is int and size >= 0) and not (type(size) is float and 0 < size < 1):
        yield f"data.val_size={size}: a number of images is needed, from 0, or a share between 0 and 1"
    if devices != "auto" and (type(devices) is not int or devices < 1):
        yield f"fabric.devices={devices}: a whole number of at least 1 is needed, or auto"
    for group in ("model", "loss", "optimizer", "scheduler"):
        settings = getattr(config, group)
        if not isinstance(settings, dict) or not isinstance(settings.get("_target_"), str):
            in_file = f"in a file's defaults override /{group}: NAME"
            given = f"{group}={'null' if settings is None else settings}"
            yield f"{given}: a group with a _target_ is needed; choose one with {group}=NAME (see --help), {in_file}"
        elif group == "optimizer" and isinstance(settings.get("lr"), str):
            yield f"lr={settings['lr']!r}: a number is needed, without quotes"
        elif group == "optimizer" and math.isfinite(config.lr) and settings.get("lr", config.lr) != config.lr:
            yield f"optimizer.lr={settings['lr']}: it differs from lr={config.lr}; set lr={settings['lr']} alone, which all parts use"


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _contradictions(config: Config) -> Iterator[str]:
    if config.epochs is None and config.max_steps is None:
        yield "epochs=null max_steps=null: one of the two must say when training ends"
    if config.accumulate > config.batch_size > 0:
        yield f"accumulate={config.accumulate}: more parts than images in a batch; it must be at most batch_size={config.batch_size}"
    if config.data.folds is not None and config.data.fold >= config.data.folds:
        yield f"data.fold={config.data.fold}: of data.folds={config.data.folds} folds the last one is {config.data.folds - 1}"
    if isinstance(config.model, dict) and config.model.get("weights_skip") and config.model.get("weights") is None:
        skipped = str(config.model["weights_skip"]).replace(" ", "").replace("'", "")
        yield f"model.weights_skip={skipped}: there are no weights whose parts it could leave out; give them with model.weights=..."
    if is_ours(config.model):
        yield from contradictions_of(config.model)
    if config.compile and any(is_target(one, "activation_stats", CALLBACKS) for one in config.callbacks.values()):
        yield "compile=true callbacks=[activation_stats]: a compiled model hides its activations; set one of the two"
    if config.ema and config.fabric.precision in ("bf16-true", "64-true"):
        yield f"ema={config.ema} fabric.precision={config.fabric.precision}: averages are of float32 weights; take bf16-mixed, or ema=null"
    target = config.data.source["_target_"]
    if target in (DATA_SETS[name] for name in ("arrays", "folder", "webdataset", "parquet")) and config.data.path is None:
        yield f"data.path=null: data={target.rpartition('.')[2]} needs the path of your own data: data.path=..."
    if DATA_SETS.get(config.data.name, target) != target:
        name = config.data.name
        yield f"data.name={name}: the name of other data than data._target_={target}; give another data.name, or choose data={name}"
    for key, name in (("name", config.name), ("sweep.name", config.sweep.name)):
        if wrong := bad_name(key, name):
            yield wrong
    for tag in config.wandb.tags:
        if not 1 <= len(tag) <= 64:
            yield f"wandb.tags=[{tag}]: W&B takes tags of 1 to 64 characters"
    project = config.wandb.project
    if not 1 <= len(project.strip()) <= 128 or set(project) & set("/\\#?%:"):
        yield f"wandb.project={project}: W&B takes names of 1 to 128 characters, without / \\ # ? % and :"
    yield from _secrets(config)


def bad_name(key: str, name: str | None) -> str | None:
    """Says what is wrong with the name of a run or a sweep, or returns None. A name is also a folder. Letters of all alphabets, spaces,
    quotes and nested folders are allowed.
    """
    parts = Path(name or "").parts
    what, root = ("sweep", "multirun") if key == "sweep.name" else ("run", "outputs")
    if not parts or Path(name or "").is_absolute() or {"..", "~"} & set(parts):
        return (
            f"{key}={'null' if name is None else name}: a {what} needs a name, which is also its folder under {root}/, and stays inside it"
        )
    if any(not character.isprintable() or character == "\\" for character in name or ""):
        return (
            f"{key}={ascii(name)[1:-1]}: a name is also a folder, and has no line breaks, backslashes or other characters that do not print"
        )
    if any(part != part.strip() for part in parts):
        return f"{key}={name}: a folder's name neither begins nor ends with a space"
    if any(len(os.fsencode(part)) > LONGEST for part in parts):
        return f"{key}={(name or '')[:40]}...: too long for a folder; it may have {LONGEST} bytes"
    return None


def _secrets(config: Config) -> Iterator[str]:
    """Finds values of secret environment variables in the config, which may come in through ${oc.env:...} or the shell. The config is
    written into the run directory and sent to W&B, so it must hold no secret.
    """
    for key, value in flatten(plain_values(config)).items():
        for secret, name in secrets().items():
            if secret in str(value):
                yield f"{key}: it holds the value of the environment variable {name}, which would be written down; leave it out"


def secrets() -> dict[str, str]:
    """Values that must never be written down, and the environment variables that hold them."""
    return {value: name for name, value in os.environ.items() if SECRET.search(name) and len(value) >= 8}
