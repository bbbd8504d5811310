"""Turns plain values into a Config. The command line, saved configs and every process of a run pass this one check."""

import dataclasses
import os
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import (
    ConfigKeyError,
    InterpolationKeyError,
    InterpolationResolutionError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from resnet.config.checks import mistakes
from resnet.config.components import COMPONENTS, OFFERED, Role, as_component, collected, each, each_named, has_target
from resnet.config.components import check as check_component
from resnet.config.errors import UserError
from resnet.config.groups import check_groups
from resnet.config.hashing import flatten, set_files
from resnet.config.measured import wrong_metrics
from resnet.config.names import DATA_SETS
from resnet.config.schema import Config, DataConfig
from resnet.config.signature import Parameter, read_signature
from resnet.config.suggest import unknown_key
from resnet.config.types import in_words
from resnet.config.upgrade import upgraded


def load_config(values: Any) -> Config:
    """Checks plain values (a dict or a DictConfig) and converts them to their types.

    Raises:
        UserError: one line per mistake.
    """
    try:
        values = OmegaConf.to_container(values, resolve=True) if OmegaConf.is_config(values) else values
        values = separated(upgraded(values))
        _check_groups_of_keys(values)
        typed = OmegaConf.merge(OmegaConf.structured(Config), values)
        config: Config = OmegaConf.to_object(typed)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        written = OmegaConf.to_container(values, resolve=False) if OmegaConf.is_config(values) else {}
        raise UserError(_explain(error, flatten(written))) from None  # type: ignore[arg-type]
    wrong = [*mistakes(config), *_check_components(config)]
    if wrong:
        raise UserError("\n".join(wrong))
    set_files(config, os.path.expanduser)  # the shell does not expand the ~ in data.path=~/mine
    return config


def separated(values: dict[str, Any]) -> dict[str, Any]:
    """Separates the settings of the data source from the keys that all data sets share, and moves the command line's `operations` to
    `augment`.

    Raises:
        UserError: there is no data source.
    """
    if "operations" in values:
        values = {**{key: value for key, value in values.items() if key != "operations"}, "augment": values["operations"]}
    data = values.get("data")
    if not isinstance(data, dict) or "source" in data:
        return values
    shared = {entry.name for entry in dataclasses.fields(DataConfig)}
    source = {key: value for key, value in data.items() if key not in shared}
    if "_target_" not in source:
        raise UserError("data: no _target_; choose data=NAME (see --help), or give data._target_=module.function")
    source = as_component("data", source, DATA_SETS)
    name = data.get("name") or source["_target_"].rpartition(".")[2]
    return {**values, "data": {**{key: value for key, value in data.items() if key in shared}, "name": name, "source": source}}


def _check_groups_of_keys(values: Mapping[str, Any]) -> None:
    """Raises UserError if a value stands where a group of keys is needed. OmegaConf's own error does not name the key."""
    for name, kind in typing.get_type_hints(Config).items():
        if name not in values or (isinstance(value := values[name], Mapping) and typing.get_origin(kind) is not list):
            continue
        if isinstance(value, Mapping):
            keys = ", ".join(map(str, value))
            raise UserError(f"{name}: a list is needed, not keys ({keys}); a file of this group begins with `# @package _global_`")
        given = f"{name}={'null' if value is None else value}"
        if dataclasses.is_dataclass(kind):
            keys = ", ".join(key for key in all_keys() if key.startswith(f"{name}."))
            raise UserError(f"{given}: it is a group of keys; set one of them: {keys}")
        if typing.get_origin(kind) is dict:
            raise UserError(f"{given}: keys with a component each are needed, or {{}}")
        if typing.get_origin(kind) is list and value is None:
            raise UserError(f"{given}: a list is needed")


def check_foreign(config: Config) -> None:
    """Imports the components from outside this package and checks their settings too. Raises UserError."""
    if wrong := _check_components(config, import_foreign=True):
        raise UserError("\n".join(wrong))


def _check_components(config: Config, import_foreign: bool = False) -> list[str]:
    """Returns the mistakes in the components' settings and converts the settings to their types, in place."""

    def check(key: str, role: Role) -> None:
        setattr(config, key, check_component(key, getattr(config, key), role, import_foreign))

    def check_callbacks() -> None:
        config.callbacks = each_named(config.callbacks, "callbacks", COMPONENTS["callbacks"], import_foreign)

    def check_augment() -> None:
        config.augment = each(config.augment, "augment", COMPONENTS["augment"], import_foreign)

    def check_data() -> None:
        config.data.source = check_component("data", config.data.source, COMPONENTS["data"], import_foreign)

    def check_metrics() -> None:
        config.metrics = each(config.metrics, "metrics", COMPONENTS["metrics"], import_foreign)
        if wrong := list(wrong_metrics(config)):
            raise UserError("\n".join(wrong))

    single: list[Callable[[], None]] = [
        partial(check, key, role)
        for key, role in COMPONENTS.items()
        if key not in ("callbacks", "metrics") and has_target(getattr(config, key))
    ]
    if has_target(config.optimizer):
        single.append(partial(check_groups, config.optimizer, import_foreign))
    return collected(*single, check_data, check_augment, check_callbacks, check_metrics)


def _explain(error: OmegaConfBaseException, written: Mapping[str, Any]) -> str:
    key, value = str(error.full_key), error.value
    if isinstance(error, ConfigKeyError):
        if key.partition(".")[0] == "experiment":
            return "experiment: the keys of its file stand below experiment; begin the file with the line `# @package _global_`"
        return f"{key}: {unknown_key(key, all_keys())}"
    if isinstance(error, MissingMandatoryValue):
        chosen = {"lr": "it comes with the optimizer: choose optimizer=NAME"}.get(key, f"set {key}=...")
        return f"{key}: no value; {chosen}"
    if isinstance(error, ValidationError) and (wanted := wanted_type(key)):
        return f"{key}={'null' if value is None else value}: {wanted} is needed"
    return explain_value(error, written)


def explain_value(error: OmegaConfBaseException, written: Mapping[str, Any] | None = None) -> str:
    """Says which key has a value that cannot be resolved, and why. `written`: the flat config, if available."""
    key = str(error.full_key or "")
    if isinstance(error, InterpolationResolutionError) and error.parent_node is not None:
        text = _as_written(error, dict(written or {}))
        unset = [name for name in re.findall(r"\$\{oc\.env:(\w+)\}", text) if name not in os.environ]
        if unset:
            return f"{key}=${{oc.env:{unset[0]}}}: the environment variable {unset[0]} is not set; export it, or set {key}=..."
        if isinstance(error, InterpolationToMissingValueError):
            missing = text.removeprefix("${").removesuffix("}")
            return f"{missing}: no value; set {missing}=..."
        if isinstance(error, InterpolationKeyError):
            return f"{key}={text}: there is no such key to take the value from"
    first_line = str(error).splitlines()[0]
    return f"{key}: {first_line}" if key else first_line


def _as_written(error: OmegaConfBaseException, written: dict[str, Any]) -> str:
    """Follows a chain of `${key}` and returns the text at its end."""
    text = str(OmegaConf.to_container(error.parent_node, resolve=False)[error.key])  # type: ignore[index]
    while (leads := re.fullmatch(r"\$\{([\w.]+)\}", text)) and written.get(leads[1], "???") != "???":
        text = str(written.pop(leads[1]))  # popped, because a key may refer to itself
    return text


@cache
def text_keys() -> frozenset[str]:
    """Returns the keys whose value is free text from the user: a name, a path, a note."""
    return frozenset(key for key in all_keys() if wanted_type(key) in ("text", "text, or null,"))


def all_keys(settings: type = Config, prefix: str = "") -> Iterator[str]:
    """Yields every key of the schema as it is typed on the command line, groups included. For a component, it yields the keys of the
    default one.
    """
    for name, kind in typing.get_type_hints(settings).items():
        if prefix + name == "data.source":
            continue  # its settings appear beside the other keys of data
        yield prefix + name
        if dataclasses.is_dataclass(kind):
            yield from all_keys(typing.cast(type, kind), f"{prefix}{name}.")
        yield from (f"{prefix}{name}.{setting}" for setting in _settings(prefix + name) if setting not in OFFERED)


@cache
def _settings(key: str) -> dict[str, Parameter]:
    """Returns the settings of the component that a key holds by default."""
    role = COMPONENTS.get(key)
    if role is None or role.default is None:
        return {}
    return {**role.settings(read_signature(role.default, key)), **role.kept}


def wanted_type(key: str) -> str | None:
    group, _, setting = key.split("[")[0].partition(".")
    kind: Any = Config
    if setting in _settings(group):
        kind = _settings(group)[setting].kind
        return in_words(typing.get_args(kind)[0] if "[" in key else kind)
    for name in key.split("[")[0].split("."):
        kind = typing.get_type_hints(kind).get(name) if dataclasses.is_dataclass(kind) else None
    if "[" in key:  # an item of a list
        kind = typing.get_args(kind)[0]
    if dataclasses.is_dataclass(kind):
        return (
            f"it is a group of keys; an option of it ({key}=NAME, in a file's defaults override /{key}: NAME) or its keys ({key}.KEY=VALUE)"
        )
    return in_words(kind)
