"""Checks the settings of components against the signatures of their targets. Imports code from outside this package only on request."""

import dataclasses
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from types import UnionType
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from resnet.config.checks import out_of_limits
from resnet.config.errors import UserError
from resnet.config.names import AUGMENTATIONS, CALLBACKS, DATA_SETS, METRICS, OUR_LOSS, OUR_MODEL
from resnet.config.signature import Parameter, Signature, is_built_in, is_own, read_signature
from resnet.config.suggest import nearest, unknown_key
from resnet.config.targets import find_target
from resnet.config.types import in_words

# Parameters that a run fills in itself when the settings leave them open.
OFFERED = frozenset(
    (
        *("in_channels", "in_chans", "num_classes", "class_names", "class_counts", "image_size", "mean", "std"),
        *("total_steps", "steps_per_epoch"),
        *("root", "download", "path", "channels", "fit", "on_bad_file", "cache_gb", "split_seed"),
    )
)
Values = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Role:
    """How the components under one config key are called, and which keys under it are not parameters of the component."""

    handed: int = 0  # number of positional arguments that the run passes
    called_with: int = 0  # required arguments of what the target makes, which may be the target itself if it is a function
    by_name: Collection[str] = ()  # arguments that the run passes by name if the target has, or takes, such parameters
    kept: Mapping[str, Parameter] = dataclasses.field(default_factory=dict)  # keys that the run itself reads
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)  # short names of built-in components
    default: str | None = None  # the target if an older config names none

    def settings(self, signature: Signature, given: Collection[str] = ()) -> dict[str, Parameter]:
        """Returns the parameters that the config may set."""
        if self.is_itself(signature, given):
            return {name: one for name, one in signature.settings(self.called_with).items() if name not in OF_A_CALL}
        named = self.is_by_name(signature)
        parameters = signature.settings(0 if named else self.handed)
        return {name: one for name, one in parameters.items() if not (named and name in self.by_name)}

    def is_itself(self, signature: Signature, given: Collection[str] = ()) -> bool:
        """True if the target is the function that is called, as torch.nn.functional.cross_entropy is, and not what makes it."""
        first = [*signature.parameters.values()][: self.called_with]
        must = len(first) == self.called_with and all(one.default is dataclasses.MISSING and one.name not in given for one in first)
        return bool(self.called_with) and signature.is_function and must

    def is_by_name(self, signature: Signature) -> bool:
        """True if the run passes its arguments by name. A target that takes any keyword gets them by position only if its first parameters
        are required.
        """
        if any(name in signature.parameters for name in self.by_name):
            return True
        first = [*signature.parameters.values()][: self.handed]
        must = len(first) == self.handed and all(one.default is dataclasses.MISSING for one in first)
        return bool(self.by_name) and signature.takes_any and not must


OF_A_CALL = ("images", "generator")  # arguments that a loss or an operation may take besides the required ones
PARTIAL = {"_partial_": Parameter("_partial_", bool, dataclasses.MISSING)}
COMPONENTS: Mapping[str, Role] = {  # keys of the config that hold one component, or several
    "model": Role(
        handed=2,
        by_name=("in_channels", "in_chans", "num_classes"),
        kept={"weights": Parameter("weights", str | None, None), "weights_skip": Parameter("weights_skip", list[str], [])},
        default=OUR_MODEL,
    ),
    "data": Role(names=DATA_SETS),
    "augment": Role(called_with=1, names=AUGMENTATIONS),  # a list of components
    "loss": Role(called_with=2, default=OUR_LOSS),
    "metrics": Role(called_with=2, names=METRICS),  # a list of components
    "optimizer": Role(
        handed=1, kept={**PARTIAL, **{name: Parameter(name, Any, dataclasses.MISSING) for name in ("groups", "layer_decay")}}
    ),
    "scheduler": Role(handed=1, kept=PARTIAL),
    "callbacks": Role(names=CALLBACKS),  # a dict of components
}


def has_target(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("_target_"), str)


