"""Checks the settings of components against the signatures of their targets. Imports what is not of this package only where asked to."""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from resnet.config.checks import broken_limits
from resnet.config.errors import UserError
from resnet.config.names import CALLBACKS
from resnet.config.signature import Parameter, is_own, read_signature
from resnet.config.suggest import nearest
from resnet.config.types import in_words

# What a run hands to a parameter of this name that its settings leave open.
OFFERED = frozenset(
    (
        *("in_channels", "num_classes", "class_names", "class_counts", "image_size", "mean", "std", "total_steps", "steps_per_epoch"),
        *("root", "download", "path", "channels", "in_memory", "split_seed"),
    )
)
Values = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Role:
    """How the components of a key are called, and which of its keys are not theirs."""

    handed: int = 0  # arguments by position
    kept: Collection[str] = ()  # keys that the run itself reads
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)  # short ones of built-in components


COMPONENTS: Mapping[str, Role] = {  # keys of the config that are one component
    "optimizer": Role(handed=1, kept=("_partial_", "groups", "layer_decay")),
    "scheduler": Role(handed=1, kept=("_partial_",)),
    "callbacks": Role(names=CALLBACKS),  # a dict of them
}


def has_target(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("_target_"), str)


def as_component(key: str, value: Any, known: Mapping[str, str]) -> dict[str, Any]:
    """A short name, `module.Class`, or a mapping with a _target_, as such a mapping. Raises UserError."""
    if has_target(value):
        return dict(value)
    if isinstance(value, str) and value in known:
        return {"_target_": known[value]}
    if isinstance(value, str) and "." in value.strip("."):
        return {"_target_": value}
    what = f"a mapping with a _target_{' or a name is' if known else ' is'} needed"
    if isinstance(value, str) and known:
        what = f"no such choice{nearest(value, known)}; choose one of {', '.join(known)}, or module.Class"
    raise UserError(f"{key}={'null' if value is None else value}: {what}")


def check(key: str, values: Values, role: Role, import_foreign: bool = False) -> dict[str, Any]:
    """The settings of one component with their types, and those of this package with their defaults.

    Raises:
        UserError: one line per mistake.
    """
    target = values["_target_"]
    kept = {name: value for name, value in values.items() if name == "_target_" or name in role.kept}
    given = {name: value for name, value in values.items() if name not in kept}
    if not (is_own(target) or import_foreign):
        return dict(values)
    signature = read_signature(target, f"{key}._target_={target}")
    parameters = signature.settings(role.handed)
    wrong = [*_unknown(key, target, given, parameters)] if not signature.takes_any else []
    wrong += _lacking(key, given, parameters)
    settings = dict(given)
    for name, value in given.items():
        if name in parameters:
            try:
                settings[name] = typed(f"{key}.{name}", value, parameters[name])
            except UserError as error:
                wrong.append(str(error))
    if wrong:
        raise UserError("\n".join(wrong))
    if is_own(target):
        settings = {**{name: one.default for name, one in parameters.items() if one.default is not dataclasses.MISSING}, **settings}
    return {**kept, **settings}


def _unknown(key: str, target: str, given: Values, parameters: Mapping[str, Parameter]) -> Iterator[str]:
    for name in given:
        if name not in parameters:
            takes = f"{target.rpartition('.')[2]} takes {', '.join(parameters) or 'no settings'}"
            yield f"{key}.{name}: unknown key{nearest(name, parameters)}; {takes}; '~{key}.{name}' leaves it out"


def _lacking(key: str, given: Values, parameters: Mapping[str, Parameter]) -> list[str]:
    lacking = [one.name for one in parameters.values() if one.default is dataclasses.MISSING and one.name not in {*given, *OFFERED}]
    return [f"{key}.{name}: no value; set {key}.{name}=..." for name in lacking]


def typed(key: str, value: Any, parameter: Parameter) -> Any:
    """The value as the parameter has it. Raises UserError."""
    if known := parameter.limits.get("names"):
        as_component(key, value, known)
        return value
    schema = dataclasses.make_dataclass("Schema", [("value", parameter.kind)])
    try:
        converted = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), {"value": value})).value  # type: ignore[union-attr, attr-defined]
    except OmegaConfBaseException as error:
        shown = "null" if value is None else value
        wanted = in_words(parameter.kind)
        raise UserError(f"{key}={shown}: {f'{wanted} is needed' if wanted else str(error).splitlines()[0]}") from None
    if wrong := list(broken_limits(f"{key}={value}", converted, parameter.limits)):
        raise UserError("\n".join(wrong))
    return converted


def each(values: Sequence[Any], key: str, role: Role, import_foreign: bool = False) -> list[dict[str, Any]]:
    """Of a list of components. Raises UserError."""
    places = [f"{key}[{index}]" for index in range(len(values))]
    return [check(place, as_component(place, value, role.names), role, import_foreign) for place, value in zip(places, values, strict=True)]


def each_named(values: Values, key: str, role: Role, import_foreign: bool = False) -> dict[str, dict[str, Any]]:
    """Of a dict of components; one that is null is left out. Raises UserError."""
    made: dict[str, dict[str, Any]] = {}

    def add(name: str) -> None:
        place = f"{key}.{name}"
        made[name] = check(place, as_component(place, values[name], role.names), role, import_foreign)

    if wrong := collected(*(partial(add, name) for name, value in values.items() if value is not None)):
        raise UserError("\n".join(wrong))
    return made


def collected(*checks: Callable[[], Any]) -> list[str]:
    """The mistakes of all of them."""
    wrong: list[str] = []
    for one in checks:
        try:
            one()
        except UserError as error:
            wrong += str(error).splitlines()
    return wrong
