"""The single place that composes configs: what Hydra makes of a command line, with its flags and its search path."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from hydra import version
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.default_element import ConfigDefault, GroupDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, ValueType
from hydra.core.utils import JobRuntime, setup_globals
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from yaml import YAMLError

from resnet.config.arguments import CommandLine
from resnet.config.errors import UserError
from resnet.config.hashing import flatten
from resnet.config.internals import ConfigLoaderImpl, ConfigRepository, ConfigSearchPathImpl, create_config_search_path

CONF = Path(__file__).resolve().parents[2] / "conf"
PRIMARY = "train"
CUSTOM = "custom"  # an option that sets nothing; chosen through GROUP._target_=module.Class, not by its name
TARGETED = ("model", "data", "loss")  # the groups that have the option `custom` for a foreign target
ONE_OPTION = (*TARGETED, "optimizer", "scheduler", "fabric", "wandb", "sweep")  # Hydra would merge several options of a group into one
UNREADABLE = (YAMLError, UnicodeDecodeError, OSError, RecursionError)


class Composer:
    """Composes configs as `train.py` does, with the flags and the hydra.searchpath of a command line."""

    def __init__(self, command: CommandLine | None = None) -> None:
        """Raises UserError if a folder of the search path does not exist."""
        command = command or CommandLine()
        version.setbase("1.3")
        setup_globals()
        JobRuntime().set("name", PRIMARY)
        self.primary = (command.config_name or PRIMARY).removesuffix(".yaml")
        self.loader = ConfigLoaderImpl(_search_path(command))
        self.loader.repository = Files(self.loader.config_search_path)
        self.is_group = cache(self.loader.repository.group_exists)

    def compose(self, overrides: Sequence[str], mode: RunMode = RunMode.RUN) -> DictConfig:
        """Composes the config with the node `hydra`. With MULTIRUN, the keys that the sweep varies are left out.

        Raises UserError, and whatever Hydra and OmegaConf raise.
        """
        for item in self.parse([text for text in overrides if "=[" in text]):
            if item.key_or_group in ONE_OPTION and isinstance(item.value(), list):
                group = item.key_or_group
                raise UserError(f"{item.input_line}: {group} has one option; write {group}=OPTION, or -m {group}=OPTION,OPTION for a sweep")
        try:
            return self.loader.load_configuration(self.primary, list(overrides), mode, validate_sweep_overrides=mode == RunMode.RUN)
        except RecursionError:
            raise UserError("defaults: files of configs name one another in a circle; take one of the names out") from None

    def parse(self, overrides: Sequence[str]) -> list[Override]:
        return OverridesParser.create(config_loader=self.loader).parse_overrides(list(overrides))

    def has_choices(self) -> bool:
        """True if the primary config has a defaults list. A run's own config.yaml as the primary config has none."""
        loaded = self.loader.repository.load_config(self.primary)
        return bool(loaded and loaded.defaults_list)

    def groups(self) -> list[str]:
        return [name for name in self.loader.repository.get_group_options("", ObjectType.GROUP) if name != "hydra"]

    def options(self, group: str) -> list[str]:
        """Returns the options of a group, including those in folders, such as he2015/resnet20."""
        repository = self.loader.repository
        below = [
            f"{name}/{option}"
            for name in repository.get_group_options(group, ObjectType.GROUP)
            for option in self.options(f"{group}/{name}")
        ]
        return sorted({*repository.get_group_options(group, ObjectType.CONFIG), *below} - {CUSTOM})


