"""Decides whether a config may start in a directory: the directory is free, holds the same run, or is refused and left untouched."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from resnet.config import Config, UserError, config_hash, differing_keys, load_config
from resnet.config.errors import RunBusy
from resnet.config.hashing import FILES
from resnet.record.content import Made, data_digest, other_code, other_data, other_teacher, other_weights, teacher_digest, weights_digest
from resnet.record.directory import FINISHED, LAST, RUNNING, RunDirectory, shortest
from resnet.record.reading import Unreadable

LENGTH = {"epochs", "max_steps"}
OTHER_CODE = (
    "it is finished, and its code has changed since ({}); sweep.on_code_change=keep counts it as it is, sweep.on_code_change=rerun trains "
    "it again and keeps the old run beside the sweep, another sweep.name=... starts anew"
)


@dataclass(frozen=True)
class ExistingRun:
    """The run that a directory already holds for a config."""

    summary: dict[str, Any] | None  # None: no run yet
    extended: list[str]  # like `epochs: 3 -> 5`, if the run is to be extended
    other_code: list[str] = field(default_factory=list)  # modules that have changed since
    notes: list[str] = field(default_factory=list)  # further messages about the run

    @property
    def is_finished(self) -> bool:
        return self.summary is not None and self.summary["status"] == FINISHED and not self.extended


def examine(directory: RunDirectory, config: Config, needs_length: bool, restart: str, made_of: Callable[[], Made]) -> ExistingRun:
    """Compares a config with the run in its directory. `needs_length`: the schedule depends on the length of the run. `restart`: the
    command that starts a new run from its weights.

    `made_of` returns what the config's run would be made of now; it is only called if there is a run to compare with.

    Raises:
        UserError: the directory holds something else, or is being written.
    """
    path = shortest(directory.path)
    if not directory.exists:
        if not directory.is_free:
            raise UserError(f"{path}: it is there and holds no run; choose another name=..., or take it away")
        return ExistingRun(None, [])
    saved_config, summary = _read(directory, path)
    changes = differing_keys(saved_config, config) if config_hash(saved_config) != config_hash(config) else {}
    renamed = [
        key for key in FILES if None not in changes.get(key, [None]) and _is_known(key, summary)
    ]  # a digest of its content tells if it is the same
    for key in renamed:
        del changes[key]
    in_words = [f"{key}: {before} -> {now}" for key, (before, now) in changes.items()]
    is_longer = changes.keys() <= LENGTH and all(_raised(*change) for change in changes.values())
    if not is_longer:
        raise UserError(f"{path}: it holds a run with another config ({'; '.join(in_words)}); choose another name=..., nothing was touched")
    if changes and needs_length:
        raise UserError(
            f"{path}: {'; '.join(in_words)}: its schedule was laid out for the length that it has; a new run from its weights: {restart}"
        )
    if summary["status"] == RUNNING and directory.is_held_elsewhere:
        raise RunBusy(path)
    return _compared(directory, ExistingRun(summary, in_words), made_of, is_moved=bool(renamed))


def _compared(directory: RunDirectory, existing: ExistingRun, made_of: Callable[[], Made], is_moved: bool) -> ExistingRun:
    assert existing.summary is not None
    try:
        now = made_of()
    except UserError as error:
        if is_moved or not existing.is_finished:
            raise
        return replace(existing, notes=[f"its data could not be compared ({error})"])
    try:
        notes = check_content(directory, existing.summary, now, goes_on=not existing.is_finished)
    except UserError as error:
        raise UserError(f"{shortest(directory.path)}: {error}, nothing was touched") from None
    return replace(existing, other_code=other_code(existing.summary, now), notes=notes)


def check_content(directory: RunDirectory, summary: Made, now: Made, goes_on: bool) -> list[str]:
    """Returns messages about a run that may go on. Raises UserError if it was made from something else."""
    changed, weights = [*other_data(summary, now), *filter(None, [other_teacher(summary, now)])], other_weights(summary, now)
    if weights and not changed and goes_on and (directory / LAST).exists():
        return [f"{weights}: it goes on from its own checkpoint"]
    if in_words := "; ".join(filter(None, [*changed, weights])):
        raise UserError(
            f"its data have changed since it was trained ({in_words}); put the old ones back, or start anew under another name=... "
            "(of a sweep: sweep.name=...)"
        )
    return []


def _is_known(key: str, summary: dict[str, Any]) -> bool:
    return bool({"data.path": data_digest, "model.weights": weights_digest, "loss.teacher": teacher_digest}[key](summary))


def _read(directory: RunDirectory, path: str) -> tuple[Config, dict[str, Any]]:
    try:
        return load_config(directory.config), directory.summary
    except Unreadable as error:
        raise UserError(f"{error}; put a good copy back, or move {path} away and the run starts anew; nothing was touched") from None


def _raised(before: int | None, now: int | None) -> bool:
    return before is not None and (now is None or now > before)
