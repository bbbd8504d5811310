"""Callbacks: code of one's own at four named places of the training loop; in the config a dict of components."""

import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet.data import DataSet
from resnet.record.directory import RunDirectory
from resnet.record.trackers import reason
from resnet.training.learner import Learner

if TYPE_CHECKING:
    from resnet.training.loop import Plan

Values = Mapping[str, float]


class CallbackError(Exception):
    """One line: the callback, the place, and what it raised."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a callback may look at. Every process of a run calls its callbacks; files are written by the first alone."""

    learner: Learner  # bare_model: what is trained; weights: what is evaluated and kept; lr; fabric; bare_optimizer
    data: DataSet
    plan: "Plan"
    directory: RunDirectory
    title: str  # the model and the device, in words
    name: str = ""  # of the callback, in the config

    @property
    def is_first(self) -> bool:
        """Whether this process writes files."""
        return self.learner.fabric.is_global_zero

    @property
    def folder(self) -> Path:
        """For files of its own, callbacks/NAME in the run directory; it is made where it is asked for."""
        folder = self.directory.path / "callbacks" / self.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


class Callback:
    """Each method may be left out. What raises fails the run, and the run says which callback it was.

    Values are numbers under names of `columns`, which metrics.csv gets beside its own; `columns` is read after `start`.
    """

    columns: Sequence[str] = ()
    warning = ""  # said where it fails, with {} for why, and the run goes on without it; empty: the run fails

    def start(self, context: Context) -> None:
        """Before anything is written; where a run goes on, before its state is loaded."""

    def before_step(self, step: int) -> None:
        """`step` counts from 1."""

    def after_step(self, step: int) -> Values | None:
        """Gradients are gone by then; values are recorded for this step."""

    def evaluation(self, step: int, metrics: Values) -> Values | None:
        """After each evaluation, before the checkpoint; `metrics` are those that are recorded with it."""

    def end(self, is_finished: bool) -> None:
        """After the test, with the weights that are kept; or not finished: the run failed or was interrupted."""

    def state(self) -> dict[str, Any]:
        """Plain containers of tensors and numbers, which each checkpoint keeps."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse, after `start`."""


class Callbacks:
    """All of a run, called in their order."""

    def __init__(self, callbacks: Mapping[str, Callback], warn: Callable[[str], None]) -> None:
        self.callbacks, self.warn = dict(callbacks), warn

    def start(self, make_context: Callable[[str], Context]) -> None:
        for name, one in self._all():
            self._call(name, one, "start", make_context(name))

    def columns(self, taken: Iterable[str]) -> list[str]:
        """Raises CallbackError where a name is taken."""
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
        """Of those that have any."""
        return {name: state for name, one in self._all() if (state := self._call(name, one, "state"))}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """One that was added since starts anew."""
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
        except Exception as error:  # of the user's code: whatever it is
            if one.warning:
                del self.callbacks[name]
                return self.warn(one.warning.format(reason(error)))
            raise CallbackError(f"callbacks.{name}: {type(one).__name__}.{method}: {reason(error)}{_line(error, one)}") from error


def _line(error: Exception, one: Callback) -> str:
    """Where in the callback's own file."""
    file = sys.modules[type(one).__module__].__file__
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" ({Path(file).name}, line {lines[-1]})" if file and lines else ""


def _numbers(one: Callback, values: Values | None) -> dict[str, float]:
    """Raises ValueError at a name that is no column of its own, TypeError at a value that is no number."""
    if strange := [name for name in values or {} if name not in one.columns]:
        raise ValueError(f"the value {strange[0]} is not among its columns ({', '.join(one.columns) or 'it has none'})")
    return {name: float(value) for name, value in (values or {}).items()}
