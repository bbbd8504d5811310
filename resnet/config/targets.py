"""Finds what a `_target_` names and whether it may be built. A config from a run directory may only name trusted targets."""

import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from hydra.utils import get_method

from resnet.config.errors import UserError, cause
from resnet.config.suggest import nearest

# What every saved config may build: this package's components and similar ones of torch.
TRUSTED = (
    *("resnet.models", "resnet.losses", "resnet.distillation", "resnet.metrics", "resnet.data"),
    *("resnet.training.optim", "resnet.training.probes", "resnet.training.profile"),
    *("torch.optim", "torch.nn", "torchvision.models", "torchvision.transforms.v2"),
)
_only: ContextVar[tuple[str, ...] | None] = ContextVar("only", default=None)  # None: all targets are trusted (the user's own command)
_built: set[str] = set()


@contextmanager
def trusting_only(allowed: Sequence[str]) -> Iterator[None]:
    """Inside this context, a target is found only if it belongs to these modules, is trusted, or was built before by the user's own
    command.
    """
    token = _only.set((*TRUSTED, *allowed))
    try:
        yield
    finally:
        _only.reset(token)


def find_target(given: str, target: Any) -> Callable[..., Any]:
    """Imports a target; the working directory is on the path.

    Raises:
        UserError: the import failed, or the target may not be built. The message begins with `given`.
    """
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # last, so that no file there hides an installed module
    check_trusted(given, target)
    name, modules = str(target), _only.get()
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # Hydra logs the errors that it raises
    try:
        found = get_method(name)
    except Exception as error:
        raise UserError(f"{given}: cannot be imported ({_why(name, error)})") from None
    origin = f"{getattr(found, '__module__', '')}."
    if modules is not None and not _is_of(origin, modules) and not _is_remembered(name):  # a module may import from anywhere
        raise _refusal(given, modules)
    if modules is None:
        _built.add(name)
    return found


def check_trusted(given: str, target: Any) -> None:
    """Checks a target by its name, without importing it. Raises UserError."""
    name, modules = str(target), _only.get()
    if modules is not None and not _is_of(name, modules) and not _is_remembered(name):
        raise _refusal(given, modules)


def remember_built() -> None:
    """Saves the targets that this command has built, outside all run directories, so that saved runs of the user can build them again."""
    new = sorted(f"{name}\t{origin}" for name in _built if not _is_of(name, TRUSTED) and (origin := _origin(name)))
    if lines := [line for line in new if line not in _remembered()]:
        with suppress(OSError):  # if the home cannot be written, --allow does the same
            file = _file()
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as target:
                target.writelines(f"{line}\n" for line in lines)


def _why(name: str, error: Exception) -> str:
    """Says whether the module is missing, fails on import, or lacks the name."""
    if "." not in name:
        return "give module.Class"
    module, _, last = name.rpartition(".")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as inner:
        if not f"{module}.".startswith(f"{inner.name}."):  # one that the user's module imports
            return cause(inner)
        return f"{cause(inner)}; give module.Class, and stand in the folder that has the module, or name that folder in PYTHONPATH"
    except Exception as inner:
        return cause(inner)
    if hasattr(found, last):
        return cause(error)
    return f"{module} ({getattr(found, '__file__', 'built in')}) has no {last}{nearest(last, vars(found))}"


def _refusal(given: str, modules: Sequence[str]) -> UserError:
    return UserError(f"{given}: not on the list of what a saved config may build ({', '.join(modules)}); --allow MODULE adds to it")


def _is_of(name: str, modules: Sequence[str]) -> bool:
    return name.startswith(tuple(f"{module.rstrip('.')}." for module in modules))


def _is_remembered(name: str) -> bool:
    """True if this target was saved by `remember_built`. Compares its name and the path of its outermost package, since a stranger's may
    share the name.
    """
    return f"{name}\t{_origin(name)}" in _remembered()


def _origin(name: str) -> str | None:
    """Returns the path of the outermost package, without running its code."""
    try:
        spec = importlib.util.find_spec(name.partition(".")[0])
    except (ImportError, ValueError):
        return None
    places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
    return next((os.path.realpath(place) for place in places if place and os.path.exists(place)), None)


def _remembered() -> list[str]:
    with suppress(OSError, UnicodeDecodeError):
        return _file().read_text("utf-8").splitlines()
    return []


def _file() -> Path:
    from platformdirs import user_state_path

    return user_state_path("resnet-lab") / "trusted.txt"
