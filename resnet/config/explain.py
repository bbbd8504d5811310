"""Explains errors of Hydra and OmegaConf in our words: one line that says what the user has to change."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException, InstantiationException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf.errors import ConfigAttributeError, ConfigTypeError, OmegaConfBaseException
from yaml import MarkedYAMLError

from resnet.config.compose import Composer, is_choice, unreadable, with_targets
from resnet.config.defaults import entries, given_twice, wrong_entry
from resnet.config.errors import UserError
from resnet.config.load import all_keys, explain_value
from resnet.config.suggest import a_word, nearest, typographic, unknown_key
from resnet.config.values import known_keys, wrong_value

EXTRAS = {"hydra/sweeper/optuna": "search", "hydra/launcher/submitit_slurm": "slurm"}  # extras of setup.cfg, by the config that needs them
FAILURES = (HydraException, OmegaConfBaseException, UserError, ValueError)  # errors that a composition can raise


def explain(error: Exception, composer: Composer, overrides: Sequence[str]) -> str:
    """Says what is wrong with these overrides, or with the files that they choose, after their composition failed with `error`.

    It looks at the overrides and never at Hydra's sentences, which differ between versions.
    """
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        what = error.filename or "the run's folder"  # the error of a full disk names no file
        return f"{what}: cannot be written ({error.strerror}); make room, make it writable, or give the command in another folder"
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        return unreadable(error.problem_mark.name, error)
    if isinstance(error, OverrideParseException):
        return f"{error.override or repr('')}: {_unreadable(str(error.override), composer)}"
    if without_key := [text for text in overrides if not text.lstrip("+~").partition("=")[0]]:
        return f"{without_key[0]}: {_unreadable(without_key[0], composer)}"
    if isinstance(error, InstantiationException):
        given = [text for text in overrides if text.startswith("hydra")]
        return ": ".join([*given[:1], _first_line(error.__cause__ or error)])
    items = composer.parse(with_targets(overrides, composer))
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing(error.missing_cfg_file, composer, items)
    return _diagnosis(items, composer) or _untold(error, items)


def _diagnosis(items: Sequence[Override], composer: Composer) -> str | None:
    choices = [item for item in items if is_choice(item, composer)]
    if wrong := next(filter(None, (_unfit_choice(item, composer) for item in choices)), None):
        return wrong
    try:
        config = composer.compose([str(item.input_line) for item in choices], RunMode.MULTIRUN)
    except FAILURES:
        return _choice_at_fault(choices, composer)
    return wrong_value([item for item in items if item not in choices], config, composer, choices)


def _untold(error: Exception, items: Sequence[Override]) -> str:
    """Explains a failure where each override is right by itself."""
    if isinstance(error, ConfigAttributeError):
        return f"{error.full_key}: {unknown_key(str(error.full_key), all_keys())}"
    for met in (error, error.__cause__):  # Hydra wraps OmegaConf's error without a message of its own
        if isinstance(met, OmegaConfBaseException):
            return explain_value(met)
    swept = sorted((item for item in items if item.is_sweep_override()), key=lambda item: not item.is_hydra_override())
    if not swept or not isinstance(error, ConfigCompositionException):
        return _first_line(error)
    if swept[0].is_hydra_override():
        return f"{swept[0].input_line}: one value for the whole sweep; give one"
    return f"{swept[0].input_line}: several values; add -m to run them all as a sweep, or write key=[a,b] for a list"


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def _unreadable(override: str, composer: Composer) -> str:
    if mark := typographic(override):
        return mark
    key, equals, value = override.lstrip("+~").partition("=")
    if len(override) > 1 and override[0] == override[-1] and override[0] in "'\"":
        return "its quotes are part of it in this shell; write double quotes, or none"
    if not override.strip() or not key.strip():
        return "it has no key; write key=value, without spaces around the ="
    if override != override.lstrip():
        return "it begins with a space; take it away"
    if not equals:
        return a_word(override, {group: composer.options(group) for group in composer.groups()}, known_keys(composer.compose(()), composer))
    if value.endswith(",") and "[" not in value:
        return f"cannot be read; several values have no space after the comma, as in {key}={value}VALUE"
    return "cannot be read; write key=value, and quote what your shell would change, like 'model.layers=[3,3,3]'"


def _missing(missing: str, composer: Composer, items: Sequence[Override]) -> str:
    """Explains a missing config file; `missing` is its path in the search path."""
    if extra := EXTRAS.get(missing):
        return f"{missing}: it is not installed; pip install -e '.[{extra}]'"
    if missing == composer.primary:
        return f"--config-name={missing}: there is no {missing}.yaml in --config-path, or in conf/"
    if "/" not in missing:
        return f"{composer.primary}.yaml: its defaults name {missing}, and there is no {missing}.yaml; --config-dir=DIR looks in conf/ too"
    group, option = re.fullmatch("(hydra/.*(?=/)|[^/]*)/?(.*)", missing).groups()  # type: ignore[union-attr]
    chosen = [f"{item.key_or_group}/{name}" for item in items if is_choice(item, composer) for name in _names(item)]
    found = [entry for file in chosen for entry in entries(file, composer)]
    given = [one.file for one in found if missing in one.options or (one.group == group and not one.is_override)]
    given += [one.file for one in entries(composer.primary, composer) if missing in one.options]
    return _no_option(group, option, f" (in {given[0]})" if given else "", composer)


def _no_option(group: str, option: str, where: str, composer: Composer) -> str:
    choices = composer.options(group)
    return f"{group}={option}{where}: no such option{nearest(option, choices)}; choose one of {', '.join(choices)}"


def _unfit_choice(item: Override, composer: Composer) -> str | None:
    """Explains an override that is wrong for every group, whatever else is chosen."""
    if item.is_force_add():
        return f"{item.input_line}: a group has one option; write {str(item.input_line).lstrip('+')}"
    if item.package is not None:
        written = str(item.input_line).partition("=")[0].lstrip("+~")
        return f"{written}: nothing is chosen there; write {item.key_or_group}=OPTION"
    if any(name is None or isinstance(name, int | float | dict) for name in _names(item)):
        return _no_option(item.key_or_group, str(item.input_line).partition("=")[2], "", composer)
    return None


def _choice_at_fault(choices: Sequence[Override], composer: Composer) -> str | None:
    """Returns one line for the first choice that cannot be composed with the others. A choice may need another that comes after it."""
    texts: list[str] = []
    try:
        config = composer.compose(())
    except FAILURES:
        return wrong_entry(composer.primary, {one.group: "" for one in entries("hydra/config", composer)}, composer)
    waiting = list(choices)
    while waiting:
        failed = []
        for item in waiting:
            try:
                config = composer.compose([*texts, str(item.input_line)], RunMode.MULTIRUN)
                texts.append(str(item.input_line))
            except FAILURES as error:
                failed.append((item, error))
        if len(failed) == len(waiting):
            return _wrong_choice(*failed[0], config.hydra.runtime.choices, composer)
        waiting = [item for item, _ in failed]
    return None


def _wrong_choice(item: Override, error: Exception, chosen: Mapping[str, str], composer: Composer) -> str | None:
    """Explains why one choice cannot be composed. `chosen`: the option of each group without it."""
    group = item.key_or_group
    if item.is_delete():
        return f"{item.input_line}: it is not chosen, so it cannot be taken away"
    if item.is_add() and group in chosen:
        return given_twice(group)
    if not item.is_add() and group not in chosen:
        return f"{group}: {composer.primary}.yaml leaves no choice of {group}; set its keys, as {group}.NAME=VALUE"
    others = {name: option for name, option in chosen.items() if name != group}
    if wrong := next(filter(None, (wrong_entry(f"{group}/{name}", others, composer) for name in _names(item))), None):
        return wrong
    if isinstance(error.__context__, ConfigTypeError):
        return f"{item.input_line}: in its file a list stands where keys and values are needed, or keys and values where a list is"
    return None


def _names(item: Override) -> list[Any]:
    """Returns the options that an override of a group names."""
    if item.is_sweep_override():
        return list(item.sweep_iterator()) if item.is_discrete_sweep() else []
    value = item.value()
    if item.is_delete() and value is None:
        return []
    return value if isinstance(value, list) else [value]
