"""Finds which runs were trained on the same data and initial weights: by their content, whatever path their configs give."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from resnet.analysis.naming import is_ignored
from resnet.analysis.runs import Run
from resnet.config.hashing import real_path
from resnet.record.content import Made, module_digests, set_digest, short, teacher_digest, weights_digest

# The key of a path, a key that tells its contents apart, and a function that returns the digest of its content for a run.
FILES: tuple[tuple[str, str, Callable[[Made], str | None]], ...] = (
    ("data.path", "data.digest", set_digest),
    ("model.weights", "model.weights_digest", weights_digest),
    ("loss.teacher", "loss.teacher_digest", teacher_digest),
)


def alike(runs: Sequence[Run]) -> list[Run]:
    """Gives the same content the same path in all runs. If the same settings stood for several contents, adds a key that tells them apart.

    A run without a digest gets the content that its settings stand for in other runs, if there is only one.
    """
    for path, key, digest in FILES:
        paths: dict[str, Any] = {}  # by content, as its first run writes the path
        held: dict[str, set[str]] = defaultdict(set)  # contents by settings
        for run in runs:
            if own := digest(run.summary):
                paths.setdefault(own, run.config.get(path))
                held[_settings(run, path)].add(own)
        ambiguous = set().union(*(contents for contents in held.values() if len(contents) > 1))
        runs = [_named(run, path, key, digest(run.summary), held[_settings(run, path)], paths, ambiguous) for run in runs]
    return list(runs)


def _named(run: Run, path: str, key: str, own: str | None, held: set[str], paths: dict[str, Any], ambiguous: set[str]) -> Run:
    content = own or (next(iter(held)) if len(held) == 1 else None)
    config = dict(run.config)
    if path in config and (content or held):
        config[path] = paths[content or min(held)]
    if content in ambiguous or len(held) > 1:
        config[key] = short(content) if content else "unknown"
    return replace(run, config=config)


def _settings(run: Run, path: str) -> str:
    """Returns the settings of the path's group, whatever way the path is written."""
    group = path.partition(".")[0]
    settings = {key: value for key, value in run.config.items() if key.startswith(f"{group}.") and not is_ignored(key)}
    return json.dumps({**settings, path: real_path(settings.get(path))}, sort_keys=True)


def unlike(runs: Sequence[Run]) -> list[str]:
    """Returns what makes these runs hard to compare: they were, or may have been, made from different data or code."""
    notes = [f"the same {path} held different content in turn: {key} tells it apart" for path, key, _ in FILES if _is_told(runs, key)]
    unknown = sum(set_digest(run.summary) is None for run in runs)
    if 0 < unknown < len(runs):
        notes.append(f"{unknown} of {len(runs)} runs do not say what their data were: they count to those of the same settings")
    modules: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        for made in (run.summary, *({"code": {"modules": session.get("code")}} for session in run.summary.get("sessions", []))):
            for name, value in module_digests(made).items():
                modules[name].add(value)
    if changed := sorted(name for name, values in modules.items() if len(values) > 1):
        notes.append(f"different code: {', '.join(changed)}")
    return notes


def _is_told(runs: Sequence[Run], key: str) -> bool:
    return any(key in run.config for run in runs)