def targets_in(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yields (key, target) for each target at any depth: a _target_, or a part of one of our components that is written as
    `module.Class`."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name == "_target_" and isinstance(item, str):
                yield f"{key}._target_", item
            yield from targets_in(item, f"{key}.{name}")
        yield from _named_parts(value, key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from targets_in(item, f"{key}[{index}]")


def _named_parts(value: Values, key: str) -> Iterator[tuple[str, str]]:
    target = value.get("_target_")
    known = read_signature(target, f"{key}={target}").parameters if isinstance(target, str) and is_own(target) else {}
    for name, parameter in known.items():
        part = value.get(name)
        if "names" in parameter.limits and isinstance(part, str) and part not in parameter.limits["names"]:
            yield f"{key}.{name}", part


def as_component(key: str, value: Any, known: Mapping[str, str]) -> dict[str, Any]:
    """Turns a short name, `module.Class`, or a mapping with one of them as its _target_ into a mapping with a target. Raises UserError."""
    if has_target(value):
        return {**value, **as_component(f"{key}._target_", value["_target_"], known)}
    if isinstance(value, str) and value in known:
        return {"_target_": known[value]}
    if isinstance(value, str) and "." in value.strip("."):
        return {"_target_": value}
    what = f"a mapping with a _target_{' or a name is' if known else ' is'} needed"
    if isinstance(value, str) and known:
        what = f"no such choice{nearest(value, known)}; choose one of {', '.join(known)}, or module.Class"
    raise UserError(f"{key}={'null' if value is None else value}: {what}")


def check(key: str, values: Values, role: Role, import_foreign: bool = False) -> dict[str, Any]:
    """Converts the settings of one component to their types. Adds the defaults to components of this package.

    Raises:
        UserError: one line per mistake.
    """
    target = values["_target_"]
    given = {name: value for name, value in values.items() if name != "_target_"}
    if import_foreign:
        for place, inner in targets_in(values, key):
            find_target(f"{place}={inner}", inner)
    is_known = is_built_in(target) or import_foreign
    signature = read_signature(target, f"{key}._target_={target}") if is_known else Signature({}, takes_any=True)
    parameters = role.settings(signature, given)
    wrong = _unknown(key, target, given, {**parameters, **role.kept}) if not signature.takes_any else []
    wrong += _lacking(key, given, parameters)
    settings = {"_target_": target, **given}
    for name, parameter in {**parameters, **role.kept}.items():
        if name in given:
            try:
                settings[name] = typed(f"{key}.{name}", given[name], parameter, import_foreign)
            except UserError as error:
                wrong += str(error).splitlines()
        elif parameter.default is not dataclasses.MISSING and (is_own(target) or name in role.kept):
            settings[name] = parameter.default
    if wrong:
        raise UserError("\n".join(wrong))
    return settings


def _unknown(key: str, target: str, given: Values, known: Mapping[str, Parameter]) -> list[str]:
    """Reports unknown keys. For a foreign target they share one line: they come from the chosen option, whose target was replaced."""
    unknown = [name for name in given if name not in known]
    if is_own(target) or not unknown:
        return [f"{key}.{name}: {unknown_key(f'{key}.{name}', [f'{key}.{one}' for one in known])}" for name in unknown]
    keys = ", ".join(f"{key}.{name}" for name in unknown)
    what = f"unknown key{nearest(unknown[0], known)}" if len(unknown) == 1 else "unknown keys"
    takes = f"{target.rpartition('.')[2]} takes {', '.join(name for name in known if not name.startswith('_')) or 'no settings'}"
    leave_out = " ".join(f"'~{key}.{name}'" for name in unknown)
    return [f"{keys}: {what}; {takes}; {leave_out} leave{'s it' if len(unknown) == 1 else ' them'} out"]


def _lacking(key: str, given: Values, parameters: Mapping[str, Parameter]) -> list[str]:
    lacking = [one.name for one in parameters.values() if one.default is dataclasses.MISSING and one.name not in {*given, *OFFERED}]
    return [f"{key}.{name}: no value; set {key}.{name}=..." for name in lacking]


def typed(key: str, value: Any, parameter: Parameter, import_foreign: bool = False) -> Any:
    """Converts the value to the parameter's type. Raises UserError."""
    if "names" in parameter.limits:
        return _part(key, value, parameter, import_foreign)
    kind = _kind_of(value, parameter.kind)
    schema = dataclasses.make_dataclass("Schema", [("value", kind)])
    try:
        converted = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), {"value": value})).value  # type: ignore[union-attr, attr-defined]
    except OmegaConfBaseException as error:
        raise UserError(_not_of_the_type(key, value, kind, error)) from None
    if wrong := list(out_of_limits(key, converted, parameter.limits)):
        raise UserError("\n".join(wrong))
    return converted


def _kind_of(value: Any, kind: Any) -> Any:
    """Returns which of two types the value is to have, as in `int | list[int]`, which OmegaConf does not know: a list's if it is a list."""
    members = [one for one in typing.get_args(kind) if one is not type(None)]
    if not isinstance(kind, UnionType) or len(members) < 2:
        return kind
    chosen = next(one for one in members if (typing.get_origin(one) is list) == isinstance(value, list))
    return chosen | None if type(None) in typing.get_args(kind) else chosen


def _not_of_the_type(key: str, value: Any, kind: Any, error: OmegaConfBaseException) -> str:
    inner = str(error.full_key or "").removeprefix("value")
    if inner:  # the wrong value is an item of a list
        of_list = typing.get_args(kind)[0] if isinstance(kind, UnionType) else kind  # which may be null
        key, value, kind = f"{key}{inner}", error.value, typing.get_args(of_list)[0]
    wanted = in_words(kind)
    return f"{key}={'null' if value is None else value}: {f'{wanted} is needed' if wanted else str(error).splitlines()[0]}"


def _part(key: str, value: Any, parameter: Parameter, import_foreign: bool) -> Any:
    """Checks a component inside a component; a short name stays as it is."""
    names = parameter.limits["names"]
    settings = as_component(key, value, names)
    if isinstance(value, str) and value in names:
        return value
    checked = check(key, settings, Role(handed=parameter.limits.get("handed", 0)), import_foreign)
    return value if isinstance(value, str) else checked


def each(values: Sequence[Any], key: str, role: Role, import_foreign: bool = False) -> list[dict[str, Any]]:
    """Checks a list of components. Raises UserError."""
    places = [f"{key}.{index}" for index in range(len(values))]
    return [check(place, as_component(place, value, role.names), role, import_foreign) for place, value in zip(places, values, strict=True)]


def each_named(values: Values, key: str, role: Role, import_foreign: bool = False) -> dict[str, dict[str, Any]]:
    """Checks a dict of components and leaves out those that are null. Raises UserError."""
    made: dict[str, dict[str, Any]] = {}

    def add(name: str) -> None:
        place = f"{key}.{name}"
        made[name] = check(place, as_component(place, values[name], role.names), role, import_foreign)

    if wrong := collected(*(partial(add, name) for name, value in values.items() if value is not None)):
        raise UserError("\n".join(wrong))
    return made


def collected(*checks: Callable[[], Any]) -> list[str]:
    """Runs all checks and returns the mistakes that they raise."""
    wrong: list[str] = []
    for one in checks:
        try:
            one()
        except UserError as error:
            wrong += str(error).splitlines()
    return wrong
