"""Hydra's and OmegaConf's errors in our words: one line for what the user has to change."""

import re
from collections.abc import Collection, Iterator, Sequence

from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, OmegaConfBaseException

from resnet.config.compose import Composer
from resnet.config.hashing import flatten
from resnet.config.load import all_keys, explain_value
from resnet.config.suggest import a_word, nearest, typographic, unknown_key
from resnet.config.words import IMAGENET

EXTRAS = {"hydra/sweeper/optuna": "search", "hydra/launcher/submitit_slurm": "slurm"}  # of setup.cfg, by what needs them
OPEN_GROUPS = ("optimizer", "scheduler")  # whose options have keys of their own


def explain(error: Exception, composer: Composer, overrides: Sequence[str]) -> str:
    """What the composition of these overrides met."""
    first_line = str(error).strip().split("\n")[0]
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        what = error.filename or "the run's folder"  # a full disk does not say of which file
        return f"{what}: cannot be written ({error.strerror}); make room, make it writable, or give the command in another folder"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: {_unreadable(str(error.override), composer)}"
    if isinstance(error, MissingConfigException):
        return _missing(error, composer, first_line)
    if isinstance(error.__cause__, OmegaConfBaseException) and not first_line:  # Hydra wraps them without a word
        return explain_value(error.__cause__)
    if isinstance(error, InstantiationException):
        key = re.search("^full_key: (.*)", str(error), re.MULTILINE)
        return f"{key[1] + ': ' if key else ''}{first_line.partition(', set env var')[0]}"
    if match := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'(?: requires|$)", first_line):
        return f"{match[1]}: several values; add -m to run them all as a sweep, or write key=[a,b] for a list"
    if match := re.match(r"Sweeping over Hydra's configuration is not supported : '(.*)'", first_line):
        return f"{match[1]}: one value for the whole sweep; give one"
    if match := re.search(r"Could not (?:override|append|delete)[^']*'(.*?)'", first_line):
        return _no_such_key(match[1], first_line, composer, overrides)
    if match := re.match(r"Error merging override (.*)", first_line):
        return _unfit(match[1], error)
    if match := re.match(r"Multiple values for ([^. ]+)", first_line):
        return f"{match[1]}: given twice, or added to what is there; write {match[1]}=OPTION once, without a +"
    if first_line.startswith("Config group override"):
        group = next((text for text in overrides if composer.is_group(text.lstrip("+~").partition("=")[0].partition("@")[0])), first_line)
        return f"{group}: a group takes one of its options, as in model=resnet20 (--help lists them)"
    if isinstance(error, ConfigAttributeError):
        return f"{error.full_key}: {unknown_key(str(error.full_key), all_keys())}"
    if isinstance(error, OmegaConfBaseException):
        return explain_value(error)
    return first_line or type(error).__name__


def _unreadable(override: str, composer: Composer) -> str:
    if mark := typographic(override):
        return mark
    key, equals, value = override.partition("=")
    if not equals:
        return a_word(override, {group: composer.options(group) for group in composer.groups()}, known_keys(composer, ()))
    if value.endswith(",") and "[" not in value:
        return f"cannot be read; several values have no space after the comma, as in {key}={value}VALUE"
    return "cannot be read; write key=value, and quote what your shell would change, like 'model.layers=[3,3,3]'"


def _missing(error: MissingConfigException, composer: Composer, first_line: str) -> str:
    missing = error.missing_cfg_file
    if not missing:
        return first_line
    if extra := EXTRAS.get(missing):
        return f"{missing}: it is not installed; pip install -e '.[{extra}]'"
    if missing == composer.primary:
        return f"--config-name={missing}: there is no {missing}.yaml in --config-path, or in conf/"
    group, option = re.fullmatch("(hydra/[^/]*|[^/]*)/?(.*)", missing).groups()  # type: ignore[union-attr]
    if note := IMAGENET.get(option.lower()):
        return f"{group}={option}: no such option; {note}"
    choices = composer.options(group)
    given = re.match(r"In '(.*?)'", first_line)
    where = f" (in {given[1]})" if given and given[1] not in (composer.primary, "hydra/config") else ""
    return f"{group}={option}{where}: no such option{nearest(option, choices)}; choose one of {', '.join(choices)}"


def _no_such_key(given: str, first_line: str, composer: Composer, overrides: Sequence[str]) -> str:
    key = given.partition("=")[0].strip("+~").partition("@")[0]
    if "append" in first_line and "already" in first_line:
        return f"+{key}: it is there already; write it without the +"
    if "No match in the defaults list" in first_line and composer.is_group(key):
        return f"{key}: {composer.primary}.yaml leaves no choice of {key}; set its keys, as {key}.NAME=VALUE"
    known = known_keys(composer, overrides, key.startswith("hydra"))
    return f"{given}: {first_line}" if key in known else unknown(key, known, composer)


def unknown(key: str, known: Collection[str], composer: Composer) -> str:
    """One line for a key that does not exist, or belongs to another option."""
    owners = list(_owners(key, composer))
    if owners and not any(name.endswith(f".{key.rpartition('.')[2]}") for name in known):
        group = owners[0].partition("=")[0]
        return f"{key}: unknown key here; {group}.{key.rpartition('.')[2]} belongs to {', '.join(owners)}"
    return f"{key}: {unknown_key(key, known)}"


def _owners(key: str, composer: Composer) -> Iterator[str]:
    """The options that have this key of their own, as group=option."""
    group, _, name = key.rpartition(".")
    for open_group in OPEN_GROUPS:
        for option in composer.options(open_group) if group in ("", open_group) else ():
            loaded = composer.loader.repository.load_config(f"{open_group}/{option}")
            values = OmegaConf.to_container(loaded.config, resolve=False) if loaded else {}
            if isinstance(values, dict) and name in values.get(open_group, values):
                yield f"{open_group}={option}"


def _unfit(override: str, error: Exception) -> str:
    reason = str(error.__cause__ or error).splitlines()[0]
    key = override.partition("=")[0]
    if re.search("Cannot (assign|merge|set)|Invalid type|not a DictConfig|Cannot convert", reason):
        return f"{override}: {key} is a group of keys; choose an option of it or set one of its keys, as {key}.NAME=VALUE (see --help)"
    return f"{override}: {reason}"


def known_keys(composer: Composer, overrides: Sequence[str], with_hydras: bool = False) -> set[str]:
    """The keys of the schema and of the groups that were chosen."""
    groups = composer.groups()
    chosen = [text for text in overrides if text.partition("=")[0] in groups]
    try:
        composed = composer.compose(chosen)
    except (HydraException, OmegaConfBaseException):
        composed = composer.compose(())
    keys = flatten(OmegaConf.to_container(composed, resolve=False))  # type: ignore[arg-type]
    return {*groups, *all_keys(), *(key for key in keys if with_hydras or not key.startswith("hydra."))}
