"""Which runs were trained on the same: told by what their data and first weights held, whatever path their configs give."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from resnet.analysis.naming import is_ignored
from resnet.analysis.runs import Run
from resnet.config.hashing import real_path
from resnet.record.content import Made, data_digest, module_digests, short, teacher_digest, weights_digest

# The key of a path, a key that tells apart what it held in turn, and the digest of what it held for a run.
FILES: tuple[tuple[str, str, Callable[[Made], str | None]], ...] = (
    ("data.path", "data.digest", data_digest),
    ("model.weights", "model.weights_digest", weights_digest),
    ("loss.teacher", "loss.teacher_digest", teacher_digest),
)


def alike(runs: Sequence[Run]) -> list[Run]:
    """With one path for one content; and, where the same settings stood for several contents, a key more that tells them apart.

    A run that knows no digest counts to the only content that its settings are known to have stood for.
    """
    for path, key, digest in FILES:
        paths: dict[str, Any] = {}  # of each content, as the first run writes it
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
    """What the path's group is set to, but for how the path is written."""
    group = path.partition(".")[0]
    settings = {key: value for key, value in run.config.items() if key.startswith(f"{group}.") and not is_ignored(key)}
    return json.dumps({**settings, path: real_path(settings.get(path))}, sort_keys=True)


def unlike(runs: Sequence[Run]) -> list[str]:
    """What makes these runs hard to compare: they were made of different things, or may have been."""
    notes = [f"the same {path} held different content in turn: {key} tells it apart" for path, key, _ in FILES if _is_told(runs, key)]
    unknown = sum(data_digest(run.summary) is None for run in runs)
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
