"""The command line of train.py: Hydra's flags and the overrides, read once."""

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from resnet.config.errors import UserError
from resnet.config.internals import get_args_parser
from resnet.config.load import all_keys, text_keys
from resnet.config.suggest import typographic, unknown_key

FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")
SHOWS = ("help", "hydra_help", "cfg", "info", "shell_completion", "experimental_rerun")  # flags that show something and start no run


@dataclass(frozen=True)
class CommandLine:
    overrides: tuple[str, ...] = ()
    flags: tuple[tuple[str, str | bool], ...] = ()  # Hydra's flags that were given, by their full names
    is_multirun: bool = False
    only_shows: bool = False
    config_dir: str | None = None
    config_path: str | None = None
    config_name: str | None = None

    @property
    def arguments(self) -> list[str]:
        """The arguments in the order that Hydra's parser takes: it refuses overrides on both sides of a flag."""
        flags = {**dict(self.flags), "--config-path": self.config_path, "--config-dir": self.config_dir, "--config-name": self.config_name}
        return [*(name if value is True else f"{name}={value}" for name, value in flags.items() if value), *self.overrides]


def read_arguments(arguments: Sequence[str]) -> CommandLine:
    """Raises UserError for a flag that Hydra does not have, or that lacks its value."""
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    given, unknown = parser.parse_known_intermixed_args(list(arguments))
    given.overrides += [text for text in unknown if not text.startswith("-")]  # overrides behind a `--`
    if wrong := [text for text in unknown if text.startswith("-")]:
        raise UserError(_no_flag(wrong[0], given.overrides))
    if given.run and given.multirun:
        raise UserError("--run --multirun: one of the two")
    flags = tuple((action.option_strings[0], vars(given).get(action.dest, False)) for action in parser._actions if action.option_strings)
    shows = any(vars(given)[name] for name in SHOWS)
    overrides = given.overrides if shows else map(readable, given.overrides)
    config_dir = given.config_dir and os.path.expanduser(given.config_dir)
    return CommandLine(tuple(overrides), flags, given.multirun, shows, config_dir, given.config_path, given.config_name)


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message.removeprefix('argument ')}; python train.py --hydra-help explains Hydra's flags")


def _no_flag(flag: str, overrides: Sequence[str]) -> str:
    word, equals, value = flag.lstrip("-").partition("=")
    value = value if equals else next((text for text in overrides if "=" not in text), "VALUE")
    keys = set(all_keys())
    key = next((known for known in (word, word.replace("-", "_")) if known in keys), None)
    if key:
        return f"{flag}: no such flag; keys are written without dashes: {as_typed(key, value)}"
    return f"{flag}: no such flag, and as a key without its dashes {word.replace('-', '_')} is an {unknown_key(word, keys)}"


def readable(override: str) -> str:
    """Returns the override with its value quoted where needed: names and paths may hold characters that Hydra's grammar cannot read
    unquoted, such as accented letters and brackets.
    """
    key, equals, value = override.partition("=")
    if not equals or key not in {*text_keys(), *FOLDERS} or typographic(value):
        return override
    try:
        OverridesParser.create().parse_overrides([override])
    except OverrideParseException:
        return f"{key}={quoted(value)}"
    return override


def quoted(value: str) -> str:
    """Quotes a value for Hydra's grammar, if it needs quotes."""
    if re.fullmatch(r"[A-Za-z_][\w./-]*|\d+-[\d_-]+", value, re.ASCII) and value.lower() not in (
        "null",
        "true",
        "false",
        "nan",
        "inf",
    ):
        return value
    escaped = re.sub(r"(\\*)(\"|$)", lambda match: match[1] * 2 + (match[2] and "\\" + match[2]), value)
    return f'"{escaped}"'


def as_typed(key: str, value: Any) -> str:
    """Returns `key=value`, ready to paste into a shell."""
    return shlex.quote(f"{key}={quoted(value) if key in text_keys() else value}")
