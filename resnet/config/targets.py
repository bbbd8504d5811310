"""What a `_target_` names."""

import logging
from collections.abc import Callable
from typing import Any

from hydra.utils import get_method

from resnet.config.errors import UserError


def find_target(given: str, target: Any) -> Callable[..., Any]:
    """Raises UserError that begins with what was given, whatever the import raised."""
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it logs what it raises
    try:
        return get_method(str(target))
    except Exception as error:
        cause = error.__cause__
        reason = f"{type(cause).__name__}: {cause}" if cause else str(error)
        raise UserError(f"{given}: cannot be imported ({reason.splitlines()[0]}); give module.Class") from None
