"""Turns a `_target_` into an object. Only the parts of our networks are made elsewhere, in models/parts.py."""

from collections.abc import Mapping
from dataclasses import MISSING
from functools import partial
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from resnet.config.components import COMPONENTS
from resnet.config.components import check as check_component
from resnet.config.errors import UserError, cause
from resnet.config.signature import is_own, read_signature
from resnet.config.targets import find_target
from resnet.data.errors import DataError


def takes(key: str, settings: Mapping[str, Any], name: str) -> bool:
    """True if the component has a parameter of this name that its settings leave open."""
    parameters = read_signature(settings["_target_"], f"{key}._target_={settings['_target_']}").parameters
    return name in parameters and settings.get(name) is None


def make(key: str, settings: Mapping[str, Any], *arguments: Any, **offered: Any) -> Any:
    """Calls a component's target with its settings, and with the arguments of `offered` that it takes.

    Components inside its settings are made too, except for targets of this package, which make their own parts.

    Raises:
        UserError: it cannot be found, or refuses its settings.
    """
    role, target = COMPONENTS[key.partition(".")[0]], settings["_target_"]
    checked = check_component(key, settings, role, import_foreign=True)
    chosen = {name: value for name, value in checked.items() if name not in role.kept}
    signature = read_signature(target, f"{key}._target_={target}")
    extra = {
        name: value
        for name, value in offered.items()
        if takes(key, chosen, name) and (value is not None or signature.parameters[name].default is MISSING)
    }
    try:
        if role.is_itself(signature, chosen):
            own = {name: value for name, value in chosen.items() if name != "_target_"}
            return partial(find_target(f"{key}._target_={target}", target), **own, **extra)
        return instantiate({**chosen, "_partial_": True}, _convert_="all", _recursive_=not is_own(target))(*arguments, **extra)
    except (UserError, DataError, MemoryError):  # too little memory is no mistake in the settings
        raise
    except Exception as error:  # foreign code may raise anything
        reason = cause(error.__cause__ or error if isinstance(error, InstantiationException) else error)
        verb = "refuses its settings" if isinstance(error, TypeError | ValueError | RuntimeError | InstantiationException) else "fails"
        raise UserError(f"{key}: {target} {verb} ({reason})") from None
