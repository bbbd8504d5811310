"""The identity of a config: the keys that decide a result. It leaves out location, logging and device."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from resnet.config.names import AUGMENTATIONS, HUB
from resnet.config.schema import Config
from resnet.config.signature import is_own, read_signature
from resnet.config.upgrade import upgraded

# Keys that do not affect a result. This is the only such list.
NOT_IN_IDENTITY = {
    "name",
    "wandb",
    "sweep",
    "checkpoint",
    "data.root",
    "data.download",
    "data.workers",
    "data.cache_gb",
    "fabric.accelerator",
    "fabric.devices",
    "fabric.num_nodes",
    "fabric.strategy",
}
TARGETS = ("model", "loss", "optimizer", "scheduler")  # keys whose value is a group with a _target_ of its own
LISTS = ("augment",)  # keys whose value is a list of such groups
OF_WEIGHTS: dict[str, Any] = {"model.weights": None, "model.weights_skip": []}  # keys that every model has

FILES = (
    "data.path",
    "model.weights",
    "loss.teacher",
)  # keys that name the user's own files; they are compared by real path, not by how they are written


def config_hash(config: Config) -> str:
    """Returns the sha256 of the keys that decide the result, as sorted JSON."""
    return hashlib.sha256(json.dumps(identity(config), sort_keys=True).encode()).hexdigest()


def differing_keys(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Returns the keys that decide the result and differ, each with both values."""
    first, second = identity(one), identity(other)
    defaults = _schema_defaults(Config)
    pairs = {key: tuple(side.get(key, defaults.get(key)) for side in (first, second)) for key in sorted(first.keys() | second.keys())}
    return {key: (before, now) for key, (before, now) in pairs.items() if before != now}


def completed(values: dict[str, Any]) -> dict[str, Any]:
    """Returns a saved config, flattened. Keys that it lacks, as an older config may, get their defaults."""
    flat = flatten({key: _with_defaults(value) for key, value in upgraded(values).items()})
    flat = {**_schema_defaults(Config), **OF_WEIGHTS, **flat}
    return {key: as_text(value) if key in LISTS and _are_components(value) else _same_number(value) for key, value in flat.items()}


def identity(config: Config) -> dict[str, Any]:
    """Returns flat keys and values. Leaves out values that equal the schema default, so that a new key does not change the identity of old
    runs.
    """
    defaults = {**_schema_defaults(Config), **OF_WEIGHTS}
    values = plain_values(config)
    values["callbacks"] = {name: one for name, one in values["callbacks"].items() if not is_own(_target(one))}  # ours only observe
    flat = flatten(_without_defaults({**values, "augment": _effective(values["augment"])}))
    deciding = (key for key in flat if not _is_left_out(key) and (key not in defaults or flat[key] != defaults[key]))
    return {key: real_path(flat[key]) if key in FILES else _same_number(flat[key]) for key in deciding}


def _target(component: Any) -> str:
    return str(component["_target_"] if isinstance(component, dict) else component)


def _without_defaults(value: Any) -> Any:
    """Leaves out settings of this package's components that equal the default in the signature."""
    if isinstance(value, list):
        return [_without_defaults(item) for item in value]
    if not isinstance(value, dict):
        return value
    target = value.get("_target_")
    known = read_signature(target, target).parameters if isinstance(target, str) and is_own(target) else {}
    return {name: _without_defaults(item) for name, item in value.items() if name not in known or known[name].default != item}


def as_text(components: list[Any]) -> str:
    """Returns a list of components as short text, as in crop(pad=2)+flip, without settings that equal their defaults."""
    return "+".join(map(_as_call, _without_defaults(_same_number(_effective(components))))) or "none"


def changes_images(operations: list[Any]) -> bool:
    """False if there are operations, and all of them leave images unchanged."""
    return not operations or bool(_effective(operations))


def _effective(operations: list[Any]) -> list[Any]:
    """Drops operations of this package whose numbers are all zero or null: they leave images unchanged."""
    return [item for item in operations if not is_own(item["_target_"]) or any(map(_is_some_number, item.values()))]


def _is_some_number(value: Any) -> bool:
    return not isinstance(value, str) and bool(value)


def _as_call(component: dict[str, Any]) -> str:
    target = component["_target_"]
    name = next((name for name, own in AUGMENTATIONS.items() if own == target), target)
    settings = ",".join(f"{key}={value}" for key, value in component.items() if key != "_target_").replace(" ", "")
    return f"{name}({settings})" if settings else name


def _are_components(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) and isinstance(item.get("_target_"), str) for item in value)


def _with_defaults(value: Any) -> Any:
    """Adds the defaults of its signature to a component of this package."""
    target = value.get("_target_") if isinstance(value, dict) else None
    if not (isinstance(target, str) and is_own(target)):
        return value
    known = read_signature(target, target).parameters.values()
    return {**{one.name: one.default for one in known if one.default is not dataclasses.MISSING}, **value}


def plain_values(config: Config) -> dict[str, Any]:
    """Returns the values as config.yaml has them: the settings of the data source stand beside the keys that all data sets share."""
    values = dataclasses.asdict(config)
    source = values["data"].pop("source")
    return {**values, "data": {**source, **values["data"]}}


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turns nested dicts into `group.key: value`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def lacking(flat: dict[str, Any]) -> list[str]:
    """Returns the keys that are missing in a flat config although every saved config must have them: the schema gives them no default."""
    return [key for key in _needed() if key not in flat]


@cache
def _needed() -> tuple[str, ...]:
    return tuple(_keys_without_default(Config))


def _keys_without_default(settings: type, prefix: str = "") -> Iterator[str]:
    for entry in dataclasses.fields(settings):
        if dataclasses.is_dataclass(entry.type):
            yield from _keys_without_default(entry.type, f"{prefix}{entry.name}.")  # type: ignore[arg-type]
        elif prefix + entry.name in TARGETS:
            yield f"{entry.name}._target_"
        elif prefix + entry.name == "data.source":
            yield "data._target_"
        elif entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING:
            yield prefix + entry.name


def set_files(config: Config, change: Callable[[str], str]) -> None:
    """Applies `change` to the paths of the user's own files, in place."""
    for key in FILES:
        group, _, name = key.partition(".")
        settings = getattr(config, group)
        values = settings if isinstance(settings, dict) else vars(settings)
        if _is_path(values.get(name)):
            values[name] = change(values[name])


def real_path(path: Any) -> Any:
    """Returns the same path for all names of a file, whatever the working directory. Leaves other values alone, since a stranger's config
    may hold anything.
    """
    return os.path.realpath(os.path.expanduser(path)) if _is_path(path) else path


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value != "" and not value.startswith(HUB)


def _same_number(value: Any) -> Any:
    """Makes 1.0 and 1 the same value, also in groups whose types are open."""
    if isinstance(value, list):
        return [_same_number(item) for item in value]
    if isinstance(value, dict):
        return {name: _same_number(item) for name, item in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_left_out(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in NOT_IN_IDENTITY)


def _schema_defaults(settings: type, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {"optimizer.groups": [], "optimizer.layer_decay": None} if settings is Config else {}  # kept in an open group
    for entry in dataclasses.fields(settings):
        if dataclasses.is_dataclass(entry.type):
            found |= _schema_defaults(entry.type, f"{prefix}{entry.name}.")  # type: ignore[arg-type]
        elif entry.default is not dataclasses.MISSING:
            found[prefix + entry.name] = entry.default
        elif entry.default_factory is not dataclasses.MISSING:
            found[prefix + entry.name] = entry.default_factory()
    return found
