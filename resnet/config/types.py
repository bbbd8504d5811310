"""Names types in words, for messages that say what is needed."""

import types
import typing
from typing import Any

NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", list: "a list"}


def in_words(kind: Any) -> str | None:
    """Returns None if any value is allowed."""
    optional = isinstance(kind, types.UnionType)
    kind = typing.get_args(kind)[0] if optional else kind
    wanted = NAMES.get(typing.get_origin(kind) or kind)
    return f"{wanted}, or null," if wanted and optional else wanted
