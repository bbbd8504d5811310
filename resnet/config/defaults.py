"""The defaults lists of config files: which file brings an option in, and which entry of a list is wrong."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from hydra.core.default_element import GroupDefault, InputDefault
from omegaconf.errors import OmegaConfBaseException

from resnet.config.compose import Composer
from resnet.config.errors import UserError
from resnet.config.suggest import nearest


@dataclass(frozen=True)
class Entry:
    """An entry in a file's defaults list. `group` is the group's whole path with its @package, or empty if the entry names only a file."""

    file: str  # without its .yaml
    written: str  # the group or the file, as written in the defaults list
    group: str
    options: tuple[str, ...]  # as paths of files
    is_override: bool


def entries(file: str, composer: Composer, above: tuple[str, ...] = ()) -> Iterator[Entry]:
    """Yields the entries of a file and of the files that it names."""
    loaded = None
    with suppress(UserError, OmegaConfBaseException, ValueError):  # unreadable files are reported elsewhere
        loaded = composer.loader.repository.load_config(file)
    for default in (loaded.defaults_list or ()) if loaded else ():
        if not default.is_self():
            entry = _entry(file, default)
            yield entry
            for option in entry.options:
                if option not in (*above, file):
                    yield from entries(option, composer, (*above, file))


def _entry(file: str, default: InputDefault) -> Entry:
    def whole(path: str) -> str:
        return path[1:] if path.startswith("/") else f"{file.rpartition('/')[0]}/{path}".lstrip("/")

    if not isinstance(default, GroupDefault):
        path = str(getattr(default, "path", ""))
        return Entry(file, path, "", (whole(path),), False)
    group, names = str(default.group), default.value if isinstance(default.value, list) else [default.value]
    key = f"{whole(group)}@{default.package}" if default.package else whole(group)
    return Entry(file, group, key, tuple(f"{whole(group)}/{name}" for name in names if name), bool(default.override))


def wrong_entry(file: str, chosen: Mapping[str, str], composer: Composer) -> str | None:
    """Returns one line for the first wrong entry in this file, or in a file that it names. `chosen`: the option of each group without this
    file.
    """
    found = [entry for entry in entries(file, composer) if entry.group]
    can_override = {*chosen, *(entry.group for entry in found if not entry.is_override)}
    for entry in found:
        if entry.is_override and entry.group not in can_override:
            return _no_such_group(entry, composer)
        if entry.group in chosen and not entry.is_override:
            return given_twice(entry.group)
    return None


def _no_such_group(entry: Entry, composer: Composer) -> str:
    if not entry.written.startswith("/") and composer.is_group(entry.written):
        group = entry.written
        return f"{entry.file}.yaml: override {group}: a group begins with a / in a file's defaults; write override /{group}: OPTION"
    group = entry.written.lstrip("/")
    if composer.is_group(group):
        return f"{entry.file}.yaml: override /{group}: nothing is chosen there that it could replace; write /{group}: OPTION"
    return f"{entry.file}.yaml: override /{group}: there is no such group{nearest(group, composer.groups())}"


def given_twice(group: str) -> str:
    in_file = f"in a file's defaults: override /{group}: OPTION"
    return f"{group}: given twice, or added to what is there; write {group}=OPTION once, without a + ({in_file})"
