"""The code behind a run: a digest of each module that is not installed, and how the code differs from the last commit."""

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
# The parts of this package that affect a result; the rest launches, records and shows.
DECIDES = ("build.py", "build_model.py", "make.py", "losses.py", "metrics.py", "distillation.py", "data", "models", "training")
INSTALLED = re.compile(r"[\\/](site|dist)-packages[\\/]")
LARGEST = 1_000_000  # bytes of a patch
MOST_READ = 4 * LARGEST  # most bytes read from git
OPTIONS = ("--no-color", "--no-ext-diff", "--no-textconv", "--ignore-submodules", "--src-prefix=a/", "--dst-prefix=b/")
# Git sets these for hooks and for `git rebase --exec`. They would name that repository, whatever the folder.
ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX")
STUDIES = ":(top,exclude)experiments"  # studies write their results there while they run


@dataclass(frozen=True)
class Code:
    modules: dict[str, str]  # sha256 by module name; this package is one of them
    commit: dict[str, Any] | None  # sha of this package's commit, and whether the code differs; None: no checkout
    patch: bytes  # the difference


def read_code() -> Code:
    """Reads the code of all modules that are imported so far."""
    imported = own_modules()
    sha, patch = _changes(tuple(imported.items()))
    return Code(module_digests(), {"sha": sha, "dirty": bool(patch)} if sha else None, patch)


def module_digests() -> dict[str, str]:
    """Returns a digest per module name, cached at the first request: a process that runs many jobs does not notice later edits."""
    own = "".join(_digest(path) for part in DECIDES for path in _sources(PACKAGE / part))
    return {PACKAGE.name: hashlib.sha256(own.encode()).hexdigest(), **{name: _digest(path) for name, path in own_modules().items()}}


def own_modules() -> dict[str, Path]:
    """Returns the user's modules: those that are imported, not installed, and not part of this package."""
    found = {}
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__dict__", {}).get("__file__")  # not getattr on the module: it may trigger a lazy import
        if isinstance(file, str) and name.partition(".")[0] not in (PACKAGE.name, "__main__", "__mp_main__") and (path := _own(file)):
            found[name] = path
    return found


@cache
def _own(file: str) -> Path | None:
    """Returns the path of a module's file, or None if the module is installed."""
    if _is_installed(os.path.abspath(file)):
        return None
    path = Path(file).resolve()
    path = next((place for place in (path, *path.parents) if place.is_file()), path)  # for a module in a .zip, the .zip
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
    """Returns this package's commit and a patch against the commits of all modules: changes first, then modules that are in no commit."""
    own = _repository(PACKAGE)
    files = {own: list(_imported_sources())} if own else {}
    found = {folder: _repository(folder) for folder in {path.parent for _, path in modules}}  # folders may be submodules
    loose = {}  # modules in no repository, by import path
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
    """Turns `a.b` into a/b.py or a/b/__init__.py, its path below a folder of sys.path."""
    depth = name.count(".") + (2 if path.stem == "__init__" else 1)
    return "/".join(path.parts[-depth:])


def _repository(folder: Path) -> tuple[Path, str] | None:
    """Returns the root and the commit of the checkout that contains a folder. Installed packages inside a checkout do not count as part of
    it.
    """
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
    except (OSError, subprocess.CalledProcessError):  # e.g. a damaged index or a missing filter: the code may differ from the commit
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
    """Returns what git prints, at most MOST_READ bytes."""
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
    """Yields each file as git shows a new one."""
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
    """Keeps the parts of a patch that fit, and the names of the others."""
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
