"""Says what is wrong with the override of a single value, compared with the config composed without it."""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any

from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from resnet.config.compose import CONF, Composer
from resnet.config.hashing import flatten
from resnet.config.load import all_keys, wanted_type
from resnet.config.suggest import unknown_key
from resnet.config.upgrade import OPERATIONS
from resnet.config.words import OURS

PLUGINS = ("hydra.launcher.", "hydra.sweeper.")
OPEN_GROUPS = ("optimizer", "scheduler")  # groups whose options have keys of their own
NO_SUCH_KEY = (ConfigAttributeError, ConfigKeyError)


def wrong_value(items: Sequence[Override], config: DictConfig, composer: Composer, choices: Sequence[Override]) -> str | None:
    """Returns one line for the first override that cannot be set in `config`. Changes `config`."""
    is_open = any(item.is_sweep_override() for item in choices)  # if so, a key may exist in only some of the options
    for item in items:
        if item.package is not None:
            text, key = str(item.input_line), item.key_or_group
            return f"{text}: {key} is no group, and @ is for groups; write {key}=VALUE"
        if item.is_sweep_override():
            continue
        try:
            if (item.is_add() or item.is_delete()) and (wrong := _wrong_sign(item, config, composer)):
                return wrong
            _set(item, config)
        except NO_SUCH_KEY as error:
            if not (is_open and item.type == OverrideType.CHANGE):
                return _no_such_operation(item, error) or _no_such_key(item, error, config, composer)
        except Exception as error:  # whatever OmegaConf raises for a value that does not fit
            return _no_such_operation(item, error) or _unfit(item, error, config, composer)
    return None


def _wrong_sign(item: Override, config: DictConfig, composer: Composer) -> str | None:
    """Explains a + before an existing key, or a ~ before a missing one."""
    key, value = item.key_or_group, item.value()
    there = OmegaConf.select(config, key, throw_on_missing=False)
    if item.is_add() and there is not None and not isinstance(value, dict | list):
        return f"+{key}: it is there already; write it without the +"
    if item.is_delete() and there is None:
        known = known_keys(config, composer, key.startswith("hydra"))
        return f"~{key}: it is null, and needs no taking away" if key in known else unknown(key, known, composer)
    if item.is_delete() and value is not None and value != there:
        return f"~{key}: its value is {there}; write ~{key} alone"
    return None


def _set(item: Override, config: DictConfig) -> None:
    if not item.is_delete():
        OmegaConf.update(config, item.key_or_group, item.value(), merge=True, force_add=item.is_add() or item.is_force_add())
        return
    group, _, name = item.key_or_group.rpartition(".")
    with open_dict(config):
        del (OmegaConf.select(config, group) if group else config)[name]


def _no_such_operation(item: Override, error: Exception) -> str | None:
    """Explains a key of `augment`. It was a group of keys in older versions, and is a list of operations now."""
    key, text = item.key_or_group, str(item.input_line)
    if not (match := re.fullmatch(r"augment\.([^.]+)(?:\.(.+))?", key)):
        return None
    if not match[1].isdigit():
        name, setting = next(((name, keys[match[1]]) for name, keys in OPERATIONS.items() if match[1] in keys), ("flip", "p"))
        return (
            f"{text}: augment is a list of operations; choose one with augment=NAME and set it by its place (augment.0.pad=2), or "
            f"write it in a file: augment: [{{_target_: {name}, {setting}: ...}}]"
        )
    if isinstance(error, IndexError):
        return f"{text}: augment has no operation at place {match[1]} (they count from 0); --cfg job shows them, augment=[...] gives others"
    if match[2] and text[0] not in "+~":
        return f"{text}: augment has no operation with this key there (they count from 0); --cfg job shows them, +{text} adds the key"
    return None


