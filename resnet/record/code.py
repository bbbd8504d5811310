"""The code that takes part in a run: a digest of each module that is not installed, and how it differs from the last commit."""

import hashlib
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from resnet.config.checks import secrets

PACKAGE = Path(__file__).resolve().parents[1]
DECIDES = (
    "build.py",
    "build_model.py",
    "make.py",
    "data",
    "models",
    "training",
)  # what a result depends on in this package: the rest launches, records and shows
INSTALLED = re.compile(r"[\\/](site|dist)-packages[\\/]")
LARGEST = 1_000_000  # bytes of a patch
MOST_READ = 4 * LARGEST  # of what git prints
OPTIONS = ("--no-color", "--no-ext-diff", "--no-textconv", "--ignore-submodules", "--src-prefix=a/", "--dst-prefix=b/")
# What git sets for a hook or for `git rebase --exec`: it would name that repository, wherever the folder lies.
ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX")
STUDIES = ":(top,exclude)experiments"  # which write their results there while they run


@dataclass(frozen=True)
class Code:
    modules: dict[str, str]  # sha256 by name; this package is one of them
    commit: dict[str, Any] | None  # of this package: its sha, and whether any code that takes part differs from it; None: no checkout
    patch: bytes  # the difference


def read_code() -> Code:
    """Of the modules that are imported by now."""
    imported = own_modules()
    sha, patch = _changes(tuple(imported.items()))
    return Code(module_digests(), {"sha": sha, "dirty": bool(patch)} if sha else None, patch)


def module_digests() -> dict[str, str]:
    """By name, each as it was when it was first asked for: a process that runs many jobs does not notice later edits."""
    own = "".join(_digest(path) for part in DECIDES for path in _sources(PACKAGE / part))
    return {PACKAGE.name: hashlib.sha256(own.encode()).hexdigest(), **{name: _digest(path) for name, path in own_modules().items()}}


def own_modules() -> dict[str, Path]:
    """The user's: imported, and neither installed nor of this package."""
    found = {}
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__dict__", {}).get("__file__")  # not by getattr, which may import what a lazy module stands for
        if isinstance(file, str) and name.partition(".")[0] not in (PACKAGE.name, "__main__", "__mp_main__") and (path := _own(file)):
            found[name] = path
    return found


@cache
def _own(file: str) -> Path | None:
    """Where a module lies that is not installed."""
    if _is_installed(os.path.abspath(file)):
        return None
    path = Path(file).resolve()
    path = next((place for place in (path, *path.parents) if place.is_file()), path)  # of what lies in a .zip, that
    return path if path.is_file() and not _is_installed(str(path)) else None


def _sources(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_installed(path: str) -> bool:
    return bool(INSTALLED.search(path)) or path.startswith(_standard_library())


@cache
def _standard_library() -> tuple[str, ...]:
    folders = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), os.path.join(sys.base_prefix, "DLLs")]
    return tuple(os.path.join(place, "") for folder in folders for place in (os.path.abspath(folder), os.path.realpath(folder)))


@cache
def _changes(modules: tuple[tuple[str, Path], ...]) -> tuple[str | None, bytes]:
    """The commit of this package, and a patch from the commits of all that takes part: changes, then modules that are in no commit."""
    own = _repository(PACKAGE)
    files = {own: list(_imported_sources())} if own else {}
    found = {folder: _repository(folder) for folder in {path.parent for _, path in modules}}  # each: one may lie in another, as a submodule
    loose = {}  # modules in no repository, by the name that they are imported by
    for name, path in modules:
        if repository := found[path.parent]:
            files.setdefault(repository, []).append(path)
        else:
            loose[_imported_as(name, path)] = path
    parts = list(_new_files(loose))
    for repository, taking_part in files.items():
        parts += _difference(*repository, taking_part, has_studies=repository == own)
    return own and own[1], _without_secrets(_bounded(parts))


def _imported_sources() -> Iterator[Path]:
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] == PACKAGE.name and (file := getattr(module, "__file__", None)):
            yield Path(file).resolve()


def _imported_as(name: str, path: Path) -> str:
    """`a.b` -> a/b.py, or a/b/__init__.py: where it would lie in a folder that Python finds modules in."""
    depth = name.count(".") + (2 if path.stem == "__init__" else 1)
    return "/".join(path.parts[-depth:])


def _repository(folder: Path) -> tuple[Path, str] | None:
    """The root of the checkout that holds a folder, and its commit; what is installed in a checkout is none of it."""
    if _is_installed(str(folder)):
        return None
    try:
        root, sha = os.fsdecode(_git(folder, "rev-parse", "--show-toplevel", "HEAD")).splitlines()
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None
    return Path(root), sha


def _difference(root: Path, sha: str, files: Sequence[Path], has_studies: bool) -> Iterator[bytes]:
    try:
        untracked = os.fsdecode(_git(root, "ls-files", "--others", "-z", "--", *map(str, files))).split("\0") if files else []
        changes = _git(root, "diff", "HEAD", *OPTIONS, "--", ":(top)", *([STUDIES] if has_studies else []))
    except (OSError, subprocess.CalledProcessError):  # a damaged index, a filter that is not installed: it is not known to be the commit
        yield os.fsencode(f"# left out: how {root.name} differs from commit {sha}, which git could not tell\n")
        return
    changed = re.split(rb"(?m)^(?=diff --git )", changes)
    if len(changes) == MOST_READ:
        changed[-1] = b"# left out: all further changes, which are too many\n"
    parts = [*_new_files({name: root / name for name in untracked if (root / name).is_file()}), *changed]
    if any(parts):
        yield os.fsencode(f"# from commit {sha} of {root.name}\n")
        yield from parts


def _git(folder: Path, *arguments: str) -> bytes:
    """What git prints, no more of it than MOST_READ."""
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        assert process.stdout is not None
        output = process.stdout.read(MOST_READ)
        if len(output) == MOST_READ:
            process.kill()
            return output
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return output


def _new_files(files: Mapping[str, Path]) -> Iterator[bytes]:
    """Each as git shows a file that is new."""
    for name, path in sorted(files.items()):
        content = path.read_bytes()
        if b"\0" in content:
            yield os.fsencode(f"# left out: {name}, which is no text\n")
            continue
        lines = re.findall(rb"[^\n]*\n|[^\n]+", content)
        head = f"diff --git a/{name} b/{name}\nnew file mode 100644\n"
        if lines:
            head += f"--- /dev/null\n+++ b/{name}\n@@ -0,0 +1,{len(lines)} @@\n"
        end = b"" if not lines or lines[-1].endswith(b"\n") else b"\n\\ No newline at end of file\n"
        yield os.fsencode(head) + b"".join(b"+" + line for line in lines) + end


def _bounded(parts: Sequence[bytes]) -> bytes:
    """The files' parts that fit, and the names of the others."""
    parts_kept, size = [], 0
    for part in parts:
        if re.search(rb"(?m)^Binary files ", part) or size + len(part) > LARGEST:
            part = b"# left out, as it is too large or no text: " + part.split(b"\n", 1)[0][:500] + b"\n"
        parts_kept.append(part)
        size += len(part)
    return b"".join(parts_kept)


def _without_secrets(patch: bytes) -> bytes:
    for value, name in secrets().items():
        patch = patch.replace(value.encode(), f"[the value of {name}]".encode())
    return patch
