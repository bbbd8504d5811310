"""Finds the nearest valid word for a wrong one."""

import difflib
import re
from collections.abc import Collection, Iterable
from typing import Any

from resnet.config.words import ADVICE, OPTIONS, OURS

# Quotes, dashes and spaces as web pages print them, and the keyboard's equivalents.
TYPOGRAPHIC = {**dict.fromkeys("\u201c\u201d\u201e", '"'), **dict.fromkeys("\u2018\u2019", "'")}
TYPOGRAPHIC |= {"\u2013": "-", "\u2212": "-", "\u2014": "--", "\u00a0": "a plain space"}


def nearest(word: Any, choices: Iterable[Any]) -> str:
    """Returns ` (did you mean X?)` if a choice is near the word, else an empty string."""
    near = near_choice(str(word), map(str, choices))
    return f" (did you mean {near}?)" if near else ""


def near_choice(word: str, choices: Iterable[str]) -> str | None:
    """Returns the choice near the word, if any. Ignores case and hyphens; a word may also continue a choice (CosineAnnealingLR is
    cosine)."""
    choices = list(choices)
    plain = {as_one_word(name): choice for choice in choices for name in (choice.rpartition("/")[2], choice)}  # he2015/resnet20
    wanted = as_one_word(word.removesuffix(".yaml").rpartition("/")[2] or word)
    ours = as_one_word(OPTIONS.get(wanted, wanted))
    wanted = ours if wanted not in plain and ours in plain else wanted
    near = [wanted] if wanted in plain else difflib.get_close_matches(wanted, plain, n=1, cutoff=0.7)
    near = near or [choice for choice in plain if len(choice) >= 4 and wanted.startswith(choice)]
    return plain[near[0]] if near else None


def unknown_key(word: str, keys: Iterable[str]) -> str:
    """Completes a message after the name of a key that does not exist: the key that was meant, or what to do instead."""
    known = sorted(keys)
    near = _near_key(word, known)
    if not near and (advice := ADVICE.get(_last(word))):
        return f"unknown key; {advice}"
    group = word.rpartition(".")[0]
    if not near and (of_group := {_last(key): key for key in known if group and key.rpartition(".")[0] == group}):
        near = _alike(_last(word), of_group, 0.6)
        if not near:
            return f"unknown key; {group} has {', '.join(of_group)}"
    near = near or _alike(word, {key: key for key in known}, 0.7) or _alike(_last(word), {_last(key): key for key in known}, 0.8)
    return f"unknown key (did you mean {near}?)" if near else "unknown key; python train.py --help lists those that there are"


def _alike(word: str, keys: dict[str, str], share: float) -> str | None:
    near = difflib.get_close_matches(word, keys, n=1, cutoff=share)
    return keys[near[0]] if near else None


def _near_key(word: str, known: list[str]) -> str | None:
    """Finds a key by fixed rules: other case, another program's word, a missing or wrong group, a group's name or type."""
    group, _, last = word.lower().rpartition(".")
    if same := [key for key in known if key.lower() == word.lower() and key != word]:
        return same[0]
    if group in known and last in ("name", "type", "class", "target", "_name_"):
        return f"{group}=NAME"
    ours = OURS.get(_last(word))
    if ours and (ours.startswith("hydra") or (ours in known and not group.startswith("hydra"))):
        return ours
    shared = [key for key in known if key != word and _last(key) == _last(word)]
    return shared[0] if shared else None


def a_word(word: str, options: dict[str, list[str]], keys: Collection[str]) -> str:
    """Completes a message after a word that is not key=value. `options`: the options of each group."""
    if advice := ADVICE.get(word.lower()):
        return advice
    for group, names in options.items():
        for name in names:
            if as_one_word(name) == as_one_word(word) and group != "hydra":
                return f"did you mean {group}={name}?"
    key = OURS.get(word.lower(), word)
    if key in keys:
        return f"it has no value; write {key}=VALUE, without spaces around the ="
    if re.fullmatch(r"[-+\d.,e\]]+|=", word):
        return "it has no key; write key=value, without spaces around the = and after a comma"
    return "cannot be read; write key=value, and quote what your shell would change, like 'model.layers=[3,3,3]'"


def typographic(text: str) -> str | None:
    """Says what to type instead of a typographic mark that was copied from a page. Returns None if there is none."""
    found = [mark for mark in TYPOGRAPHIC if mark in text]
    return f"it has a {found[0]} as web pages print it; type {TYPOGRAPHIC[found[0]]} instead" if found else None


def as_one_word(word: str) -> str:
    """Removes case, hyphens, underscores and spaces."""
    return re.sub(r"[-_ ]", "", word.lower())


def _last(word: str) -> str:
    return word.rpartition(".")[2].lower().replace("-", "_")
