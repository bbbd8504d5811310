"""The conditions of `compare --filter`, like `lr>0.1 optimizer=sgd`."""

import operator
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import yaml

from resnet.analysis.naming import text_of
from resnet.analysis.runs import MISSING, Run
from resnet.config import UserError
from resnet.config.suggest import nearest

CONDITION = re.compile(r"([\w.]+)(<=|>=|!=|=|<|>)(.+)")


def _same(value: Any, wanted: Any) -> bool:
    """True if the values are equal as tables show them, where numbers are rounded."""
    return value == wanted or text_of(value) == text_of(wanted)


OPERATORS = {
    "=": _same,
    "!=": lambda value, wanted: not _same(value, wanted),
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


def filter_runs(runs: Sequence[Run], conditions: str) -> list[Run]:
    """Returns the runs that meet all conditions, like `lr>0.1 optimizer=sgd`. Raises UserError if a condition is unreadable or no run has
    its key.
    """
    selected = list(runs)
    for text in re.sub(r",\s+", ",", conditions).split():
        match = CONDITION.fullmatch(text)
        if match is None:
            raise UserError(f"filter {text}: cannot be read; write KEY=VALUE, with one of {' '.join(OPERATORS)}")
        key, sign, wanted = match[1], match[2], _value(match[3], text)
        check_known(key, f"filter {text}", runs)
        selected = [run for run in selected if _meets(run.setting(key), OPERATORS[sign], wanted)]
    return selected


def _value(text: str, condition: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # an invalid date or number, or thousands of brackets
        raise UserError(f"filter {condition}: {text} is no value; write a number, a word, or a list like [2,2,2]") from None
    with suppress(ValueError):  # YAML reads 1e-3 as text
        return float(value) if isinstance(value, str) else value
    return value


def _meets(value: Any, holds: Callable[[Any, Any], bool], wanted: Any) -> bool:
    try:
        return holds(value, wanted)
    except TypeError:  # null, or text compared with a number
        return False


def check_known(key: str, asked: str, runs: Sequence[Run]) -> None:
    if all(run.setting(key) is MISSING for run in runs):
        known = sorted({name for run in runs for name in run.config})
        raise UserError(f"{asked}: no run has the key {key}{nearest(key, known)}")
