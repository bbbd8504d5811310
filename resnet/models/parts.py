"""Finds the parts of a network by a built-in name, `module.Class`, or a mapping with a `_target_` and its settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from resnet.config.components import as_component
from resnet.config.errors import UserError, cause
from resnet.config.targets import find_target


@dataclass(frozen=True)
class Part:
    """Makes a part with its settings. `given` begins the lines of its mistakes: `model.block=lab.SEBlock`."""

    given: str
    func: Callable[..., Any]
    settings: Mapping[str, Any]

    def __call__(self, *arguments: Any) -> Any:
        """Returns a module, or None if there is no such part, as in a plain network. Raises UserError."""
        try:
            made = self.func(*arguments, **self.settings)
        except (UserError, MemoryError):
            raise
        except Exception as error:  # foreign code may raise anything
            raise UserError(f"{self.given}: {cause(error)}") from None
        if not isinstance(made, nn.Module | None):
            raise UserError(f"{self.given}: it gives a {type(made).__name__}; a torch.nn.Module is needed")
        return made


def find_part(key: str, value: Any, known: Mapping[str, str]) -> Part:
    """Raises UserError if there is no such part."""
    settings = as_component(f"model.{key}", value, known)
    target = settings.pop("_target_")
    given = f"model.{key}={target}"
    return Part(given, find_target(given, target), settings)