class Files(ConfigRepository):
    """The config files of the search path, which may include the user's own."""

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Raises UserError if a file cannot be read."""
        try:
            return super().load_config(config_path)
        except UNREADABLE as error:
            source = self._find_object_source(config_path, ObjectType.CONFIG)
            raise UserError(unreadable(f"{source.path if source else ''}/{config_path.removesuffix('.yaml')}.yaml", error)) from None


def unreadable(file: str | Path, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    reason = getattr(error, "problem", None) or getattr(error, "strerror", None) or str(error)
    return f"{file}: cannot be read ({place}{reason}); mend the file"


def without_hydra(config: DictConfig) -> DictConfig:
    """Removes the node `hydra`; the rest is what a job gets."""
    with open_dict(config):
        del config["hydra"]
    return config


@dataclass(frozen=True)
class Request:
    """What a command line asks for, composed once: a run, or a sweep without the keys that it varies."""

    composer: Composer
    overrides: tuple[str, ...]  # in the form that Hydra takes
    config: DictConfig  # with the node hydra

    @property
    def is_sweep(self) -> bool:
        return bool(self.config.hydra.mode == RunMode.MULTIRUN)


def read_request(command: CommandLine) -> Request:
    """Raises UserError, and whatever Hydra and OmegaConf raise."""
    composer = Composer(command)
    overrides = [*command.overrides, *(["hydra.mode=MULTIRUN"] if command.is_multirun else [])]
    overrides = with_targets(overrides, composer)
    parsed = composer.parse(overrides)
    overrides = [_spelled_out(item, composer) for item in parsed]
    swept = {item.key_or_group for item in parsed if item.is_sweep_override()}
    if "sweep" in swept:
        raise UserError("sweep: a ready sweep is one choice; run them one after another, each as sweep=NAME")
    if alone := sorted(key for key in swept if key == "choose_by" or key.startswith("sweep.")):
        raise UserError(f"{alone[0]}: one value for the whole sweep; give one")
    of_choices: dict[str, str] = {}
    try:
        config = composer.compose(overrides, RunMode.MULTIRUN)
    except ConfigCompositionException:
        of_choices = _of_some_choices(parsed, composer) if any(composer.is_group(group) for group in swept) else {}
        if not of_choices:
            raise
        config = composer.compose([text for text in overrides if text not in of_choices], RunMode.MULTIRUN)
    request = Request(composer, tuple(of_choices.get(text, text) for text in overrides), config)
    composer.loader.validate_sweep_overrides_legal(parsed, RunMode.MULTIRUN if request.is_sweep else RunMode.RUN, from_shell=True)
    return request


def _of_some_choices(items: Sequence[Override], composer: Composer) -> dict[str, str]:
    """Finds overrides of keys that only some choices of a swept group have. Maps each to a sweep over its one value.

    Hydra composes a sweep without the swept keys, so such a key is missing from the composed config.
    """
    composed = composer.compose([str(item.input_line) for item in items if is_choice(item, composer)], RunMode.MULTIRUN)
    plain = [item for item in items if item.type == OverrideType.CHANGE and not is_choice(item, composer) and not item.is_sweep_override()]
    missing = [str(item.input_line) for item in plain if item.package is None and not _has(composed, item.key_or_group)]
    return {text: "{}=choice({})".format(*text.split("=", 1)) for text in missing}


def _has(config: DictConfig, key: str) -> bool:
    group, _, name = key.rpartition(".")
    inside = OmegaConf.select(config, group) if group else config
    return OmegaConf.is_list(inside) or (OmegaConf.is_dict(inside) and name in list(inside))  # `in inside` is false for a ???


def is_choice(item: Override, composer: Composer) -> bool:
    """True if the override chooses an option of a group, rather than giving keys and values in its place."""
    return composer.is_group(item.key_or_group) and not (item.value_type == ValueType.ELEMENT and isinstance(item.value(), dict))


def with_targets(overrides: Sequence[str], composer: Composer) -> list[str]:
    """Makes `model._target_=lab.Net model.depth=3` without `model=NAME` take only the settings given with it, and none of an option."""
    given = {text.partition("=")[0] for text in overrides}
    groups = [group for group in TARGETED if f"{group}._target_" in given and group not in given]
    if not composer.has_choices():
        return list(overrides)
    overrides = [one for text in overrides for one in _with_operations(text)]
    own, there = (tuple(f"{group}.{end}" for group in groups) for end in ("", "_target_="))
    texts = [f"++{text}" if text.startswith(own) and not text.startswith(there) else text for text in overrides]
    return [*(f"{group}={CUSTOM}" for group in groups), *texts]


def _with_operations(text: str) -> list[str]:
    """Turns `augment=[flip]` into the option that takes such a list; Hydra would read the list as names of several options."""
    return [f"augment={CUSTOM}", f"operations={text.removeprefix('augment=')}"] if text.startswith("augment=[") else [text]


def as_given(overrides: Sequence[str]) -> list[str]:
    """Undoes `with_targets`."""
    if f"augment={CUSTOM}" in overrides:
        overrides = [text.replace("operations=", "augment=", 1) if text.startswith("operations=") else text for text in overrides]
        overrides.remove(f"augment={CUSTOM}")
    chosen = [group for group in TARGETED if f"{group}={CUSTOM}" in overrides]
    added, own = {f"{group}={CUSTOM}" for group in chosen}, tuple(f"++{group}." for group in chosen)
    return [text.removeprefix("++") if text.startswith(own) else text for text in overrides if text not in added]


def _spelled_out(item: Override, composer: Composer) -> str:
    """Replaces glob(*) by the options that it matches, because Hydra's sweeper ignores hydra.searchpath."""
    text = str(item.input_line)
    if item.value_type != ValueType.GLOB_CHOICE_SWEEP:
        return text
    if not (options := [option for option in item.sweep_string_iterator() if option != CUSTOM]):
        names = ", ".join(composer.options(item.key_or_group)) or "none: it is no group"
        raise UserError(f"{text}: no option is called so; {item.key_or_group} has {names}")
    return f"{text.partition('=')[0]}={','.join(options)}"


