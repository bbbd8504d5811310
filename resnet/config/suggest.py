"""The nearest right word for a wrong one."""

import difflib
from collections.abc import Iterable
from typing import Any


def nearest(word: Any, choices: Iterable[Any]) -> str:
    """` (did you mean X?)` where one of the choices is near the word, else nothing."""
    choices = [str(choice) for choice in choices]
    near = difflib.get_close_matches(str(word), choices, n=1, cutoff=0.7)
    if not near:  # a key given without its group: layers for model.layers
        near = [choice for choice in choices if choice.rsplit(".", 1)[-1] == str(word).rsplit(".", 1)[-1]][:1]
    return f" (did you mean {near[0]}?)" if near else ""