def _no_such_key(item: Override, error: Any, config: DictConfig, composer: Composer) -> str:
    key = item.key_or_group
    if key.startswith("hydra.") and error.object_type is dict:
        written = key if isinstance(item.value(), dict) else str(item.input_line).partition("=")[0]
        return f"{written}: it is not there yet; write +{written}=VALUE, which adds it"
    known = known_keys(config, composer, key.startswith("hydra"))
    if isinstance(item.value(), dict) and error.full_key and key in known:  # model={layrs:[1]}
        return unknown(error.full_key, known, composer)
    if key in known:  # the primary config is the user's own file
        return f"{key}: {composer.primary}.yaml has no such key; begin the file with `defaults: [train, _self_]`, and give --config-dir=DIR"
    return unknown(key, known, composer)


def _unfit(item: Override, error: Exception, config: DictConfig, composer: Composer) -> str:
    key, text = item.key_or_group, item.input_line
    if key == "hydra.sweeper.params":
        return f"{text}: this key is for files of the group sweep; on the command line write KEY=VALUE,VALUE"
    if composer.is_group(group := key.replace(".", "/")):
        return f"{text}: it is a group; choose one of its options as {group}=OPTION"
    if wanted := wanted_type(key):
        return f"{text}: {wanted} is needed"
    with suppress(Exception):  # the value there may refer to a missing key
        if OmegaConf.is_list(inside := OmegaConf.select(config, above := key.rpartition(".")[0])):
            return f"{text}: {above} is a list of {len(inside)}, whose places count from 0"
        if OmegaConf.is_dict(OmegaConf.select(config, key)):
            return f"{text}: {key} is a group of keys; choose an option of it or set one of its keys, as {key}.NAME=VALUE (see --help)"
    return f"{text}: {str(error).splitlines()[0]}"


def unknown(key: str, known: Collection[str], composer: Composer) -> str:
    """Returns one line for a key that does not exist, or that belongs to another option."""
    if key.startswith(PLUGINS) and (chosen := list(_plugins_with(key, composer))):
        return f"{key}: unknown key here; it belongs to {', '.join(chosen)}"
    owners, last = list(_owners(key, composer)), key.rpartition(".")[2]
    if owners and OURS.get(last) not in known and not any(name.endswith(f".{last}") for name in known):
        group = owners[0].partition("=")[0]
        return f"{key}: unknown key here; {group}.{last} belongs to {', '.join(owners)}"
    return f"{key}: {unknown_key(key, known)}"


def _owners(key: str, composer: Composer) -> Iterator[str]:
    """Yields the options that define this key, as group=option."""
    group, _, name = key.rpartition(".")
    for open_group in OPEN_GROUPS:
        for option in composer.options(open_group) if group in ("", open_group) else ():
            loaded = composer.loader.repository.load_config(f"{open_group}/{option}")
            values = OmegaConf.to_container(loaded.config, resolve=False) if loaded else {}
            if isinstance(values, dict) and name in values.get(open_group, values):
                yield f"{open_group}={option}"


def _plugins_with(key: str, composer: Composer) -> Iterator[str]:
    """Yields our launchers or sweepers that have this key, as hydra/launcher=option."""
    group = "/".join(key.split(".")[:2])
    for option in composer.options(group):
        if (CONF / group / f"{option}.yaml").is_file():
            with suppress(HydraException):  # not installed
                if key in flatten(OmegaConf.to_container(composer.compose([f"{group}={option}"]), resolve=False)):  # type: ignore[arg-type]
                    yield f"{group}={option}"


def known_keys(config: DictConfig, composer: Composer, with_hydras: bool = False) -> set[str]:
    """Returns the keys of the schema and of a composed config."""
    keys = flatten(OmegaConf.to_container(config, resolve=False))  # type: ignore[arg-type]
    of_hydra = (key for key in keys if not key.startswith(("hydra.runtime.", "hydra.help.")))  # these are set by Hydra, not by users
    return {*composer.groups(), *all_keys(), *(key for key in of_hydra if with_hydras or not key.startswith("hydra."))}
