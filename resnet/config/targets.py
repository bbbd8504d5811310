"""What a `_target_` names, and whether it may be built: a config that a run directory brought may name no more than is trusted."""

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

from resnet.config.errors import UserError

# What every saved config may build: this package's components and those of torch that are like them.
TRUSTED = (
    *("resnet.models", "resnet.losses", "resnet.distillation", "resnet.metrics", "resnet.data"),
    *("resnet.training.optim", "resnet.training.probes", "resnet.training.profile"),
    *("torch.optim", "torch.nn", "torchvision.models", "torchvision.transforms.v2"),
)
_only: ContextVar[tuple[str, ...] | None] = ContextVar("only", default=None)  # modules; None: whatever the user's own command names
_built: set[str] = set()


@contextmanager
def trusting_only(allowed: Sequence[str]) -> Iterator[None]:
    """Inside, a target is found only where it is of these modules, is trusted, or was built here before by the user's own command."""
    token = _only.set((*TRUSTED, *allowed))
    try:
        yield
    finally:
        _only.reset(token)


def find_target(given: str, target: Any) -> Callable[..., Any]:
    """Imports it; the working directory is on the path.

    Raises:
        UserError: that begins with what was given, whatever the import raised, or where it may not be built.
    """
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # last: no file there takes the place of an installed module
    check_trusted(given, target)
    name, modules = str(target), _only.get()
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it logs what it raises
    try:
        found = get_method(name)
    except Exception as error:
        cause = error.__cause__
        reason = f"{type(cause).__name__}: {cause}" if cause else str(error)
        raise UserError(f"{given}: cannot be imported ({reason.splitlines()[0]}); give module.Class") from None
    origin = f"{getattr(found, '__module__', '')}."
    if modules is not None and not _is_of(origin, modules) and not _is_remembered(name):  # a module's imports lead anywhere
        raise _refusal(given, modules)
    if modules is None:
        _built.add(name)
    return found


def check_trusted(given: str, target: Any) -> None:
    """By its name, without importing it. Raises UserError."""
    name, modules = str(target), _only.get()
    if modules is not None and not _is_of(name, modules) and not _is_remembered(name):
        raise _refusal(given, modules)


def remember_built() -> None:
    """Outside all run directories: what the user's own commands have built may be built again from the runs that they left."""
    new = sorted(f"{name}\t{origin}" for name in _built if not _is_of(name, TRUSTED) and (origin := _origin(name)))
    if lines := [line for line in new if line not in _remembered()]:
        with suppress(OSError):  # a home that cannot be written: --allow then does it
            file = _file()
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as target:
                target.writelines(f"{line}\n" for line in lines)


def _refusal(given: str, modules: Sequence[str]) -> UserError:
    return UserError(f"{given}: not on the list of what a saved config may build ({', '.join(modules)}); --allow MODULE adds to it")


def _is_of(name: str, modules: Sequence[str]) -> bool:
    return name.startswith(tuple(f"{module.rstrip('.')}." for module in modules))


def _is_remembered(name: str) -> bool:
    """By its name and the file of its outermost package: another one of that name, in another folder, is a stranger's."""
    return f"{name}\t{_origin(name)}" in _remembered()


def _origin(name: str) -> str | None:
    """Found without running any of it."""
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
