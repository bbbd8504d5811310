"""Hydra's and OmegaConf's errors in our words: one line for what the user has to change."""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, OmegaConfBaseException
from yaml import MarkedYAMLError

from resnet.config.compose import CONF, Composer, unreadable
from resnet.config.hashing import flatten
from resnet.config.load import all_keys, explain_value, wanted_type
from resnet.config.suggest import a_word, as_one_word, nearest, typographic, unknown_key
from resnet.config.upgrade import OPERATIONS
from resnet.config.words import IMAGENET, OURS

EXTRAS = {"hydra/sweeper/optuna": "search", "hydra/launcher/submitit_slurm": "slurm"}  # of setup.cfg, by what needs them
PLUGINS = ("hydra.launcher.", "hydra.sweeper.")
OPEN_GROUPS = ("optimizer", "scheduler")  # whose options have keys of their own


def explain(error: Exception, composer: Composer, overrides: Sequence[str]) -> str:
    """What the composition of these overrides met."""
    first_line = str(error).strip().split("\n")[0]
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        what = error.filename or "the run's folder"  # a full disk does not say of which file
        return f"{what}: cannot be written ({error.strerror}); make room, make it writable, or give the command in another folder"
    if isinstance(error, ValueError | IndexError | OmegaConfBaseException | HydraException) and (
        unlisted := _not_in_list(error, overrides)
    ):
        return unlisted
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        return unreadable(error.problem_mark.name, error)
    if isinstance(error, OverrideParseException):
        return f"{error.override or repr('')}: {_unreadable(str(error.override), composer)}"
    if without_key := [text for text in overrides if text.startswith("=")]:
        return f"{without_key[0]}: {_unreadable(without_key[0], composer)}"
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
    if (match := re.match(r"In '(.*?)': ConfigTypeError", first_line)) and "DictConfig with ListConfig" in str(error):
        return f"{match[1]}.yaml: a key of it is a list, as augment: [flip, {{_target_: cutout, side: 0.5}}], and not keys and values"
    if match := re.match(r"In '(.*?)': Could not override '(?:.*/)?(.*?)(?:@.*)?'", first_line):
        return _no_such_group(f"{match[1]}.yaml", match[2], composer)
    if match := re.search(r"Could not (?:override|append|delete)[^']*'(.*?)'", first_line):
        return _no_such_key(match[1], error, composer, overrides)
    if match := re.match(r"Error merging override (.*)", first_line):
        return _unfit(match[1], error, composer)
    if match := re.match(r"Multiple values for ([^. ]+)", first_line):
        group = match[1]
        in_file = f"in a file's defaults: override /{group}: OPTION"
        return f"{group}: given twice, or added to what is there; write {group}=OPTION once, without a + ({in_file})"
    if match := re.match(r"force-add of config groups is not supported: '\++(.*)'", first_line):
        return f"++{match[1]}: a group has one option; write {match[1]}"
    if first_line.startswith("Config group override"):
        return _no_option_at_all(composer, overrides)
    if match := re.match(r"Override (([^@]*)@(.*)=.*) looks like a config group", first_line):
        return f"{match[1]}: {match[2]} is no group, and @ is for groups; write {match[2]}=VALUE"
    if isinstance(error, AttributeError | AssertionError) and (grid := [text for text in overrides if "hydra.sweeper.params" in text]):
        return f"{grid[0]}: this key is for files of the group sweep; on the command line write KEY=VALUE,VALUE"
    if isinstance(error, ConfigAttributeError):
        return f"{error.full_key}: {unknown_key(str(error.full_key), all_keys())}"
    if isinstance(error, OmegaConfBaseException):
        return explain_value(error)
    return first_line or type(error).__name__


def _not_in_list(error: Exception, overrides: Sequence[str]) -> str | None:
    """Of a key of `augment`, which was a group of keys once and is a list of operations."""
    for text in overrides:
        if not (match := re.match(r"[+~]*augment\.([^.=]+)(?:\.([^=]+))?", text)):
            continue
        if not match[1].isdigit():
            name, setting = next(((name, keys[match[1]]) for name, keys in OPERATIONS.items() if match[1] in keys), ("flip", "p"))
            return (
                f"{text}: augment is a list of operations; choose one with augment=NAME and set it by its place (augment.0.pad=2), or "
                f"write it in a file: augment: [{{_target_: {name}, {setting}: ...}}]"
            )
        if match[2] and text[0] not in "+~":
            return f"{text}: augment has no operation with this key there (they count from 0); --cfg job shows them, +{text} adds the key"
    return None


def _unreadable(override: str, composer: Composer) -> str:
    if mark := typographic(override):
        return mark
    key, equals, value = override.partition("=")
    if len(override) > 1 and override[0] == override[-1] and override[0] in "'\"":
        return "its quotes are part of it in this shell; write double quotes, or none"
    if not override.strip() or not key.strip():
        return "it has no key; write key=value, without spaces around the ="
    if override != override.lstrip():
        return "it begins with a space; take it away"
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
    if "/" not in missing:
        return f"{composer.primary}.yaml: its defaults name {missing}, and there is no {missing}.yaml; --config-dir=DIR looks in conf/ too"
    group, option = re.fullmatch("(hydra/.*(?=/)|[^/]*)/?(.*)", missing).groups()  # type: ignore[union-attr]
    given = re.match(r"In '(.*?)'", first_line)
    where = f" (in {given[1]})" if given and given[1] not in (composer.primary, "hydra/config") else ""
    return _no_option(group, option, where, composer)


