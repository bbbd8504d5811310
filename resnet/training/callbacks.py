"""Callbacks: the user's own code at named places of the training loop. In the config they are a dict of components."""

import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from resnet.data import DataSet
from resnet.record.directory import CALLBACKS, RunDirectory
from resnet.record.trackers import reason
from resnet.training.learner import Learner

if TYPE_CHECKING:
    from resnet.training.loop import Plan

Values = Mapping[str, float]


class CallbackError(Exception):
    """A callback failed. The message is one line: the callback, the method, and what it raised."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a callback may read. Every process of a run calls its callbacks; only the first process writes files."""

    learner: Learner  # bare_model is trained; weights is evaluated and saved; also lr, fabric, bare_optimizer
    data: DataSet
    plan: "Plan"
    directory: RunDirectory
    title: str  # describes the model and the device
    name: str = ""  # the callback's name in the config

    @property
    def is_first(self) -> bool:
        """True if this process writes files."""
        return self.learner.fabric.is_global_zero

    @property
    def folder(self) -> Path:
        """The callback's own folder, callbacks/NAME in the run directory. It is made on first use."""
        folder = self.directory / CALLBACKS / self.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


class Callback:
    """The base class of callbacks; every method is optional. An exception in a method fails the run, and the message names the callback.

    Returned values are numbers under names from `columns`. metrics.csv gets these columns besides its own. `columns` is read after `start`.
    """

    columns: Sequence[str] = ()
    warning = ""  # if set, a failure prints this, with the reason in place of {}, and the run goes on without the callback

    def start(self, context: Context) -> None:
        """Called before anything is written, and before the state is loaded if the run resumes."""

    def before_step(self, step: int) -> None:
        """Called before each optimizer step; `step` counts from 1."""

    def after_step(self, step: int) -> Values | None:
        """Called after each optimizer step, when gradients are already cleared. The returned values are recorded for this step."""

    def evaluation(self, step: int, metrics: Values) -> Values | None:
        """Called after each evaluation and before the checkpoint; `metrics` are recorded with it."""

    def end(self, is_finished: bool) -> None:
        """Called after the test, with the saved weights; or with is_finished=False if the run failed or was interrupted."""

    def state(self) -> dict[str, Any]:
        """Returns the state to keep in each checkpoint: plain containers of tensors and numbers."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores what `state` returned; called after `start`."""


class Callbacks:
    """All callbacks of a run, called in their order."""

    def __init__(self, callbacks: Mapping[str, Callback], warn: Callable[[str], None]) -> None:
        self.callbacks, self.warn = dict(callbacks), warn

    def start(self, make_context: Callable[[str], Context]) -> None:
        for name, one in self._all():
            self._call(name, one, "start", make_context(name))

    def columns(self, taken: Iterable[str]) -> list[str]:
        """Returns the columns of all callbacks. Raises CallbackError if a name is already taken."""
        found: list[str] = []
        for name, one in self._all():
            own = list(one.columns)
            if twice := sorted({column for column in own if column in (*taken, *found) or own.count(column) > 1}):
                raise CallbackError(f"callbacks.{name}: the column {twice[0]} is taken; give it another name")
            found += own
        return found

    def before_step(self, step: int) -> None:
        for name, one in self._all():
            self._call(name, one, "before_step", step)

    def after_step(self, step: int) -> dict[str, float]:
        return self._values("after_step", step)

    def evaluation(self, step: int, metrics: Values) -> dict[str, float]:
        return self._values("evaluation", step, dict(metrics))

    def end(self, is_finished: bool) -> None:
        for name, one in self._all():
            self._call(name, one, "end", is_finished)

    def state(self) -> dict[str, Any]:
        """Returns the states of the callbacks that have one."""
        return {name: state for name, one in self._all() if (state := self._call(name, one, "state", checked=_plain_state))}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores the states. A callback that was added later starts without one."""
        for name, one in self._all():
            if name in state:
                self._call(name, one, "load_state", state[name])

    def _all(self) -> list[tuple[str, Callback]]:
        return list(self.callbacks.items())

    def _values(self, method: str, *arguments: Any) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, one in self._all():
            found |= self._call(name, one, method, *arguments, checked=partial(_numbers, one)) or {}
        return found

    def _call(self, name: str, one: Callback, method: str, *arguments: Any, checked: Callable[[Any], Any] = lambda result: result) -> Any:
        try:
            return checked(getattr(one, method)(*arguments))
        except Exception as error:  # the user's code may raise anything
            if one.warning:
                del self.callbacks[name]
                return self.warn(one.warning.format(reason(error)))
            raise CallbackError(f"callbacks.{name}: {type(one).__name__}.{method}: {reason(error)}{_line(error, one)}") from error


def _plain_state(state: Any) -> Any:
    """Raises TypeError for a state that a checkpoint cannot keep, because reading it again would run code."""
    if not isinstance(state, dict):
        raise TypeError(f"it gives a {type(state).__name__}; a dict is needed")
    _check_plain(state, "the state")
    return state


def _check_plain(value: Any, name: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _check_plain(key, f"a key of {name}")
            _check_plain(item, str(key))
    elif type(value) in (list, tuple):
        for item in value:
            _check_plain(item, name)
    elif not isinstance(value, Tensor) and type(value) not in (bool, int, float, str, bytes, type(None)):
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise TypeError(f"{name} is a {kind}; only tensors, numbers, text, lists and dicts are kept")


def _line(error: Exception, one: Callback) -> str:
    """Returns the file and line of the error if it is in the callback's own file."""
    file = getattr(sys.modules.get(type(one).__module__), "__file__", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" ({Path(file).name}, line {lines[-1]})" if file and lines else ""


def _numbers(one: Callback, values: Values | None) -> dict[str, float]:
    """Converts values to floats. Raises ValueError for a name that is not among the callback's columns, TypeError for a value that is no
    number.
    """
    if strange := [name for name in values or {} if name not in one.columns]:
        raise ValueError(f"the value {strange[0]} is not among its columns ({', '.join(one.columns) or 'it has none'})")
    return {name: float(value) for name, value in (values or {}).items()}