def with_settings(command: CommandLine) -> CommandLine:
    """Adds our Hydra settings if the primary config is a run's own config.yaml (--config-path RUN --config-name config), which has none."""
    file = _saved_file(command)
    if file is None or not file.is_file():
        return command
    try:
        saved = OmegaConf.load(file)
    except UNREADABLE as error:
        raise UserError(unreadable(file, error)) from None
    if not isinstance(saved, DictConfig):
        raise UserError(f"{file}: it holds no keys and values; a config is needed")
    if {"defaults", "hydra"} & set(saved):
        return command
    ours: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(CONF / f"{PRIMARY}.yaml"), resolve=False)  # type: ignore[assignment]
    settings = [f"hydra.{key}={'null' if value is None else value}" for key, value in flatten(ours["hydra"]).items()]
    settings += [
        f"{key.split()[-1]}={value}"
        for entry in ours["defaults"]
        if isinstance(entry, dict)
        for key, value in entry.items()
        if key.startswith("override hydra/")
    ]
    if OmegaConf.select(saved, "optimizer.lr") is not None:
        settings.append("optimizer.lr=${lr}")  # as the group's options have it; a saved config holds the number
    path, added = str(file.parent.resolve()), (command.config_path and command.config_dir) or str(CONF)  # conf/ has our launchers
    return replace(command, overrides=(*settings, *command.overrides), config_path=path, config_dir=added, config_name=file.stem)


def _saved_file(command: CommandLine) -> Path | None:
    """Returns the file that --config-path, or --config-dir with --config-name, leads to. A run's directory alone leads to its
    config.yaml."""
    folder = command.config_path or (command.config_dir if command.config_name else None)
    if folder is None:
        return None
    if Path(folder).is_file():
        return Path(folder)
    file = Path(folder) / f"{(command.config_name or PRIMARY).removesuffix('.yaml')}.yaml"
    return file if command.config_name or file.is_file() else Path(folder) / "config.yaml"


def _search_path(command: CommandLine) -> ConfigSearchPath:
    path = create_config_search_path(command.config_path or str(CONF))
    added = [("--config-dir", f"file://{os.path.abspath(command.config_dir)}")] if command.config_dir else []
    for text in command.overrides:
        if text.startswith("hydra.searchpath="):
            value = OverridesParser.create().parse_overrides([text])[0].value()
            added += [("hydra.searchpath", str(entry)) for entry in (value if isinstance(value, list) else ())]
    for provider, entry in added:  # between the primary config's own folder and Hydra's, as Hydra does
        path.prepend(provider, entry, SearchPathQuery(provider="schema"))
    try:
        sources = ConfigRepository(path).get_sources()
    except ValueError as error:  # a scheme that Hydra has no reader for, such as s3://
        raise UserError(f"hydra.searchpath: {error}") from None
    for source in sources:
        if not source.available():
            given = {"main": "--config-path"}.get(source.provider, source.provider)
            hint = "; a relative one starts beside train.py" if source.provider == "main" else ""
            raise UserError(f"{given}={source.path}: there is no such folder of configs{hint}")
    return path


def set_by_sweep(sweep: str | None, sources: Sequence[Any] = ()) -> dict[str, str]:
    """Returns, as overrides, what an option of the group `sweep` sets besides its grid. They make the same run without the sweep.

    `sources`: hydra.runtime.config_sources of a job; conf/ alone by default.
    """
    if sweep is None:
        return {}
    path = ConfigSearchPathImpl()
    for source in sources:
        if source.path:  # the source of Hydra's own schema has no path
            path.append(source.provider, f"{source.schema}://{source.path}")
    return dict(_set_by(f"sweep/{sweep}", ConfigRepository(path if sources else create_config_search_path(str(CONF)))))


def _set_by(config: str, repository: ConfigRepository) -> Iterator[tuple[str, str]]:
    loaded = repository.load_config(config)
    assert loaded is not None and loaded.defaults_list is not None  # Hydra has composed it before
    for entry in loaded.defaults_list:
        if isinstance(entry, ConfigDefault) and entry.path != "_self_":
            yield from _set_by(f"sweep/{entry.path}", repository)
        elif isinstance(entry, GroupDefault) and "hydra" not in str(entry.group):
            yield str(entry.group).removeprefix("/"), str(entry.value).replace("'", "").replace(" ", "")  # may be several values
    values: dict[str, Any] = OmegaConf.to_container(loaded.config)  # type: ignore[assignment]
    others = {key: value for key, value in values.items() if key not in ("hydra", "sweep")}
    for key, value in flatten(others).items():
        yield key, "null" if value is None else str(value).replace(" ", "")