def _no_option(group: str, option: str, where: str, composer: Composer) -> str:
    if note := IMAGENET.get(as_one_word(option)):
        return f"{group}={option}{where}: no such option; {note}"
    choices = composer.options(group)
    return f"{group}={option}{where}: no such option{nearest(option, choices)}; choose one of {', '.join(choices)}"


def _no_option_at_all(composer: Composer, overrides: Sequence[str]) -> str:
    """Of a group that was given true, a number or nothing."""
    for item in composer.parse(overrides):
        if composer.is_group(item.key_or_group) and not isinstance(item.value(), str | list):
            return _no_option(item.key_or_group, str(item.input_line).partition("=")[2], "", composer)
    return "a group takes one of its options, as in model=resnet20 (--help lists them)"


def _no_such_group(file: str, group: str, composer: Composer) -> str:
    """In the defaults of a file."""
    if composer.is_group(group):
        return f"{file}: override {group}: a group begins with a / in a file's defaults; write override /{group}: OPTION"
    return f"{file}: override /{group}: there is no such group{nearest(group, composer.groups())}"


def _no_such_key(given: str, error: Exception, composer: Composer, overrides: Sequence[str]) -> str:
    first_line = str(error).splitlines()[0]
    key = given.partition("=")[0].strip("+~").partition("@")[0]
    if "@" in given:
        return f"{given}: nothing is chosen there; write {key}=OPTION"
    inner = getattr(error.__cause__, "full_key", None)  # of model={layrs:[1]}, model.layrs
    if key.startswith("hydra.") and getattr(error.__cause__, "object_type", None) is dict:
        return f"{given}: it is not there yet; write +{given}=VALUE, which adds it"
    if "append" in first_line and "already" in first_line:
        return f"+{key}: it is there already; write it without the +"
    if "No match in the defaults list" in first_line and composer.is_group(key):
        if first_line.startswith("Could not delete"):
            return f"~{given}: it is not chosen, so it cannot be taken away"
        return f"{key}: {composer.primary}.yaml leaves no choice of {key}; set its keys, as {key}.NAME=VALUE"
    known = known_keys(composer, overrides, key.startswith("hydra"))
    if inner and inner != key and key in known:
        return unknown(inner, known, composer)
    if first_line.startswith("Could not delete") and key in known:
        value = re.search("is (.*) and not", first_line)
        return f"~{key}: its value is {value[1]}; write ~{key} alone" if value else f"~{key}: it is null, and needs no taking away"
    if key in known:  # the primary config is the user's
        return f"{key}: {composer.primary}.yaml has no such key; begin the file with `defaults: [train, _self_]`, and give --config-dir=DIR"
    return unknown(key, known, composer)


def unknown(key: str, known: Collection[str], composer: Composer) -> str:
    """One line for a key that does not exist, or belongs to another option."""
    if key.startswith(PLUGINS) and (chosen := list(_plugins_with(key, composer))):
        return f"{key}: unknown key here; it belongs to {', '.join(chosen)}"
    owners = list(_owners(key, composer))
    if key not in OURS and owners and not any(name.endswith(f".{key.rpartition('.')[2]}") for name in known):
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


def _plugins_with(key: str, composer: Composer) -> Iterator[str]:
    """The launchers or sweepers of ours that have this key, as hydra/launcher=option."""
    group = "/".join(key.split(".")[:2])
    for option in composer.options(group):
        if (CONF / group / f"{option}.yaml").is_file():
            with suppress(HydraException):  # it isn't installed
                if key in flatten(OmegaConf.to_container(composer.compose([f"{group}={option}"]), resolve=False)):  # type: ignore[arg-type]
                    yield f"{group}={option}"


def _unfit(override: str, error: Exception, composer: Composer) -> str:
    reason = str(error.__cause__ or error).splitlines()[0]
    key = override.partition("=")[0]
    if re.search("Cannot (assign|merge|set)|Invalid type|not a DictConfig|Cannot convert", reason):
        if composer.is_group(group := key.replace(".", "/")):
            return f"{override}: it is a group; choose one of its options as {group}=OPTION"
        if wanted := wanted_type(key):
            return f"{override}: {wanted} is needed"
        return f"{override}: {key} is a group of keys; choose an option of it or set one of its keys, as {key}.NAME=VALUE (see --help)"
    return f"{override}: {reason}"


def known_keys(composer: Composer, overrides: Sequence[str], with_hydras: bool = False) -> set[str]:
    """The keys of the schema and of the groups that were chosen."""
    groups = composer.groups()
    chosen = [text for text in overrides if composer.is_group(text.partition("=")[0])]
    try:
        composed = composer.compose(chosen)
    except (HydraException, OmegaConfBaseException):
        composed = composer.compose(())
    keys = flatten(OmegaConf.to_container(composed, resolve=False))  # type: ignore[arg-type]
    of_hydra = (key for key in keys if not key.startswith(("hydra.runtime.", "hydra.help.")))  # what Hydra tells, not what is told to it
    return {*groups, *all_keys(), *(key for key in of_hydra if with_hydras or not key.startswith("hydra."))}
